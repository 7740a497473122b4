//! Statistics in the form that containerd's go-runc and others read from `runc events`.
use crate::cgroup::{Bounded, Details, DeviceCount, Pressure, Stall, Stats};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
pub(super) struct Data {
    cpu: Cpu,
    cpuset: Empty,
    memory: Memory,
    pids: Pids,
    blkio: BlockIo,
    hugetlb: BTreeMap<String, HugePages>,
    intel_rdt: Empty,
    network_interfaces: Option<()>,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Serialize)]
struct CpuUsage {
    total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu: Vec<u64>,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

#[derive(Debug, Serialize)]
struct Memory {
    cache: u64,
    usage: Entry,
    swap: Entry,
    kernel: Entry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: Entry,
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Serialize)]
struct Entry {
    limit: u64,
    usage: u64,
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Pids {
    current: u64,
    limit: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockIo {
    io_service_bytes_recursive: Vec<BlockEntry>,
    io_serviced_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Serialize)]
struct BlockEntry {
    major: u64,
    minor: u64,
    op: String,
    value: u64,
}

#[derive(Debug, Serialize)]
struct HugePages {
    usage: u64,
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Psi {
    some: Line,
    full: Line,
}

#[derive(Debug, Serialize)]
struct Line {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

impl Data {
    pub(super) fn new(stats: &Stats, details: Details) -> Self {
        Self {
            cpu: Cpu {
                usage: CpuUsage {
                    total: stats.cpu_usage_ns,
                    percpu: details.cpu_usage_by_cpu_ns,
                    kernel: stats.cpu_system_ns,
                    user: stats.cpu_user_ns,
                },
                throttling: Throttling {
                    periods: stats.cpu_periods,
                    throttled_periods: stats.cpu_throttled_periods,
                    throttled_time: stats.cpu_throttled_ns,
                },
                psi: details.cpu_pressure.map(Psi::from),
            },
            cpuset: Empty {},
            memory: Memory {
                cache: details.cache_bytes,
                usage: details.memory.into(),
                swap: details.memory_and_swap.into(),
                kernel: details.kernel_memory.into(),
                kernel_tcp: details.tcp_memory.into(),
                raw: details.memory_stat,
                psi: details.memory_pressure.map(Psi::from),
            },
            // Readers take 0 for no limit.
            pids: Pids { current: stats.pids_current, limit: stats.pids_limit.unwrap_or(0) },
            blkio: BlockIo {
                io_service_bytes_recursive: details.io_bytes.into_iter().map(BlockEntry::from).collect(),
                io_serviced_recursive: details.io_requests.into_iter().map(BlockEntry::from).collect(),
                psi: details.io_pressure.map(Psi::from),
            },
            hugetlb: details.huge_pages.into_iter().map(|(size, use_of)| (size, use_of.into())).collect(),
            intel_rdt: Empty {},
            network_interfaces: None,
        }
    }
}

impl From<Bounded> for Entry {
    fn from(from: Bounded) -> Self {
        // Readers take the largest number for no limit.
        let limit = from.limit.unwrap_or(u64::MAX);
        Self { limit, usage: from.usage, max: from.max, failcnt: from.failures }
    }
}

impl From<Bounded> for HugePages {
    fn from(from: Bounded) -> Self {
        Self { usage: from.usage, max: from.max, failcnt: from.failures }
    }
}

impl From<DeviceCount> for BlockEntry {
    fn from(from: DeviceCount) -> Self {
        Self { major: from.major, minor: from.minor, op: from.kind, value: from.value }
    }
}

impl From<Pressure> for Psi {
    fn from(from: Pressure) -> Self {
        Self { some: from.some.into(), full: from.full.into() }
    }
}

impl From<Stall> for Line {
    fn from(from: Stall) -> Self {
        Self { avg10: from.avg10, avg60: from.avg60, avg300: from.avg300, total: from.total_us }
    }
}
