//! Limits, statistics, freezer and OOM events of a control group: cgroup v2 first, with v1 and
//! hybrid hosts behind the same few operations.
//!
//! [`Hierarchies`] tells where each controller of this host lives. [`Resources`] compiles a runtime
//! spec's limits into plain writes for those places, so that whatever the host cannot honour is an
//! error before anything exists. [`Cgroup`] makes the directories, writes, and removes them; where the
//! [`CgroupPath`] is that of a scope, systemd makes and removes it.

mod below;
mod delegation;
mod details;
mod entrance;
mod error;
mod freezer;
mod group;
mod hierarchies;
mod inside;
mod limits;
mod oom;
mod path;
mod resources;
mod stats;
mod systemd;
mod tree;
mod update;

pub use below::Below;
pub use details::{Bounded, Details, DeviceCount, Pressure, Stall};
pub use entrance::Entrance;
pub use error::Error;
pub use group::{Cgroup, Record};
pub use hierarchies::Hierarchies;
pub use inside::InsideMount;
pub use oom::OomWatch;
pub use path::CgroupPath;
pub use resources::Resources;
pub use stats::Stats;
pub use systemd::Error as SystemdError;

#[cfg(test)]
mod tests;
