//! What the user wants of an instance: written once, when it is created, and never changed.
use super::{InstanceName, RestartPolicy, log::LogLimits};
use crate::network::{Mode, PublishedPort};
use crate::sandbox::IdRange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `instance.json`. With the runtime spec beside it, all that is needed to start the instance: the
/// image store is not asked again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wish {
    /// Unique on the host; the container's id.
    pub id: String,
    /// Unique below one root.
    pub name: InstanceName,
    /// RFC 3339.
    pub created: String,
    /// The image as named.
    pub image: String,
    /// Digest of its manifest.
    pub image_digest: String,
    /// The image's layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Host name inside.
    pub hostname: String,
    /// Limits on what it may use.
    pub limits: Limits,
    /// How it is reached.
    pub network: Mode,
    /// Ports of the host that lead to it.
    pub ports: Vec<PublishedPort>,
    /// Further lines of `/etc/hosts`.
    pub add_hosts: Vec<(String, IpAddr)>,
    /// Name servers in place of the host's.
    pub dns: Vec<IpAddr>,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Signal that asks it to end, a number.
    pub stop_signal: i32,
    /// How long it may take to end before SIGKILL, milliseconds.
    pub stop_timeout_ms: u64,
    /// Whether a reaper of ours is process 1.
    pub init: bool,
    /// Whether it has a terminal in place of pipes.
    pub terminal: bool,
    /// Whether it is removed when it has stopped.
    pub remove: bool,
    /// The user's own labels.
    pub labels: BTreeMap<String, String>,
    /// How much output is kept.
    pub log: LogLimits,
    /// Ids of the host that are its own; `None` when it shares the host's.
    #[serde(default)]
    pub userns: Option<IdRange>,
    /// Where what it writes goes.
    #[serde(default)]
    pub upper: UpperKind,
}

/// Where what an instance writes goes, `--upper`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpperKind {
    /// A directory of the instance, kept until it is removed.
    #[default]
    Disk,
    /// Memory, gone when it stops.
    Memory {
        /// The most it holds, bytes.
        size_bytes: Option<u64>,
    },
}

impl Wish {
    /// How long it may take to end before SIGKILL.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_millis(self.stop_timeout_ms)
    }

    /// Host id of root inside.
    pub(super) fn root_id(&self) -> u32 {
        self.userns.map_or(0, IdRange::root)
    }

    /// Host id of an id inside; itself where there is none.
    pub(super) fn host_id(&self, inside: u32) -> u32 {
        self.userns.and_then(|range| range.to_host(inside)).unwrap_or(inside)
    }
}

/// Limits on what an instance may use; `None` is no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together, bytes.
    pub memory_swap_bytes: Option<u64>,
    /// Memory that is reclaimed last, bytes.
    pub memory_reservation_bytes: Option<u64>,
    /// CPU time, thousandths of one CPU.
    pub cpu_millis: Option<u64>,
    /// Share of the CPU against others when it is scarce; 1024 is the default weight.
    pub cpu_shares: Option<u64>,
    /// CPUs it may run on, such as `0-1,3`.
    pub cpuset_cpus: Option<String>,
    /// Processes and threads.
    pub pids: Option<u32>,
}
