//! New limits for a living cgroup.
use super::limits::write_limits;
use super::resources::Write;
use super::{Cgroup, Error, Hierarchies, Resources, systemd, tree};
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use std::path::{Path, PathBuf};

/// What a file held before an update.
#[derive(Debug)]
struct Former {
    directory: PathBuf,
    file: String,
    value: String,
}

impl Cgroup {
    /// Changes what `linux.resources` gives and leaves the rest; 0 and absent mean the same. When a value
    /// is refused, those written before it are put back. The device filter stays as it is unless the
    /// resources have device rules of their own. Returns what has no effect and is no error.
    ///
    /// # Errors
    /// Names the JSON path and the file.
    pub fn update(&self, spec: &LinuxResources, hierarchies: &Hierarchies) -> Result<Vec<String>, Error> {
        self.must_exist("get new limits")?;
        let spec = self.completed(spec)?;
        self.check_memory(&spec)?;
        // A container on cgroup2 may be in net_cls and net_prio beside it.
        let hierarchies = &hierarchies.with_those_of(self.record());
        let mut resources = Resources::compile(Some(&spec), hierarchies)?;
        if spec.pids().as_ref().is_some_and(|pids| pids.limit() == 0) {
            let others = |write: &Write| write.controller != "pids";
            resources.v1.retain(others);
            resources.v2.retain(others);
        }
        self.must_have(&resources)?;
        self.enable_controllers(&resources, hierarchies)?;
        let former = self.former(&resources);
        let writes = resources.v2.iter().chain(&resources.v1);
        self.tell_systemd(writes.map(|write| (write.file.as_str(), write.value.as_str())))?;
        let written = write_limits(self.record(), &resources);
        let written = written.and_then(|()| match resources.has_device_rules {
            true => self.filter_devices(&resources),
            false => Ok(()),
        });
        written.inspect_err(|_| {
            let files = former.iter().map(|former| (former.file.as_str(), former.value.as_str()));
            // The error that led here is the one to report.
            let _ = self.tell_systemd(files);
            put_back(&former);
        })?;
        Ok(resources.warnings().to_vec())
    }

    /// A container of a user may have a group in some hierarchies and none in others.
    fn must_have(&self, resources: &Resources) -> Result<(), Error> {
        let record = self.record();
        let v1 = resources.v1.iter().find(|write| self.v1_with(write.controller).is_none());
        match v1.or(resources.v2.first().filter(|_| record.v2.is_none())) {
            Some(write) => {
                let reason =
                    format!("the container has no cgroup where the {} controller is", write.controller);
                Err(Error::config(&write.at, reason))
            }
            None => Ok(()),
        }
    }

