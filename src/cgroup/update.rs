//! New limits for a living cgroup.
use super::group::write_limits;
use super::resources::Write;
use super::{Cgroup, Error, Hierarchies, Resources, tree};
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
    /// resources have device rules of their own.
    ///
    /// # Errors
    /// Names the JSON path and the file.
    pub fn update(&self, spec: &LinuxResources, hierarchies: &Hierarchies) -> Result<(), Error> {
        let spec = self.completed(spec)?;
        self.check_memory(&spec)?;
        let mut resources = Resources::compile(Some(&spec), hierarchies)?;
        if spec.pids().as_ref().is_some_and(|pids| pids.limit() == 0) {
            let others = |write: &Write| write.controller != "pids";
            resources.v1.retain(others);
            resources.v2.retain(others);
        }
        self.enable_controllers(&resources, hierarchies)?;
        let former = self.former(&resources);
        let written = write_limits(self.record_ref(), &resources);
        let written = written.and_then(|()| match resources.has_device_rules {
            true => self.filter_devices(&resources),
            false => Ok(()),
        });
        written.inspect_err(|_| former.iter().rev().for_each(Former::put_back))
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
        let of = |directory: &Path, write: &Write| {
            let value = tree::read(directory, &write.file).ok()?;
            Some(Former { directory: directory.to_owned(), file: write.file.clone(), value })
        };
        let v2 = self.v2_directory().ok();
        let on_v2 = resources.v2.iter().filter_map(|write| of(v2?, write));
        let on_v1 = resources.v1.iter().filter_map(|write| of(self.v1_with(write.controller)?, write));
        on_v2.chain(on_v1).collect()
    }
}

impl Former {
    fn put_back(&self) {
        for line in self.value.lines() {
            // The error that led here is the one to report.
            let _ = tree::write(&self.directory, &self.file, line);
        }
    }
}

fn is_given<T: Default + PartialEq>(value: Option<T>) -> bool {
    value.is_some_and(|value| value != T::default())
}
