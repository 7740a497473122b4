//! Limits, statistics, freezer and OOM events of a control group: cgroup v2 first, with v1 and
//! hybrid hosts behind the same few operations.

mod group;
mod inside;
mod path;
mod resources;
mod stats;

pub use group::{Cgroup, Error, Hierarchies, Record};
pub use inside::InsideMount;
pub use path::CgroupPath;
pub use resources::Resources;
pub use stats::Stats;
