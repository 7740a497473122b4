//! Who the process becomes: user, groups and capabilities.
//!
//! The functions on [`Identity`] run between clone and execve; they neither allocate nor lock.
use super::capabilities::CapabilityMasks;
use rustix::fs::Stat;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use std::os::fd::BorrowedFd;

/// `process.user` and the capability sets, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Exactly the supplementary groups asked for (CVE-2022-2989).
    pub(super) groups: Vec<Gid>,
    pub(super) capabilities: CapabilityMasks,
    /// The process has these user and group ids from its birth.
    pub(super) is_born_so: bool,
    /// A seccomp filter will be installed without no_new_privs, which needs CAP_SYS_ADMIN until then.
    pub(super) keep_effective: bool,
}

impl Identity {
    /// Changes groups, gid and uid and drops the bounding set. The permitted set survives until
    /// [`Identity::finish`], because later steps need it.
    pub(super) fn assume(&self) -> Result<(), Errno> {
        self.capabilities.drop_bounding()?;
        if self.uid != 0 {
            rustix::thread::set_keep_capabilities(true)?;
        }
        match rustix::thread::set_thread_groups(&self.groups) {
            // A user namespace made without privilege forbids setgroups(2); it starts with no groups.
            Err(Errno::PERM) if self.groups.is_empty() => {}
            done => done?,
        }
        if !self.is_born_so {
            let gid = Gid::from_raw(self.gid);
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            let uid = Uid::from_raw(self.uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        if self.keep_effective { self.capabilities.raise_effective() } else { Ok(()) }
    }

    /// Sets the final capability sets.
    pub(super) fn finish(&self) -> Result<(), Errno> {
        self.capabilities.apply()
    }
}

/// Lets the user reopen its standard streams, `/dev/stdout` for example, when they belong to somebody
/// else. /dev/null is everybody's, and a stream on a file system that refuses stays as it is.
pub(super) fn own_stream(stream: BorrowedFd<'_>, stat: &Stat, owner: u32) -> Result<(), Errno> {
    if stat.st_uid == owner {
        return Ok(());
    }
    match rustix::fs::fchown(stream, Some(Uid::from_raw(owner)), None) {
        Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
        done => done,
    }
}
