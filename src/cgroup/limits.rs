//! Limits, written to the files of a cgroup.
use super::resources::Write;
use super::{Error, Record, Resources, tree};
use rustix::io::Errno;
use std::path::Path;

/// Writes each to the hierarchy that has its controller.
pub(super) fn write_limits(record: &Record, resources: &Resources) -> Result<(), Error> {
    if let Some(directory) = &record.v2 {
        write_all(directory, &resources.v2.iter().collect::<Vec<_>>())?;
    }
    for (controllers, directory) in &record.v1 {
        let own = |write: &&Write| controllers.iter().any(|name| name == write.controller);
        let writes: Vec<&Write> = resources.v1.iter().filter(own).collect();
        write_all(directory, &writes)?;
    }
    Ok(())
}

/// Some values are bounded by a neighbour's present one: memory by memory and swap, a CPU period by the
/// quota, a burst by it too. What gets EINVAL is tried again after the others.
fn write_all(directory: &Path, writes: &[&Write]) -> Result<(), Error> {
    let mut later = Vec::new();
    for write in writes {
        match write_one(directory, write) {
            Err(Error::File { source, .. }) if source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                later.push(write);
            }
            done => done.map_err(|error| located(error, write))?,
        }
    }
    later.into_iter().try_for_each(|write| write_one(directory, write).map_err(|error| located(error, write)))
}

fn write_one(directory: &Path, write: &Write) -> Result<(), Error> {
    let (file, value) = write.for_directory(directory);
    match tree::write(directory, file, value) {
        Err(Error::File { source, .. })
            if write.optional && source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        done => done,
    }
}

fn located(error: Error, write: &Write) -> Error {
    match error {
        Error::File { source, path, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let reason = format!("write {path}: this kernel does not offer that; remove it from the config");
            Error::config(&write.at, reason)
        }
        Error::File { source, path, .. } => Error::config(&write.at, format!("write {path}: {source}")),
        error => error,
    }
}
