//! `delete`: takes back everything that `create` made.
use super::directory::{CONFIG_FILE, StateDirectory};
use super::foundation::acts_for_a_user;
use super::hooks::{self, Kind, Place};
use super::record::Record;
use super::state::State;
use super::{Container, ContainerId, Error, Status, kill};
use crate::cgroup::{self, Cgroup, CgroupPath, Hierarchies};
use oci_spec::runtime::Spec;
use std::path::Path;

/// Deletes the container, of which the caller may have reaped the first process; returns poststop hooks that failed, which do
/// not stop a deletion (runtime-spec runtime.md#lifecycle, step 13).
pub(super) fn delete(container: &Container, force: bool, is_reaped: bool) -> Result<Vec<Error>, Error> {
    if force {
        // Before the lock: a killed `create` may have left it with the container's own process.
        kill::kill_everything(container)?;
    }
    let lock = container.directory.lock()?;
    if container.directory.is_gone()? {
        return if force { Ok(Vec::new()) } else { Err(Error::NotFound(container.record.id.to_string())) };
    }
    let record = container.current_record()?;
    let status = if is_reaped { Status::Stopped } else { container.status_under_lock()? };
    match status {
        // As with runc, what has only been created may be deleted.
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => return Err(Error::CannotDelete { id: container.record.id.to_string(), status }),
    }
    // Without a pid namespace of its own, processes outlive the first one of a stopped container too.
    if status != Status::Stopped || !container.own_cgroup().delete_if_empty() {
        kill::kill_everything(container)?;
        container.own_cgroup().delete()?;
    }
    if let Some(groups) = &record.resctrl {
        groups.remove()?;
    }
    let failures = match &record.hooks {
        Some(hooks) => {
            let state = State::new(&record, Status::Stopped).to_json();
            hooks::run_all(Some(hooks), Kind::Poststop, &state, Place::Runtime(&record.bundle))
        }
        None => Vec::new(),
    };
    container.directory.remove()?;
    // There is nothing left to lock.
    lock.keep();
    Ok(failures)
}

/// Removes what is there of a container that has no readable record: a killed `create` or `delete` left
/// it, or the record has been damaged. A container that is not there is no error.
pub(super) fn delete_remains(state_root: &Path, id: &ContainerId) -> Result<bool, Error> {
    let directory = match StateDirectory::open(state_root, id) {
        Err(Error::NotFound(_)) => return Ok(true),
        other => other?,
    };
    let _lock = directory.lock()?;
    match Record::read(&directory, id) {
        // A `create` that held the lock has come to its end: this is a container, not remains of one.
        Ok(_) => return Ok(false),
        Err(Error::Record { .. }) => delete_cgroup_of(&directory, id)?,
        Err(Error::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    directory.remove().map(|()| true)
}

/// The cgroup by the config's word, where the record's cannot be read.
fn delete_cgroup_of(directory: &StateDirectory, id: &ContainerId) -> Result<(), Error> {
    let config = directory.read(CONFIG_FILE)?.unwrap_or_default();
    let spec: Option<Spec> = serde_json::from_slice(&config).ok();
    let linux = spec.as_ref().and_then(|spec| spec.linux().as_ref());
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref()).and_then(|path| path.to_str());
    let hierarchies = Hierarchies::detect_for(linux.and_then(|linux| linux.resources().as_ref()))?;
    let plain = CgroupPath::parse(path, id.as_str());
    // Which driver made it, only the record knew.
    let scope = CgroupPath::parse_scope(path, id.as_str(), None, acts_for_a_user());
    let places = match (plain, scope) {
        (Err(error), Err(_)) => return Err(error.into()),
        (plain, scope) => plain.into_iter().chain(scope),
    };
    for place in places {
        let cgroup = Cgroup::from_record(&cgroup::Record::planned(&hierarchies, &place));
        cgroup.kill()?;
        cgroup.delete()?;
    }
    Ok(())
}