    /// Before files are written, for systemd rounds some values: the exact ones are written over them.
    fn tell_systemd<'a>(&self, files: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), Error> {
        self.scope().map_or(Ok(()), |scope| Ok(systemd::update(scope, files)?))
    }

    /// Some settings are one value in the kernel, or mean something only beside another: what is not given
    /// of such a pair is what the group has now.
    fn completed(&self, spec: &LinuxResources) -> Result<LinuxResources, Error> {
        let mut spec = spec.clone();
        if let Some(cpu) = spec.cpu().clone() {
            spec.set_cpu(Some(self.completed_cpu(cpu)?));
        }
        if let Some(memory) = *spec.memory() {
            spec.set_memory(Some(self.completed_memory(memory)?));
        }
        Ok(spec)
    }

    fn completed_cpu(&self, mut cpu: LinuxCpu) -> Result<LinuxCpu, Error> {
        let Some(directory) = self.v2_with("cpu.max").filter(|_| self.v1_with("cpu").is_none()) else {
            return Ok(cpu);
        };
        let present = tree::read(directory, "cpu.max")?;
        let mut words = present.split_whitespace();
        let quota = words.next().and_then(|word| word.parse().ok());
        let period = words.next().and_then(|word| word.parse().ok());
        let (has_quota, has_period) = (is_given(cpu.quota()), is_given(cpu.period()));
        if has_quota && !has_period {
            cpu.set_period(period);
        } else if has_period && !has_quota {
            cpu.set_quota(Some(quota.unwrap_or(-1)));
        }
        Ok(cpu)
    }

    fn completed_memory(&self, mut memory: LinuxMemory) -> Result<LinuxMemory, Error> {
        let (limit, swap) = (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0));
        if limit == -1 && swap == 0 {
            // No limit on memory leaves no room for one on memory and swap together.
            memory.set_swap(Some(-1));
        }
        if swap > 0 && limit == 0 && self.v1_with("memory").is_none() {
            // v2 counts swap alone, so the sum needs its other part.
            let present = self.v2_with("memory.max").map(|directory| tree::read(directory, "memory.max"));
            let present = present.transpose()?.and_then(|text| text.trim().parse().ok());
            memory.set_limit(present);
        }
        Ok(memory)
    }

    /// `checkBeforeUpdate`: a limit below what is used now would end processes of the container.
    fn check_memory(&self, spec: &LinuxResources) -> Result<(), Error> {
        let Some(memory) = spec.memory().filter(|memory| memory.check_before_update() == Some(true)) else {
            return Ok(());
        };
        let limit = memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
        let used = self.stats()?.memory_usage_bytes;
        match limit.filter(|limit| *limit < used) {
            Some(limit) => {
                let reason = format!(
                    "{limit} is below the {used} bytes that are used now, and checkBeforeUpdate is set"
                );
                Err(Error::config("linux.resources.memory.limit", reason))
            }
            None => Ok(()),
        }
    }

    /// A controller that no limit needed at creation has no files yet on v2.
    fn enable_controllers(&self, resources: &Resources, hierarchies: &Hierarchies) -> Result<(), Error> {
        let (Some(v2), Ok(leaf)) = (&hierarchies.v2, self.v2_directory()) else { return Ok(()) };
        let wanted: Vec<&str> = resources.v2_controllers().filter(|name| *name != "cgroup").collect();
        let Some(parents) = leaf.parent().and_then(|parent| parent.strip_prefix(&v2.mount).ok()) else {
            return Ok(());
        };
        let mut directory = v2.mount.clone();
        super::group::enable(&directory, &wanted)?;
        for name in parents {
            directory.push(name);
            super::group::enable(&directory, &wanted)?;
        }
        Ok(())
    }

    fn former(&self, resources: &Resources) -> Vec<Former> {
        let of = |directory: &Path, write: &Write| Former::of(directory, write);
        let v2 = self.v2_directory().ok();
        let on_v2 = resources.v2.iter().filter_map(|write| of(v2?, write));
        let on_v1 = resources.v1.iter().filter_map(|write| of(self.v1_with(write.controller)?, write));
        on_v2.chain(on_v1).collect()
    }
}

impl Former {
    fn of(directory: &Path, write: &Write) -> Option<Self> {
        let (file, new) = write.for_directory(directory);
        let mut value = tree::read(directory, file).ok()?;
        value.push_str(&line_of_default(file, new, &value));
        Some(Self { directory: directory.to_owned(), file: file.to_owned(), value })
    }

    fn put_back(&self) -> bool {
        // Each of several lines is for a device of its own.
        let refused = |line: &&str| tree::write(&self.directory, &self.file, line).is_err();
        self.value.lines().filter(refused).count() == 0
    }
}

/// What takes back a new line for a device that had none: files that list devices leave out those with
/// default values.
fn line_of_default(file: &str, new: &str, former: &str) -> String {
    let device = new.split_once(' ').map(|(device, _)| device).filter(|device| device.contains(':'));
    let Some(device) = device else { return String::new() };
    let listed = former.lines().any(|line| line.split_whitespace().next() == Some(device));
    match file {
        _ if listed => String::new(),
        "io.max" => format!("{device} rbps=max wbps=max riops=max wiops=max\n"),
        "io.weight" | "io.bfq.weight" => format!("{device} default\n"),
        _ => format!("{device} 0\n"),
    }
}

/// Once more for those that were refused: a value may be bounded by a neighbour that is put back later.
fn put_back(former: &[Former]) {
    let refused: Vec<_> = former.iter().rev().filter(|former| !former.put_back()).collect();
    for former in refused.iter().rev() {
        // The error that led here is the one to report.
        former.put_back();
    }
}

fn is_given<T: Default + PartialEq>(value: Option<T>) -> bool {
    value.is_some_and(|value| value != T::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_had_no_limit_gets_none_back() {
        let listed = "8:0 rbps=5 wbps=max riops=max wiops=max\n";
        assert_eq!(line_of_default("io.max", "8:0 rbps=7", listed), "");
        let unlimited = "8:1 rbps=max wbps=max riops=max wiops=max\n";
        assert_eq!(line_of_default("io.max", "8:1 rbps=7", listed), unlimited);
        assert_eq!(line_of_default("blkio.throttle.read_bps_device", "8:1 7", ""), "8:1 0\n");
        assert_eq!(line_of_default("io.bfq.weight", "8:1 7", "default 100\n"), "8:1 default\n");
        assert_eq!(line_of_default("memory.max", "7", "max\n"), "");
    }
}
