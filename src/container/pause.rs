//! `pause` and `resume`: the cgroup freezer.
use super::{Container, Error, Status};
use crate::cgroup::Cgroup;

pub(super) fn pause(container: &Container) -> Result<(), Error> {
    let _lock = container.directory.lock()?;
    match container.status()? {
        Status::Running | Status::Created => Ok(cgroup_of(container, "pause")?.freeze()?),
        status => Err(wrong(container, "pause", status)),
    }
}

pub(super) fn resume(container: &Container) -> Result<(), Error> {
    let _lock = container.directory.lock()?;
    match container.status()? {
        Status::Paused => Ok(cgroup_of(container, "resume")?.thaw()?),
        status => Err(wrong(container, "resume", status)),
    }
}

fn cgroup_of<'a>(container: &'a Container, action: &'static str) -> Result<&'a Cgroup, Error> {
    container.cgroup().ok_or_else(|| wrong(container, action, Status::Creating))
}

fn wrong(container: &Container, action: &'static str, status: Status) -> Error {
    Error::WrongStatus { action, id: container.record.id.to_string(), status }
}
