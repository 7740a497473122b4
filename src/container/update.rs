//! `update`: new limits for a container.
use super::resctrl::Former;
use super::{Container, Error, Status};
use crate::cgroup::Hierarchies;
use oci_spec::runtime::{LinuxIntelRdt, LinuxResources};

pub(super) fn update(
    container: &Container,
    resources: &LinuxResources,
    rdt: Option<&LinuxIntelRdt>,
) -> Result<Vec<String>, Error> {
    let _lock = container.directory.lock()?;
    match container.status_under_lock()? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Stopped => return Err(Error::NotRunning(container.record.id.to_string())),
        status => {
            let id = container.record.id.to_string();
            return Err(Error::WrongStatus { action: "update", id, status });
        }
    }
    let hierarchies = Hierarchies::detect()?;
    let former = rdt.map(|rdt| update_class(container, rdt).map_err(of_update)).transpose()?;
    let updated = container.own_cgroup().update(resources, &hierarchies);
    if updated.is_err() {
        former.as_ref().into_iter().for_each(Former::put_back);
    }
    Ok(updated?)
}

/// New schemata for the container's class of service.
fn update_class(container: &Container, rdt: &LinuxIntelRdt) -> Result<Former, Error> {
    let record = container.current_record()?;
    let Some(groups) = &record.resctrl else {
        let reason = "the container was made without it and has no class of service; make it again with it";
        return Err(Error::config("linux.intelRdt", reason));
    };
    groups.update(rdt)
}

/// What is refused is in no config.json.
fn of_update(error: Error) -> Error {
    match error {
        Error::Config { path, reason, .. } => Error::Config { file: "update".to_owned(), path, reason },
        error => error,
    }
}
