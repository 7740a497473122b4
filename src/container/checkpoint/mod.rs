//! Checkpoint and restore of a running container by CRIU, a program of the host (criu(8)).
//!
//! | file of the image directory | holds |
//! |---|---|
//! | `*.img` | what CRIU saved |
//! | `descriptors.json` | what the standard streams were, so that restore can put others in their place |
//!
//! What came from the host is not in the image and is given again at restore, by the bundle's config:
//! bind mounts, covers of masked files, namespaces joined by path, and the standard streams.
//!
//! criu is asked over its own protocol rather than by options, for only there it stops at the moments that
//! hooks belong to and hands over terminals (docs/decisions/008-criu-rpc.md).
mod criu;
mod dump;
mod external;
mod log;
mod protobuf;
mod restore;
mod rpc;
mod streams;
mod terminal;
mod worker;

pub use dump::{DumpOptions, PageServer};
pub use restore::RestoreOptions;

pub(super) use dump::checkpoint;
pub(super) use restore::restore;

use super::Error;
use crate::sandbox::Caller;
use oci_spec::runtime::{Process, Spec};
use std::path::PathBuf;

/// What `checkpoint` and `restore` have in common; each becomes CRIU's option of the same meaning, see criu(8).
#[derive(Debug, Clone, Default)]
pub struct CriuOptions {
    /// Directory of the image.
    pub image_path: PathBuf,
    /// Directory of CRIU's log and statistics, in place of the image's.
    pub work_path: Option<PathBuf>,
    /// Save and restore established TCP connections.
    pub tcp_established: bool,
    /// Allow Unix sockets whose other end is outside.
    pub ext_unix_sk: bool,
    /// Allow a session or terminal that began outside.
    pub shell_job: bool,
    /// Save and restore file locks.
    pub file_locks: bool,
    /// How cgroups are treated; `soft` when not given.
    pub manage_cgroups: Option<CgroupsMode>,
    /// Make the network namespace without what was in it.
    pub empty_network: bool,
    /// Drop what the next image of a series replaces.
    pub auto_dedup: bool,
    /// Move memory when it is asked for.
    pub lazy_pages: bool,
}

/// CRIU reads and makes what only root of the host may: other processes' memory and pids, for one.
fn must_be_host_root(action: &'static str) -> Result<(), Error> {
    if Caller::of_this_process().is_host_root() {
        return Ok(());
    }
    let reason = "checkpoint and restore need root of the host".to_owned();
    Err(Error::Criu { action, reason })
}

/// How CRIU treats cgroups below the container's own, see `--manage-cgroups` of criu(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Make what is missing, with its properties.
    Soft,
    /// Make what is missing and set the properties of all.
    Full,
    /// Everything must be missing.
    Strict,
    /// Leave cgroups alone.
    Ignore,
}

fn has_terminal(spec: &Spec) -> bool {
    spec.process().as_ref().and_then(Process::terminal).unwrap_or(false)
}
