//! Where everything is on disk.
//!
//! ```text
//! STATE/instances/NAME/   instance.json   the wish, written once
//!                         config.json     the runtime spec made of image and wish, written once
//!                         state.json      what the supervisor knows
//!                         supervisor.lock held by the supervisor for as long as it lives
//!                         log log.1 …     captured output, newest first
//!                         stdout stderr   FIFOs between the instance and its supervisor
//!                         hosts hostname resolv.conf   bound over the image's
//!                         upper work      the instance's own layer
//! STATE/network/          addresses in use
//! RUNTIME/containers/     state of the OCI lifecycle
//! RUNTIME/control/NAME    the supervisor's socket
//! ```
use super::{Error, InstanceName};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The directories below which wharf keeps everything: `/var/lib/wharf` and `/run/wharf`, or one
/// directory of the user's choice.
#[derive(Debug, Clone)]
pub struct Roots {
    state: PathBuf,
    runtime: PathBuf,
    chosen: bool,
}

impl Roots {
    /// The system's directories, or, with `--root`, `root` and `root/run`.
    ///
    /// # Errors
    /// When a relative path cannot be completed.
    pub fn new(root: Option<&Path>) -> Result<Self, Error> {
        let Some(root) = root else {
            return Ok(Self {
                state: PathBuf::from("/var/lib/wharf"),
                runtime: PathBuf::from("/run/wharf"),
                chosen: false,
            });
        };
        let state = std::path::absolute(root).map_err(Error::file("find directory", root))?;
        Ok(Self { runtime: state.join("run"), state, chosen: true })
    }

    /// The argument that makes a supervisor use the same roots.
    pub(super) fn argument(&self) -> Option<&Path> {
        self.chosen.then_some(self.state.as_path())
    }

    /// What survives a reboot: images, layers, instances, logs.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where leases of addresses are recorded.
    pub fn network(&self) -> PathBuf {
        self.state.join("network")
    }

    /// The state root of the OCI lifecycle.
    pub fn containers(&self) -> PathBuf {
        self.runtime.join("containers")
    }

    pub(super) fn instances(&self) -> PathBuf {
        self.state.join("instances")
    }

    pub(super) fn control(&self) -> PathBuf {
        self.runtime.join("control")
    }

    /// The directory of one instance.
    pub fn instance(&self, name: &InstanceName) -> PathBuf {
        self.instances().join(name.as_str())
    }
}

/// Makes a directory and those above it, mode 0700: nobody else may pass (CVE-2021-41091).
pub(super) fn make_private(path: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(Error::file("create directory", path))
}
