//! `linux.resources.memory`.
use super::{Compiler, Home};
use crate::cgroup::Error;
use oci_spec::runtime::LinuxMemory;

impl Compiler<'_> {
    /// `kernel` and `kernelTCP` are deprecated, and the kernel has dropped them: they are passed over, as
    /// config-linux.md#memory allows.
    pub(super) fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        if memory.use_hierarchy() == Some(false) {
            let reason = "is false, but the kernel accounts memory hierarchically only; remove it";
            return Err(Error::config("linux.resources.memory.useHierarchy", reason));
        }
        let limit = memory.limit().filter(|limit| *limit != 0);
        if let Some(limit) = limit {
            let files = [Some("memory.limit_in_bytes"), Some("memory.max")];
            self.set_bytes("memory.limit", files, limit)?;
        }
        if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
            self.swap(swap, limit)?;
        }
        if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
            let files = [Some("memory.soft_limit_in_bytes"), Some("memory.low")];
            self.set_bytes("memory.reservation", files, reservation)?;
        }
        if let Some(swappiness) = memory.swappiness() {
            if swappiness > 200 {
                return Err(Error::config("linux.resources.memory.swappiness", "is above 200"));
            }
            self.set(
                "memory",
                "memory.swappiness",
                [Some("memory.swappiness"), None],
                swappiness.to_string(),
            )?;
        }
        if memory.disable_oom_killer().unwrap_or(false) {
            self.set(
                "memory",
                "memory.disableOOMKiller",
                [Some("memory.oom_control"), None],
                "1".to_owned(),
            )?;
        }
        Ok(())
    }

    fn set_bytes(&mut self, field: &str, files: [Option<&str>; 2], bytes: i64) -> Result<(), Error> {
        let unlimited = if self.home("memory", field)? == Home::V1 { "-1" } else { "max" };
        let value = if bytes < 0 { unlimited.to_owned() } else { bytes.to_string() };
        self.set("memory", field, files, value)
    }

    /// The spec's swap is memory and swap together, as on v1; v2 counts swap alone.
    fn swap(&mut self, swap: i64, limit: Option<i64>) -> Result<(), Error> {
        let at = "linux.resources.memory.swap";
        let files = [Some("memory.memsw.limit_in_bytes"), Some("memory.swap.max")];
        if self.home("memory", "memory.swap")? == Home::V1 || swap < 0 {
            self.set_bytes("memory.swap", files, swap)?;
            self.swap_is_optional(swap < 0);
            return Ok(());
        }
        let Some(limit) = limit.filter(|limit| *limit > 0) else {
            return Err(Error::config(at, "needs memory.limit, since it is the sum of memory and swap"));
        };
        if swap < limit {
            return Err(Error::config(at, format!("{swap} is below memory.limit {limit}; it is their sum")));
        }
        self.set_bytes("memory.swap", files, swap - limit)?;
        self.swap_is_optional(swap == limit);
        Ok(())
    }

    /// A kernel without swap accounting has no such file; no limit, and no swap at all where there is
    /// none, are what it does then.
    fn swap_is_optional(&mut self, optional: bool) {
        let writes = [&mut self.resources.v1, &mut self.resources.v2];
        for write in writes.into_iter().filter_map(|list| list.last_mut()) {
            if write.file.contains("memsw") || write.file.contains("swap.max") {
                write.optional = optional;
            }
        }
    }
}
