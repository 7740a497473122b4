//! What a store remembers of its network: the subnet, the leases and the ports asked for, in one file.
//!
//! What exists right now (links, rules) is asked from the kernel, never remembered, so that the record
//! cannot contradict it after a crash or a reboot.
use super::subnet::Subnet;
use super::{Error, PublishedPort};
use crate::sys::command::hold_in_exec;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

const RECORD: &str = "state.json";
const LOCK: &str = "lock";
/// Serialises the stores of one host where they touch the same thing.
const HOST_LOCK: &str = "/run/wharf/network.lock";

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The bridge's subnet, once chosen.
    pub(super) subnet: Option<Subnet>,
    /// The address given last, where the search for the next one starts.
    pub(super) last: Option<Ipv4Addr>,
    /// By name of the instance.
    pub(super) leases: BTreeMap<String, Leased>,
}

/// What one instance has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leased {
    pub(super) address: Ipv4Addr,
    /// Ports of its latest attach. They are published only while its veth pair exists.
    #[serde(default)]
    pub(super) ports: Vec<PublishedPort>,
}

/// An exclusive flock(2) for as long as this value lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Closing would leave it with processes that were made meanwhile.
    fn drop(&mut self) {
        // Unlocking a valid descriptor does not fail.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Has a program hold the lock too, until it ends.
    pub(super) fn share_with(&self, program: &mut Command) -> io::Result<()> {
        hold_in_exec(program, self.file.try_clone()?.into());
        Ok(())
    }
}

/// A store's record, locked.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    pub(super) record: Record,
    _lock: Lock,
}

impl Store {
    /// Makes the directory when it is missing, waits for the lock and reads the record.
    pub(super) fn open(state: &Path) -> Result<Self, Error> {
        make_private(state)?;
        // Names are derived from the path; two spellings of one directory must not give two bridges.
        let directory = fs::canonicalize(state).map_err(read_failed(state))?;
        let lock = lock(&directory.join(LOCK))?;
        let record = load(&directory.join(RECORD))?;
        Ok(Self { directory, record, _lock: lock })
    }

    /// The same for a store that may be gone with its root already: then `None`, and nothing is made.
    pub(super) fn open_existing(state: &Path) -> Result<Option<Self>, Error> {
        if state.try_exists().map_err(read_failed(state))? { Self::open(state).map(Some) } else { Ok(None) }
    }

    /// The directory, as the kernel spells it.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes the record: a reader sees the old one or the new one.
    pub(super) fn save(&self) -> Result<(), Error> {
        let path = self.directory.join(RECORD);
        let mut text = serde_json::to_vec(&self.record)
            .map_err(|source| Error::Record { path: path.clone(), source })?;
        text.push(b'\n');
        let partial = self.directory.join("state.json.new");
        let written = fs::write(&partial, &text).and_then(|()| fs::rename(&partial, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&partial);
            Error::WriteFile { path, source }
        })
    }
}

/// Waits for the lock that all stores of this host share.
pub(super) fn lock_host() -> Result<Lock, Error> {
    let path = Path::new(HOST_LOCK);
    if let Some(directory) = path.parent() {
        make_private(directory)?;
    }
    lock(path)
}

/// Makes a directory, and those above it, that only its owner may enter.
fn make_private(directory: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(write_failed(directory))
}

fn lock(path: &Path) -> Result<Lock, Error> {
    // flock(2) asks for no permission but to open the file; nobody else shall hold us up.
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(write_failed(path))?;
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
        .map_err(|errno| Error::Lock { path: path.to_owned(), source: errno.into() })?;
    Ok(Lock { file })
}

fn load(path: &Path) -> Result<Record, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        read => read.map_err(read_failed(path))?,
    };
    // The record is not synced, an instance's start is worth more; some file systems leave a file of
    // no bytes after the power fails, and no instance outlives that.
    if bytes.is_empty() {
        return Ok(Record::default());
    }
    serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: path.to_owned(), source })
}

fn read_failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    |source| Error::ReadFile { path: path.to_owned(), source }
}

fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    |source| Error::WriteFile { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_record_is_read_again() {
        let scratch = tempfile::tempdir().expect("scratch");
        let state = scratch.path().join("network");
        let mut store = Store::open(&state).expect("open");
        let ports = vec!["8080:80".parse().expect("port")];
        store.record.subnet = Some(Subnet::new(Ipv4Addr::new(10, 208, 0, 0), 20));
        store.record.leases.insert("web".to_owned(), Leased { address: Ipv4Addr::new(10, 208, 0, 2), ports });
        store.save().expect("save");
        let saved = store.record.clone();
        drop(store);
        assert_eq!(Store::open(&state).expect("open again").record, saved);
    }

    #[test]
    fn a_record_emptied_by_a_power_failure_is_a_new_one() {
        let scratch = tempfile::tempdir().expect("scratch");
        fs::write(scratch.path().join(RECORD), "").expect("write");
        assert_eq!(Store::open(scratch.path()).expect("open").record, Record::default());
    }

    #[test]
    fn a_damaged_record_is_named() {
        let scratch = tempfile::tempdir().expect("scratch");
        fs::write(scratch.path().join(RECORD), "{\"leases\":3}").expect("write");
        let error = Store::open(scratch.path()).expect_err("damaged").to_string();
        assert!(error.contains("state.json"), "{error}");
    }

    #[test]
    fn a_store_that_is_gone_is_not_made_again() {
        let scratch = tempfile::tempdir().expect("scratch");
        let state = scratch.path().join("network");
        assert!(Store::open_existing(&state).expect("look").is_none());
        assert!(!state.exists());
    }
}
