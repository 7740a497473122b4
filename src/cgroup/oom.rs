//! OOM kills, counted and announced.
use super::stats::field;
use super::{Cgroup, Error, tree};
use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags, inotify};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// v1: a line `oom_kill N` among others.
const V1_EVENTS: &str = "memory.oom_control";
/// v2: the same line.
const V2_EVENTS: &str = "memory.events";

/// Tells of OOM kills through a descriptor for `poll(2)`: readable after the memory events of the group
/// changed, and after the group was removed.
///
/// On v1 the kernel announces the OOM condition just before the kill, so the count may rise a moment after
/// the announcement: read it again when a process has ended.
#[derive(Debug)]
pub struct OomWatch {
    notifier: OwnedFd,
    directory: PathBuf,
    file: &'static str,
}

impl Cgroup {
    /// Begins to watch for OOM kills in the group and below.
    ///
    /// # Errors
    /// Names the file; `memory.events` (v2) or `memory.oom_control` (v1) is absent without the memory
    /// controller.
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        let (directory, file) = self.oom_events().ok_or_else(|| Error::NoController {
            path: "linux.resources.memory".to_owned(),
            controller: "memory",
            place: "the cgroup".to_owned(),
            hint: "OOM kills can only be told where it is enabled",
        })?;
        let notifier = match file {
            V1_EVENTS => watch_v1(directory)?,
            _ => watch_v2(directory)?,
        };
        Ok(OomWatch { notifier, directory: directory.to_owned(), file })
    }

    /// Processes killed by the OOM killer in this group so far.
    ///
    /// # Errors
    /// Names the file.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        self.oom_events()
            .map_or(Ok(0), |(directory, file)| Ok(field(&tree::read(directory, file)?, "oom_kill")))
    }

    /// The file that counts OOM kills, where the memory controller is.
    fn oom_events(&self) -> Option<(&Path, &'static str)> {
        match self.v1_with("memory") {
            Some(directory) => Some((directory, V1_EVENTS)),
            None => self.v2_with(V2_EVENTS).map(|directory| (directory, V2_EVENTS)),
        }
    }
}

impl OomWatch {
    /// Takes the announcements off the descriptor, so that poll waits for the next, and returns how many
    /// processes the OOM killer has killed in the group so far; 0 when the group is gone.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(&self) -> Result<u64, Error> {
        let mut announcements = [0; 4096];
        // Nothing to read is the usual case of a caller who only wants the count.
        while rustix::io::read(&self.notifier, &mut announcements).is_ok_and(|count| count > 0) {}
        match tree::read(&self.directory, self.file) {
            Ok(content) => Ok(field(&content, "oom_kill")),
            Err(Error::File { source, .. }) if is_gone(&source) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// `inotify(7)` on memory.events, which the kernel modifies at every event; see cgroup-v2.rst "Memory".
fn watch_v2(directory: &Path) -> Result<OwnedFd, Error> {
    let events = directory.join(V2_EVENTS);
    let watch = || {
        let notifier = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&notifier, &events, inotify::WatchFlags::MODIFY)?;
        Ok(notifier)
    };
    watch().map_err(|errno: rustix::io::Errno| Error::file("watch", &events)(errno.into()))
}

/// An eventfd registered for memory.oom_control; see cgroup-v1/memory.rst "OOM Control".
fn watch_v1(directory: &Path) -> Result<OwnedFd, Error> {
    let control = directory.join(V1_EVENTS);
    let fail = |errno: rustix::io::Errno| Error::file("watch", &control)(errno.into());
    let notifier = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(fail)?;
    let watched =
        rustix::fs::open(&control, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let registration = format!("{} {}", notifier.as_raw_fd(), watched.as_raw_fd());
    tree::write(directory, "cgroup.event_control", &registration)?;
    Ok(notifier)
}
