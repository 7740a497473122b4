//! Statistics beyond [`super::Stats`], as engines show them: by CPU, by device, by page size, and pressure.
//! Sources: cgroup-v2.rst, cgroup-v1/{memory,cpuacct,blkio-controller,hugetlb}.rst, psi.rst.
use super::{Cgroup, Error, tree};
use std::collections::BTreeMap;
use std::path::Path;

/// What the host has no file for is zero, empty or `None`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Details {
    /// CPU time by CPU, nanoseconds; v1 only.
    pub cpu_usage_by_cpu_ns: Vec<u64>,
    /// Memory.
    pub memory: Bounded,
    /// Memory and swap together.
    pub memory_and_swap: Bounded,
    /// Kernel memory; v1 only.
    pub kernel_memory: Bounded,
    /// Kernel memory for TCP buffers; v1 only.
    pub tcp_memory: Bounded,
    /// Page cache, bytes.
    pub cache_bytes: u64,
    /// The kernel's own list, `memory.stat`.
    pub memory_stat: BTreeMap<String, u64>,
    /// Huge pages by size, such as `2MB`.
    pub huge_pages: BTreeMap<String, Bounded>,
    /// Bytes moved by device and kind (`Read`, `Write`).
    pub io_bytes: Vec<DeviceCount>,
    /// Requests by device and kind.
    pub io_requests: Vec<DeviceCount>,
    /// Stalls for want of CPU; v2 only.
    pub cpu_pressure: Option<Pressure>,
    /// Stalls for want of memory; v2 only.
    pub memory_pressure: Option<Pressure>,
    /// Stalls for want of block I/O; v2 only.
    pub io_pressure: Option<Pressure>,
}

/// Use of something that has a limit, bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    /// Now.
    pub usage: u64,
    /// At most so far.
    pub max: u64,
    /// How often the limit was met.
    pub failures: u64,
    /// The limit; `None` is unlimited.
    pub limit: Option<u64>,
}

/// A count of one block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCount {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write` and further words of the kernel.
    pub kind: String,
    /// The count.
    pub value: u64,
}

/// Two lines of a pressure file, psi.rst.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Some task was stalled.
    pub some: Stall,
    /// All tasks were stalled at once.
    pub full: Stall,
}

/// Share of time stalled.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Since the beginning, microseconds.
    pub total_us: u64,
}

/// v1's word for no limit is a number of pages so large that nothing reaches it.
const UNREACHABLE: u64 = 1 << 62;

impl Cgroup {
    /// The statistics.
    ///
    /// # Errors
    /// Names the file of a controller that is there but cannot be read.
    pub fn details(&self) -> Result<Details, Error> {
        let mut details = Details::default();
        if let Some(directory) = self.v1_with("cpuacct") {
            let text = tree::read(directory, "cpuacct.usage_percpu")?;
            details.cpu_usage_by_cpu_ns =
                text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        }
        match (self.v1_with("memory"), self.v2_with("memory.current")) {
            (Some(directory), _) => memory_v1(directory, &mut details)?,
            (None, Some(directory)) => memory_v2(directory, &mut details)?,
            (None, None) => {}
        }
        match (self.v1_with("blkio"), self.v2_with("io.stat")) {
            (Some(directory), _) => io_v1(directory, &mut details),
            (None, Some(directory)) => io_v2(&optional(directory, "io.stat"), &mut details),
            (None, None) => {}
        }
        let huge = self.v1_with("hugetlb").or_else(|| self.v2_directory().ok());
        if let Some(directory) = huge {
            details.huge_pages = huge_pages(directory, self.v1_with("hugetlb").is_some());
        }
        if let Ok(directory) = self.v2_directory() {
            details.cpu_pressure = pressure(&optional(directory, "cpu.pressure"));
            details.memory_pressure = pressure(&optional(directory, "memory.pressure"));
            details.io_pressure = pressure(&optional(directory, "io.pressure"));
        }
        Ok(details)
    }
}

fn memory_v1(directory: &Path, details: &mut Details) -> Result<(), Error> {
    details.memory_stat = names_and_numbers(&tree::read(directory, "memory.stat")?);
    details.cache_bytes = details.memory_stat.get("cache").copied().unwrap_or(0);
    let bounded = |prefix: &str| Bounded {
        usage: number(&optional(directory, &format!("{prefix}.usage_in_bytes"))),
        max: number(&optional(directory, &format!("{prefix}.max_usage_in_bytes"))),
        failures: number(&optional(directory, &format!("{prefix}.failcnt"))),
        limit: limit(&optional(directory, &format!("{prefix}.limit_in_bytes"))),
    };
    details.memory = bounded("memory");
    details.memory_and_swap = bounded("memory.memsw");
    details.kernel_memory = bounded("memory.kmem");
    details.tcp_memory = bounded("memory.kmem.tcp");
    Ok(())
}

