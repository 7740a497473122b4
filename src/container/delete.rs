//! `delete`: takes back everything that `create` made.
use super::directory::StateDirectory;
use super::hooks::{self, Kind};
use super::record::Record;
use super::state::State;
use super::{Container, ContainerId, Error, Status, kill};
use std::path::Path;

/// Deletes the container; returns poststop hooks that failed, which do not stop a deletion
/// (runtime-spec runtime.md#lifecycle, step 13).
pub(super) fn delete(container: &Container, force: bool) -> Result<Vec<Error>, Error> {
    if force {
        // Before the lock: a killed `create` may have left it with the container's own process.
        kill::kill_everything(container)?;
    }
    let lock = container.directory.lock()?;
    let record = container.current_record()?;
    match container.status_under_lock()? {
        // As with runc, what has only been created may be deleted.
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => return Err(Error::CannotDelete { id: container.record.id.to_string(), status }),
    }
    // A stopped container too: without a pid namespace of its own, processes outlive the first one.
    kill::kill_everything(container)?;
    container.own_cgroup().delete()?;
    let state = State::new(&record, Status::Stopped).to_json();
    let failures = hooks::run_all(record.hooks.as_ref(), Kind::Poststop, &state, &record.bundle);
    container.directory.remove()?;
    drop(lock);
    Ok(failures)
}

/// Removes the directory of a container that has no readable record, which a killed `create` or
/// `delete` left; a container that is not there is no error.
pub(super) fn delete_remains(state_root: &Path, id: &ContainerId) -> Result<(), Error> {
    let directory = match StateDirectory::open(state_root, id) {
        Err(Error::NotFound(_)) => return Ok(()),
        other => other?,
    };
    let _lock = directory.lock()?;
    match Record::read(&directory, id) {
        // A `create` that held the lock has come to its end: this is a container, not remains of one.
        Ok(_) => Err(Error::Busy(id.to_string())),
        Err(Error::NotFound(_) | Error::Record { .. }) => directory.remove(),
        Err(error) => Err(error),
    }
}
