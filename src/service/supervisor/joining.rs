//! An instance on its way to the bridge, while its container is made.
use crate::network::{self, Attachment, Lease, PublishedPort};
use crate::sandbox::Network;
use crate::service::Error;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd as _;
use std::thread::{self, JoinHandle};

/// Ended by whoever drops it; what it has made until then is there.
#[derive(Debug)]
pub(super) struct Joining(Option<Stage>);

#[derive(Debug)]
enum Stage {
    /// Its rules are being made.
    Begun(Box<Attachment>),
    /// A thread joins a namespace that is there already.
    Beside(JoinHandle<Result<(), network::Error>>),
}

impl Joining {
    /// Begins with what needs no namespace: of the first instance on a bridge, what its output waits for.
    pub(super) fn begin(lease: &Lease, ports: &[PublishedPort]) -> Result<Self, Error> {
        Ok(Self(Some(Stage::Begun(Box::new(network::attach(lease, ports)?)))))
    }

    /// Goes on in a thread, where the namespace is there before the container.
    pub(super) fn beside(mut self, network: Option<&Network>) -> Result<Self, Error> {
        const ACTION: &str = "start a thread that joins the bridge";
        let (attachment, network) = match (self.0.take(), network) {
            (Some(Stage::Begun(attachment)), Some(network)) => (attachment, network),
            (stage, _) => return Ok(Self(stage)),
        };
        let namespace = network.new.try_clone().map_err(Error::system(ACTION))?;
        let join = move || attachment.join(namespace.as_fd());
        let thread =
            thread::Builder::new().name("join".to_owned()).spawn(join).map_err(Error::system(ACTION))?;
        Ok(Self(Some(Stage::Beside(thread))))
    }

    /// Returns when the instance is on the bridge. `pid` is the first process of its container.
    pub(super) fn finish(mut self, pid: i32) -> Result<(), Error> {
        match self.0.take() {
            Some(Stage::Begun(attachment)) => {
                let path = format!("/proc/{pid}/ns/net");
                let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(Error::file("open", path.as_ref()))?;
                Ok(attachment.join(namespace.as_fd())?)
            }
            Some(Stage::Beside(thread)) => {
                Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
            }
            None => Ok(()),
        }
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        if let Some(Stage::Beside(thread)) = self.0.take() {
            let _ = thread.join();
        }
    }
}
