//! What a cgroup has used.
use serde::Serialize;

/// Usage and events, the same names on v1 and v2.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Stats {
    /// Total CPU time, nanoseconds.
    pub cpu_usage_ns: u64,
    /// Time throttled by the quota, nanoseconds.
    pub cpu_throttled_ns: u64,
    /// Memory charged now, bytes.
    pub memory_usage_bytes: u64,
    /// Highest memory charged, bytes, where the kernel tells.
    pub memory_peak_bytes: Option<u64>,
    /// Memory limit, bytes; `None` is unlimited.
    pub memory_limit_bytes: Option<u64>,
    /// Processes killed by the OOM killer in this group.
    pub oom_kills: u64,
    /// Tasks now.
    pub pids_current: u64,
    /// Task limit; `None` is unlimited.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub io_read_bytes: u64,
    /// Bytes written to block devices.
    pub io_write_bytes: u64,
}
