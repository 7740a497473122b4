//! `update`: new limits for a container.
use super::{Container, Error, Status};
use crate::cgroup::Hierarchies;
use oci_spec::runtime::LinuxResources;

pub(super) fn update(container: &Container, resources: &LinuxResources) -> Result<Vec<String>, Error> {
    let _lock = container.directory.lock()?;
    match container.status_under_lock()? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Stopped => return Err(Error::NotRunning(container.record.id.to_string())),
        status => {
            let id = container.record.id.to_string();
            return Err(Error::WrongStatus { action: "update", id, status });
        }
    }
    Ok(container.own_cgroup().update(resources, &Hierarchies::detect()?)?)
}