fn memory_v2(directory: &Path, details: &mut Details) -> Result<(), Error> {
    details.memory_stat = names_and_numbers(&tree::read(directory, "memory.stat")?);
    details.cache_bytes = details.memory_stat.get("file").copied().unwrap_or(0);
    let bounded = |prefix: &str| Bounded {
        usage: number(&optional(directory, &format!("{prefix}.current"))),
        max: number(&optional(directory, &format!("{prefix}.peak"))),
        failures: names_and_numbers(&optional(directory, &format!("{prefix}.events")))
            .get("max")
            .copied()
            .unwrap_or(0),
        limit: limit(&optional(directory, &format!("{prefix}.max"))),
    };
    let (memory, swap) = (bounded("memory"), bounded("memory.swap"));
    details.memory = memory;
    details.memory_and_swap = Bounded {
        usage: memory.usage + swap.usage,
        max: memory.max + swap.max,
        failures: swap.failures,
        limit: memory.limit.zip(swap.limit).map(|(memory, swap)| memory + swap),
    };
    Ok(())
}

fn io_v1(directory: &Path, details: &mut Details) {
    let counts = |file: &str| {
        let text = optional(directory, file);
        text.lines().filter_map(device_count).collect::<Vec<_>>()
    };
    details.io_bytes = counts("blkio.throttle.io_service_bytes_recursive");
    details.io_requests = counts("blkio.throttle.io_serviced_recursive");
}

/// `8:0 Read 4096`.
fn device_count(line: &str) -> Option<DeviceCount> {
    let mut words = line.split(' ');
    let (major, minor) = words.next()?.split_once(':')?;
    let kind = words.next()?.to_owned();
    let value = words.next()?.parse().ok()?;
    Some(DeviceCount { major: major.parse().ok()?, minor: minor.parse().ok()?, kind, value })
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io_v2(text: &str, details: &mut Details) {
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, kind) = match key {
                "rbytes" => (&mut details.io_bytes, "Read"),
                "wbytes" => (&mut details.io_bytes, "Write"),
                "rios" => (&mut details.io_requests, "Read"),
                "wios" => (&mut details.io_requests, "Write"),
                _ => continue,
            };
            list.push(DeviceCount { major, minor, kind: kind.to_owned(), value: number(value) });
        }
    }
}

fn huge_pages(directory: &Path, v1: bool) -> BTreeMap<String, Bounded> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let current = if v1 { ".usage_in_bytes" } else { ".current" };
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(current)?;
        (!size.contains('.')).then(|| size.to_owned())
    });
    let read = |size: String| {
        let file = |name: &str| optional(directory, &format!("hugetlb.{size}.{name}"));
        let bounded = match v1 {
            true => Bounded {
                usage: number(&file("usage_in_bytes")),
                max: number(&file("max_usage_in_bytes")),
                failures: number(&file("failcnt")),
                limit: limit(&file("limit_in_bytes")),
            },
            false => Bounded {
                usage: number(&file("current")),
                max: 0,
                failures: names_and_numbers(&file("events")).get("max").copied().unwrap_or(0),
                limit: limit(&file("max")),
            },
        };
        (size, bounded)
    };
    sizes.map(read).collect()
}

fn pressure(text: &str) -> Option<Pressure> {
    let stall = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let percent = |key: &str| field(key).and_then(|value| value.parse().ok()).unwrap_or(0.0);
        let total_us = field("total=").map_or(0, number);
        Some(Stall {
            avg10: percent("avg10="),
            avg60: percent("avg60="),
            avg300: percent("avg300="),
            total_us,
        })
    };
    Some(Pressure { some: stall("some ")?, full: stall("full ").unwrap_or_default() })
}

fn optional(directory: &Path, file: &str) -> String {
    tree::read(directory, file).unwrap_or_default()
}

fn names_and_numbers(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < UNREACHABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_statistics_of_both_versions_have_one_form() {
        let count = |kind: &str, value| DeviceCount { major: 8, minor: 16, kind: kind.to_owned(), value };
        assert_eq!(device_count("8:16 Read 4096"), Some(count("Read", 4096)));
        assert_eq!(device_count("Total 4096"), None);
        let mut details = Details::default();
        io_v2("8:16 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=9 dios=9\n", &mut details);
        assert_eq!(details.io_bytes, [count("Read", 4096), count("Write", 1)]);
        assert_eq!(details.io_requests, [count("Read", 2), count("Write", 3)]);
    }

    #[test]
    fn pressure_is_read_with_and_without_the_line_full() {
        let some = "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\n";
        let read = pressure(some).expect("pressure");
        assert_eq!((read.some.avg10, read.some.total_us, read.full.total_us), (1.5, 1234, 0));
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn unlimited_is_none_in_both_versions() {
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("4096\n"), Some(4096));
    }
}
