//! A runtime spec is compiled into a [`Plan`] before any process exists; one `clone3` later the child
//! executes the Plan as a straight run of system calls, without allocation and without decisions,
//! until `execve`.
//!
//! ```text
//! parent                                    child
//! network_ahead(spec) ── thread ── makes the network namespace meanwhile
//! Plan::compile(spec, inputs)
//! spawn(&plan) ── clone3 ─────────────────▶ waits until the parent has mapped ids and joined cgroups
//! maps ids, joins v1 cgroups ── go ───────▶ runs plan.steps in order
//!                                           (create: waits on the start socket)
//! reads the report pipe  ◀── (step, errno) ─ or end of file at execve
//! ```

mod caller;
mod capabilities;
mod clone;
mod console;
pub mod default_spec;
mod deputy;
mod devices;
mod execute;
mod home;
mod id_range;
mod identity;
mod inputs;
mod list_format;
mod memory_policy;
mod mounts;
mod namespaces;
mod net_devices;
mod newidmap;
mod personality;
mod plan;
mod process;
mod program;
mod report;
mod rlimits;
mod scheduling;
pub mod seccomp;
mod security_label;
mod spawn;
mod start;
mod step;
mod sysctl;
mod target;
mod user_namespace;
mod view;

pub use crate::sys::network_ahead::{Network, NetworkAhead};
pub use caller::Caller;
pub use capabilities::Error as CapabilityError;
pub use console::send_master;
pub use id_range::{IdRange, InvalidRange};
pub use inputs::{ExecInputs, Inputs, Rootfs, Start, Stdio};
pub use mounts::KNOWN as MOUNT_OPTIONS;
pub use namespaces::network_ahead;
pub use plan::{Error, Plan};
pub use process::check_terminal;
pub use spawn::{Init, Rest, SpawnError, begin, spawn};
pub use start::{failure_so_far, release, start};

#[cfg(test)]
mod tests;
