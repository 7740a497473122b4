//! `linux.resources.memory`.
use super::{Compiler, Home, Write};
use crate::cgroup::Error;
use oci_spec::runtime::LinuxMemory;

impl Compiler<'_> {
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
        self.kernel_memory(memory)?;
        if let Some(swappiness) = memory.swappiness() {
            if swappiness > 200 {
                return Err(Error::config("linux.resources.memory.swappiness", "is above 200"));
            }
            let files = [Some("memory.swappiness"), None];
            self.set("memory", "memory.swappiness", files, swappiness.to_string())?;
        }
        if memory.disable_oom_killer().unwrap_or(false) {
            let files = [Some("memory.oom_control"), None];
            self.set("memory", "memory.disableOOMKiller", files, "1".to_owned())?;
        }
        Ok(())
    }

    /// Linux 5.16 dropped the limit on kernel memory, and cgroup v2 never had either;
    /// config-linux.md#memory has deprecated both.
    fn kernel_memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        #[allow(deprecated)]
        let kernel = memory.kernel();
        if kernel.is_some_and(|bytes| bytes != 0) {
            self.warn("memory.kernel", "the kernel has no such limit any more");
        }
        let Some(tcp) = memory.kernel_tcp().filter(|bytes| *bytes != 0) else { return Ok(()) };
        if self.home("memory", "memory.kernelTCP")? == Home::V1 {
            self.set_bytes("memory.kernelTCP", [Some("memory.kmem.tcp.limit_in_bytes"), None], tcp)?;
        } else {
            self.warn("memory.kernelTCP", "cgroup v2 has no such limit");
        }
        Ok(())
    }

    fn set_bytes(&mut self, field: &str, files: [Option<&str>; 2], bytes: i64) -> Result<&mut Write, Error> {
        let unlimited = if self.home("memory", field)? == Home::V1 { "-1" } else { "max" };
        let value = if bytes < 0 { unlimited.to_owned() } else { bytes.to_string() };
        self.set("memory", field, files, value)
    }

    /// The spec's swap is memory and swap together, as on v1; v2 counts swap alone.
    fn swap(&mut self, swap: i64, limit: Option<i64>) -> Result<(), Error> {
        let at = "linux.resources.memory.swap";
        let files = [Some("memory.memsw.limit_in_bytes"), Some("memory.swap.max")];
        if self.home("memory", "memory.swap")? == Home::V1 || swap < 0 {
            // Kernels without swap accounting have no such file, and no limit either.
            self.set_bytes("memory.swap", files, swap)?.optional = swap < 0;
            return Ok(());
        }
        let Some(limit) = limit.filter(|limit| *limit > 0) else {
            return Err(Error::config(at, "needs memory.limit, since it is the sum of memory and swap"));
        };
        if swap < limit {
            return Err(Error::config(at, format!("{swap} is below memory.limit {limit}; it is their sum")));
        }
        // Where swap is not accounted there is none to be had either.
        self.set_bytes("memory.swap", files, swap - limit)?.optional = swap == limit;
        Ok(())
    }
}
