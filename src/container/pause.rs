//! `pause` and `resume`: the cgroup freezer.
use super::{Container, Error, Status};

pub(super) fn pause(container: &Container) -> Result<(), Error> {
    let _lock = container.directory.lock()?;
    match container.status()? {
        Status::Running | Status::Created => Ok(container.own_cgroup().freeze()?),
        status => Err(wrong(container, "pause", status)),
    }
}

pub(super) fn resume(container: &Container) -> Result<(), Error> {
    let _lock = container.directory.lock()?;
    match container.status()? {
        Status::Paused => Ok(container.own_cgroup().thaw()?),
        status => Err(wrong(container, "resume", status)),
    }
}

fn wrong(container: &Container, action: &'static str, status: Status) -> Error {
    Error::WrongStatus { action, id: container.record.id.to_string(), status }
}
