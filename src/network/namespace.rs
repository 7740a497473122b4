//! Acting inside an instance's network namespace, and network settings below /proc/sys/net.
use super::Error;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::thread;

/// Runs `work` in a network namespace, on a thread of its own, so that the caller stays where it is
/// (setns(2) moves a single thread).
pub(super) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                .map_err(|errno| Error::EnterNamespace { source: errno.into() })?;
            work()
        });
        let worker = worker.map_err(|source| Error::EnterNamespace { source })?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A setting below /proc/sys/net, of the calling thread's network namespace (proc_sys(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting(PathBuf);

impl Setting {
    /// `name` is a path below /proc/sys/net.
    pub(super) fn new(name: impl AsRef<Path>) -> Self {
        Self(Path::new("/proc/sys/net").join(name))
    }

    /// One setting of one interface; `family` is `ipv4` or `ipv6`.
    pub(super) fn of_interface(family: &str, interface: &str, name: &str) -> Self {
        Self::new([family, "conf", interface, name].iter().collect::<PathBuf>())
    }

    pub(super) fn read(&self) -> Result<String, Error> {
        let text = fs::read_to_string(&self.0);
        let text = text.map_err(|source| Error::ReadFile { path: self.0.clone(), source })?;
        Ok(text.trim_end().to_owned())
    }

    pub(super) fn write(&self, value: &str) -> Result<(), Error> {
        fs::write(&self.0, value).map_err(|source| Error::Setting {
            path: self.0.clone(),
            value: value.to_owned(),
            source,
        })
    }

    /// Writes a setting that a kernel without its protocol does not have and does not need.
    pub(super) fn write_if_present(&self, value: &str) -> Result<(), Error> {
        match self.write(value) {
            Err(Error::Setting { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written,
        }
    }
}
