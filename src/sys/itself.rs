//! The running program's own file, run from a mount that nobody can write it by.
//!
//! What is here is called before the C library is ready, so it has neither thread-local storage nor anything
//! that the C library chooses by the processor, such as `memcpy`: it makes bare system calls, by the registers
//! alone, and copies nothing.
use super::in_place::{self, Start};
use super::mount::{MountAttr, SYS_OPEN_TREE_ATTR};
use rustix::io::Errno;
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use syscalls::raw::{syscall2, syscall3, syscall5};

const OWN_EXECUTABLE: &CStr = c"/proc/self/exe";

static READ_ONLY: MountAttr =
    MountAttr { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };

/// Remembers a yes: what a program was executed from stays so.
static FROM_READ_ONLY_MOUNT: AtomicBool = AtomicBool::new(false);

/// Whether the program has been executed from a mount that is read-only, so that `/proc/self/exe` cannot be
/// opened for writing through it.
///
/// # Errors
/// The kernel's, see `statfs(2)`: there is no procfs.
pub fn is_from_read_only_mount() -> Result<bool, Errno> {
    if FROM_READ_ONLY_MOUNT.load(Ordering::Relaxed) {
        return Ok(true);
    }
    let mut found = MaybeUninit::<libc::statfs64>::uninit();
    // SAFETY: the path is null-terminated, and there is room for the structure that the kernel writes.
    let result = unsafe {
        syscall2(libc::SYS_statfs as usize, OWN_EXECUTABLE.as_ptr() as usize, found.as_mut_ptr() as usize)
    };
    checked(result)?;
    // SAFETY: statfs(2) has succeeded, so all of the structure is written; the field lies within it.
    let flags = unsafe { (&raw const (*found.as_ptr()).f_flags).read() };
    // Signed or not, as the C library has it.
    #[allow(clippy::unnecessary_cast)]
    let is_read_only = flags as u64 & libc::ST_RDONLY != 0;
    FROM_READ_ONLY_MOUNT.store(is_read_only, Ordering::Relaxed);
    Ok(is_read_only)
}

/// Whether the mount that the program's file is on is read-only, as far as one quick look tells: there is nothing to do
/// then. A user who may not write the file hears no.
pub(super) fn is_on_read_only_mount() -> bool {
    let (at, path) = (libc::AT_FDCWD as isize as usize, OWN_EXECUTABLE.as_ptr() as usize);
    // SAFETY: the path is null-terminated.
    let result = unsafe { syscall3(libc::SYS_faccessat as usize, at, path, libc::W_OK as usize) };
    let is_read_only = checked(result) == Err(Errno::ROFS);
    if is_read_only {
        FROM_READ_ONLY_MOUNT.store(true, Ordering::Relaxed);
    }
    is_read_only
}

/// Goes on from a [read-only clone](read_only_clone) of the program's file, [in place](in_place::move_to) where that can be, or
/// else from the start. Returns without having done anything where neither can be.
///
/// # Safety
/// As for [`in_place::move_to`].
pub(super) unsafe fn move_to(clone: OwnedFd, start: &Start) {
    // Dropping it would call the C library.
    let clone = clone.into_raw_fd();
    if let Ok(file) = open_to_read(clone) {
        // SAFETY: by the caller's word.
        let moved = unsafe { in_place::move_to(file, start) }.is_ok();
        // Most often they are neighbours.
        close(if moved && file == clone + 1 { clone } else { file }, file);
        if moved {
            if file != clone + 1 {
                close(clone, clone);
            }
            FROM_READ_ONLY_MOUNT.store(true, Ordering::Relaxed);
            return;
        }
    }
    // SAFETY: the descriptor is the clone's, and the arrays are the kernel's.
    let _ = unsafe { execute(OwnedFd::from_raw_fd(clone), start.arguments(), start.environment()) };
}

/// Opens what a descriptor of `open_tree(2)` only points to; close-on-exec.
fn open_to_read(pointer: RawFd) -> Result<RawFd, Errno> {
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
    let (mut next, mut scale) = (b"/proc/self/fd/".len(), 1);
    while pointer / scale > 9 {
        scale *= 10;
    }
    while scale > 0 {
        path[next] = b'0' + (pointer / scale % 10) as u8;
        (next, scale) = (next + 1, scale / 10);
    }
    let (at, path) = (libc::AT_FDCWD as isize as usize, path.as_ptr() as usize);
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    // SAFETY: the path is null-terminated.
    checked(unsafe { syscall3(libc::SYS_openat as usize, at, path, flags) }).map(|fd| fd as RawFd)
}

/// Closes descriptors that only the caller knows of.
pub(super) fn close(first: RawFd, last: RawFd) {
    // SAFETY: the callers have opened these descriptors, and use them no more.
    unsafe { syscall3(libc::SYS_close_range as usize, first as usize, last as usize, 0) };
}

/// A detached read-only clone of the mount that the program's file is on, at that file; close-on-exec.
///
/// # Errors
/// The kernel's, see `open_tree(2)` and `mount_setattr(2)`.
pub fn read_only_clone() -> Result<OwnedFd, Errno> {
    let at = libc::AT_FDCWD as isize as usize;
    let path = OWN_EXECUTABLE.as_ptr() as usize;
    let flags = (libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC) as usize;
    let (attr, size) = ((&raw const READ_ONLY) as usize, size_of::<MountAttr>());
    // SAFETY: path and attributes are static, and the size of the latter is passed with them.
    let tree = checked(unsafe { syscall5(SYS_OPEN_TREE_ATTR as usize, at, path, flags, attr, size) });
    if tree != Err(Errno::NOSYS) {
        // SAFETY: the kernel has made this descriptor, and nothing else knows of it.
        return tree.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) });
    }
    // SAFETY: the path is static.
    let tree = checked(unsafe { syscall3(libc::SYS_open_tree as usize, at, path, flags) })?;
    let empty = c"".as_ptr() as usize;
    let of_itself = libc::AT_EMPTY_PATH as usize;
    // SAFETY: path and attributes are static, and the size of the latter is passed with them.
    checked(unsafe { syscall5(libc::SYS_mount_setattr as usize, tree, empty, of_itself, attr, size) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(tree as i32) })
}

/// Executes an open file with arguments and environment as the kernel has given them: each array ends in a null
/// pointer. Returns only why it could not.
///
/// # Safety
/// Both arrays and all that they point to are null-terminated.
pub(super) unsafe fn execute(
    file: OwnedFd,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Errno {
    // Dropping it would call the C library.
    let (file, empty) = (file.into_raw_fd() as usize, c"".as_ptr() as usize);
    let of_itself = libc::AT_EMPTY_PATH as usize;
    // SAFETY: the caller vouches for the arrays; the path is static.
    let result = unsafe {
        syscall5(
            libc::SYS_execveat as usize,
            file,
            empty,
            arguments as usize,
            environment as usize,
            of_itself,
        )
    };
    checked(result).err().unwrap_or(Errno::INVAL)
}

/// What the kernel returns, told from the errors among it: `syscalls(2)`.
pub(super) fn checked(result: usize) -> Result<usize, Errno> {
    match result as isize {
        error @ -4095..=-1 => Err(Errno::from_raw_os_error(-error as i32)),
        _ => Ok(result),
    }
}
