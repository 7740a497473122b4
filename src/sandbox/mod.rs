//! A runtime spec is compiled into a [`Plan`] before any process exists; one `clone3` later the child
//! executes the Plan as a straight run of system calls, without allocation and without decisions,
//! until `execve`.
//!
//! ```text
//! parent                                    child
//! Plan::compile(spec, inputs)
//! spawn(&plan) ── clone3 ─────────────────▶ waits until the parent has mapped ids and joined cgroups
//! maps ids, joins v1 cgroups ── go ───────▶ runs plan.steps in order
//!                                           (create: waits on the start socket)
//! reads the report pipe  ◀── (step, errno) ─ or end of file at execve
//! ```

pub mod default_spec;
mod plan;
pub mod seccomp;
mod spawn;

pub use plan::{Error, ExecInputs, Inputs, Plan, Rootfs, Stdio};
pub use spawn::{Init, SpawnError, spawn};
