//! What `state` shows of a container, and what hooks read.
use super::record::Record;
use super::status::{ProcessIdentity, pid_inside};
use super::{ContainerId, Error, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The state of a container as JSON: runtime-spec runtime.md#state and the fields that runc adds, in
/// runc's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// `ociVersion` of the config it was made from.
    pub oci_version: String,
    /// Its id.
    pub id: ContainerId,
    /// Host pid of its first process; 0 when that has ended.
    pub pid: i32,
    /// Its status.
    pub status: Status,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339, UTC.
    pub created: String,
    /// The config's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user that owns the state directory; empty where runc leaves it so.
    pub owner: String,
}

impl State {
    pub(super) fn new(record: &Record, status: Status) -> Self {
        let process = record.process.as_ref().filter(|_| status != Status::Stopped);
        let pid = process.and_then(ProcessIdentity::pid).map_or(0, |pid| pid.as_raw_nonzero().get());
        Self {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid,
            status,
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            owner: String::new(),
        }
    }

    /// The same with the pid that the container's own processes know, which is what hooks in its
    /// namespaces are to get (runtime.md#state).
    pub(super) fn seen_inside(self, record: &Record) -> Result<Self, Error> {
        let Some(pid) = record.process.as_ref().and_then(ProcessIdentity::pid) else { return Ok(self) };
        let inside = pid_inside(pid).map_err(|source| {
            let pid = pid.as_raw_nonzero().get();
            Error::Process { action: "read the namespaces of", pid, source }
        })?;
        Ok(Self { pid: inside, ..self })
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and maps with string keys: there is nothing that could fail but paths that
        // are not UTF-8, and those cannot be in the JSON config this was made from.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
