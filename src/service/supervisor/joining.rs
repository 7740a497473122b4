//! An instance on its way to the bridge, while its container is made.
use crate::network::{self, Lease, PublishedPort};
use crate::sandbox::Network;
use crate::service::Error;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd as _;
use std::thread::{self, JoinHandle};

/// Ended by whoever drops it; what it has made until then is there.
#[derive(Debug)]
pub(super) struct Joining<'a>(Option<Stage<'a>>);

#[derive(Debug)]
enum Stage<'a> {
    /// A thread joins a namespace that is there already.
    Beside(JoinHandle<Result<(), network::Error>>),
    /// The namespace comes with the container.
    After(&'a Lease, &'a [PublishedPort]),
}

impl<'a> Joining<'a> {
    /// Begins at once where the namespace is there.
    pub(super) fn begin(
        lease: &'a Lease,
        ports: &'a [PublishedPort],
        network: Option<&Network>,
    ) -> Result<Self, Error> {
        let Some(network) = network else { return Ok(Self(Some(Stage::After(lease, ports)))) };
        const ACTION: &str = "start a thread that joins the bridge";
        let namespace = network.new.try_clone().map_err(Error::system(ACTION))?;
        let attachment = network::attach(lease, ports)?;
        let join = move || attachment.join(namespace.as_fd());
        let thread =
            thread::Builder::new().name("join".to_owned()).spawn(join).map_err(Error::system(ACTION))?;
        Ok(Self(Some(Stage::Beside(thread))))
    }

    /// Returns when the instance is on the bridge. `pid` is the first process of its container.
    pub(super) fn finish(mut self, pid: i32) -> Result<(), Error> {
        match self.0.take() {
            Some(Stage::After(lease, ports)) => {
                let path = format!("/proc/{pid}/ns/net");
                let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(Error::file("open", path.as_ref()))?;
                Ok(network::attach(lease, ports)?.join(namespace.as_fd())?)
            }
            Some(Stage::Beside(thread)) => {
                Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
            }
            None => Ok(()),
        }
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if let Some(Stage::Beside(thread)) = self.0.take() {
            let _ = thread.join();
        }
    }
}
