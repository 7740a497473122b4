//! Keeps containers from changing the runtime's own executable (CVE-2019-5736).
//!
//! A container can reach the file behind a runtime's process through `/proc/PID/exe`: with an entry point
//! `#!/proc/self/exe`, or from another process while the runtime joins the container. Before any process
//! of a container is made, the runtime therefore runs from a detached read-only clone of the mount that its file is on,
//! through which nobody can open the file for writing, whatever their capabilities: `wharf-oci` goes over to it as it begins
//! ([`crate::sys::entry`]), another program executes itself again. Where the kernel refuses that, a sealed copy in memory serves.
//!
//! Whether it has been done is read off `/proc/self/exe` itself: an environment variable could be forged
//! by whoever calls us.
use super::Error;
use crate::sys::{exec, itself};
use rustix::fs::{self, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

const OWN_EXECUTABLE: &CStr = c"/proc/self/exe";

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Returns at once when the running executable cannot be written through `/proc/PID/exe`; otherwise
/// executes it again with the same arguments and environment, so that it cannot.
///
/// Call it before descriptors are opened or output is written: the program starts anew.
///
/// # Errors
/// When neither a read-only mount nor a sealed copy can be made.
pub fn ensure() -> Result<(), Error> {
    if itself::is_from_read_only_mount()
        .map_err(|errno| failed("look at /proc/self/exe (is /proc mounted?)", errno))?
    {
        return Ok(());
    }
    let own = fs::open(OWN_EXECUTABLE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = own.map_err(|errno| failed("open it", errno))?;
    if is_sealed_copy(&own) {
        return Ok(());
    }
    let sealed = match itself::read_only_clone() {
        Ok(clone) => clone,
        Err(_) => sealed_copy(own).map_err(|source| Error::Seal { action: "copy it", source })?,
    };
    Err(failed("execute it", exec::execute_again(sealed)))
}

fn failed(action: &'static str, errno: Errno) -> Error {
    Error::Seal { action, source: errno.into() }
}

fn is_sealed_copy(executable: &OwnedFd) -> bool {
    // EINVAL is the answer for every file that is not in memory.
    fs::fcntl_get_seals(executable).is_ok_and(|seals| seals.contains(SEALS))
}

fn sealed_copy(own: OwnedFd) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::EXEC;
    let memory = match fs::memfd_create(c"wharf", flags) {
        // Kernels before 6.3 do not know MFD_EXEC, and make every such file executable.
        Err(Errno::INVAL) => fs::memfd_create(c"wharf", flags.difference(MemfdFlags::EXEC))?,
        other => other?,
    };
    let mut memory = File::from(memory);
    io::copy(&mut File::from(own), &mut memory)?;
    fs::fcntl_add_seals(&memory, SEALS)?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            eprintln!("skipped: needs root");
        }
        root
    }

    fn is_read_only(file: &OwnedFd) -> bool {
        fs::fstatvfs(file).expect("statvfs").f_flag.contains(fs::StatVfsMountFlags::RDONLY)
    }

    #[test]
    fn the_test_program_itself_is_not_sealed() {
        let own = fs::open(OWN_EXECUTABLE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("open");
        assert!(!is_sealed_copy(&own));
        assert!(!is_read_only(&own));
    }

    #[test]
    fn a_read_only_clone_counts_as_sealed_and_cannot_be_written() {
        if !is_root() {
            return;
        }
        let clone = itself::read_only_clone().expect("open_tree");
        assert!(is_read_only(&clone));
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&clone));
        let opened = fs::open(path, OFlags::WRONLY, Mode::empty());
        assert!(matches!(opened, Err(Errno::ROFS | Errno::TXTBSY)), "{opened:?}");
    }

    #[test]
    fn a_sealed_copy_counts_as_sealed_and_cannot_be_written() {
        let own = fs::open(OWN_EXECUTABLE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("open");
        let copy = sealed_copy(own).expect("memfd");
        assert!(is_sealed_copy(&copy));
        assert_eq!(rustix::io::write(&copy, b"x"), Err(Errno::PERM));
    }
}
