//! What a cgroup has used: cgroup-v2.rst, cgroup-v1/{memory,cpuacct,pids,blkio-controller}.rst.
use super::{Cgroup, Error, tree};
use serde::Serialize;
use std::path::Path;

/// Usage and events, the same names on v1 and v2. What the host has no controller for is zero or `None`.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Stats {
    /// Total CPU time, nanoseconds.
    pub cpu_usage_ns: u64,
    /// CPU time in user mode, nanoseconds.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, nanoseconds.
    pub cpu_system_ns: u64,
    /// Periods of the quota that have passed.
    pub cpu_periods: u64,
    /// Periods in which the quota ran out.
    pub cpu_throttled_periods: u64,
    /// Time throttled by the quota, nanoseconds.
    pub cpu_throttled_ns: u64,
    /// Memory charged now, bytes.
    pub memory_usage_bytes: u64,
    /// Of it, page cache that the kernel would drop first, bytes.
    pub memory_inactive_file_bytes: u64,
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

/// What v1 says for no memory limit: the largest number of pages in bytes, about 8 EiB.
const V1_UNLIMITED: u64 = 1 << 62;

impl Cgroup {
    /// Usage and events.
    ///
    /// # Errors
    /// Names the file of a controller that is there but cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.must_exist("tell what it uses")?;
        let mut stats = Stats::default();
        self.cpu(&mut stats)?;
        self.memory(&mut stats)?;
        self.pids_controller(&mut stats)?;
        self.io(&mut stats);
        Ok(stats)
    }

    fn cpu(&self, stats: &mut Stats) -> Result<(), Error> {
        if let Some(directory) = self.v1_with("cpuacct") {
            stats.cpu_usage_ns = number(directory, "cpuacct.usage")?;
            stats.cpu_user_ns = number(directory, "cpuacct.usage_user").unwrap_or(0);
            stats.cpu_system_ns = number(directory, "cpuacct.usage_sys").unwrap_or(0);
        }
        if let Some(directory) = self.v1_with("cpu") {
            let text = tree::read(directory, "cpu.stat")?;
            stats.cpu_periods = field(&text, "nr_periods");
            stats.cpu_throttled_periods = field(&text, "nr_throttled");
            stats.cpu_throttled_ns = field(&text, "throttled_time");
        } else if let Ok(directory) = self.v2_directory() {
            let text = tree::read(directory, "cpu.stat")?;
            stats.cpu_usage_ns = field(&text, "usage_usec") * 1000;
            stats.cpu_user_ns = field(&text, "user_usec") * 1000;
            stats.cpu_system_ns = field(&text, "system_usec") * 1000;
            stats.cpu_periods = field(&text, "nr_periods");
            stats.cpu_throttled_periods = field(&text, "nr_throttled");
            stats.cpu_throttled_ns = field(&text, "throttled_usec") * 1000;
        }
        Ok(())
    }

    fn memory(&self, stats: &mut Stats) -> Result<(), Error> {
        if let Some(directory) = self.v1_with("memory") {
            stats.memory_usage_bytes = number(directory, "memory.usage_in_bytes")?;
            stats.memory_peak_bytes = number(directory, "memory.max_usage_in_bytes").ok();
            let limit = number(directory, "memory.limit_in_bytes")?;
            stats.memory_limit_bytes = (limit < V1_UNLIMITED).then_some(limit);
            stats.memory_inactive_file_bytes =
                field(&tree::read(directory, "memory.stat")?, "total_inactive_file");
        } else if let Some(directory) = self.v2_with("memory.current") {
            stats.memory_usage_bytes = number(directory, "memory.current")?;
            stats.memory_peak_bytes = number(directory, "memory.peak").ok();
            stats.memory_limit_bytes = limit(directory, "memory.max")?;
            stats.memory_inactive_file_bytes = field(&tree::read(directory, "memory.stat")?, "inactive_file");
        }
        stats.oom_kills = self.oom_kills()?;
        Ok(())
    }

    fn pids_controller(&self, stats: &mut Stats) -> Result<(), Error> {
        let v1 = self.v1_with("pids");
        if let Some(directory) = v1.or_else(|| self.v2_with("pids.current")) {
            stats.pids_current = number(directory, "pids.current")?;
            stats.pids_limit = limit(directory, "pids.max")?;
        }
        Ok(())
    }

    /// Block statistics are missing on kernels built without them, which is no error.
    fn io(&self, stats: &mut Stats) {
        if let Some(directory) = self.v1_with("blkio") {
            let text = tree::read(directory, "blkio.throttle.io_service_bytes_recursive").unwrap_or_default();
            for line in text.lines() {
                let words: Vec<_> = line.split(' ').collect();
                let [_, kind, bytes] = words[..] else { continue };
                let bytes: u64 = bytes.parse().unwrap_or(0);
                match kind {
                    "Read" => stats.io_read_bytes += bytes,
                    "Write" => stats.io_write_bytes += bytes,
                    _ => {}
                }
            }
        } else if let Some(directory) = self.v2_with("io.stat") {
            for word in tree::read(directory, "io.stat").unwrap_or_default().split_whitespace() {
                match word.split_once('=').map(|(key, value)| (key, value.parse().unwrap_or(0))) {
                    Some(("rbytes", bytes)) => stats.io_read_bytes += bytes,
                    Some(("wbytes", bytes)) => stats.io_write_bytes += bytes,
                    _ => {}
                }
            }
        }
    }
}

fn number(directory: &Path, file: &str) -> Result<u64, Error> {
    Ok(tree::read(directory, file)?.trim().parse().unwrap_or(0))
}

fn limit(directory: &Path, file: &str) -> Result<Option<u64>, Error> {
    Ok(tree::read(directory, file)?.trim().parse().ok())
}

/// `name value` lines.
pub(super) fn field(text: &str, name: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}
