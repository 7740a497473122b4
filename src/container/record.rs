//! What is remembered of a container: `state.json`.
use super::directory::{STATE_FILE, StateDirectory};
use super::lock::Lock;
use super::status::ProcessIdentity;
use super::{ContainerId, Error, resctrl};
use crate::cgroup;
use oci_spec::runtime::Hooks;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Contents of `state.json`. Whether the container lives is never read from here: the record says
/// which process to ask the kernel about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// `ociVersion` of the config.
    pub(super) oci_version: String,
    pub(super) id: ContainerId,
    /// Absolute.
    pub(super) bundle: PathBuf,
    /// `process.args[0]`, for what `start` says when it cannot be executed.
    pub(super) program: String,
    /// Absolute; of no meaning when the root came as a detached mount.
    pub(super) rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub(super) created: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) phase: Phase,
    /// `None` until the process exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<ProcessIdentity>,
    /// Known before the cgroup exists, so that one can be removed whose maker was killed.
    pub(super) cgroup: cgroup::Record,
    /// Known before the groups exist, as is the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resctrl: Option<resctrl::Record>,
    /// Whether CRIU made the process: it has not executed a program, and runs one all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) restored: bool,
    /// The hooks that commands after `create` run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hooks: Option<Hooks>,
}

/// How far `create` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// `create` is at work, or was ended at it.
    Creating,
    /// `create` has done all it had to do.
    Created,
}

impl Record {
    /// Reads the record; [`Error::NotFound`] when the directory holds none.
    pub(super) fn read(directory: &StateDirectory, id: &ContainerId) -> Result<Self, Error> {
        let text = directory.read_state()?.ok_or_else(|| Error::NotFound(id.to_string()))?;
        serde_json::from_slice(&text)
            .map_err(|source| Error::Record { path: directory.path_of(STATE_FILE), source })
    }

    /// Takes the directory for a new container, with this record.
    pub(super) fn claim<'a>(&self, directory: &'a StateDirectory) -> Result<Lock<'a>, Error> {
        directory.claim(&self.text(directory)?)
    }

    /// Writes the record.
    pub(super) fn write(&self, directory: &StateDirectory) -> Result<(), Error> {
        directory.replace_state(&self.text(directory)?)
    }

    fn text(&self, directory: &StateDirectory) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self)
            .map_err(|source| Error::Record { path: directory.path_of(STATE_FILE), source })
    }
}
