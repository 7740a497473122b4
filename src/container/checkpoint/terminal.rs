//! The container's terminal: its master is held outside, so that an image has the other end alone, and CRIU
//! makes a new pair, whose master goes where that of a new container goes.
use crate::container::Error;
use crate::sandbox;
use rustix::io::Errno;
use rustix::pty::ptsname;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

/// Who gets the master.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) socket: OwnedFd,
    /// For messages.
    pub(super) path: PathBuf,
}

/// A terminal and a way out for it go together.
pub(super) fn check(terminal: bool, has_console: bool) -> Result<(), Error> {
    Ok(sandbox::check_terminal(terminal, has_console)?)
}

/// Sends the master of the container's own terminal. Others were those of processes that `exec` had started;
/// nobody is there to have them, and they hang up when their masters are dropped here.
pub(super) fn hand_over(console: &Console, masters: Vec<OwnedFd>) -> Result<(), Error> {
    let Some(master) = masters.into_iter().min_by_key(index) else {
        return Err(Error::config("process.terminal", "is true, but the saved container had no terminal"));
    };
    let failed = |errno: Errno| Error::Console { path: console.path.clone(), source: errno.into() };
    sandbox::send_master(console.socket.as_fd(), master.as_fd()).map_err(failed)
}

/// The number of a terminal in its devpts. The container's own is the first that was opened there.
fn index(master: &OwnedFd) -> u32 {
    let name = ptsname(master, Vec::new()).ok();
    let number = name.as_ref().and_then(|name| name.to_str().ok()?.rsplit('/').next()?.parse().ok());
    number.unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, openpt};

    #[test]
    fn the_first_of_several_terminals_is_the_containers() {
        let open = || openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("openpt");
        let masters = [open(), open()];
        let [first, second] = masters.each_ref().map(index);
        assert_ne!(first, second);
        assert!(first != u32::MAX && second != u32::MAX);
        let file = std::fs::File::open("/dev/null").expect("open");
        assert_eq!(index(&file.into()), u32::MAX);
    }
}
