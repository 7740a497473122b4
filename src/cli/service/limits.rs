//! Options that limit what an instance may use.
use super::values::{cpus, size};
use crate::service::Limits;
use clap::Args;

/// Limits of `wharf run`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitOptions {
    /// Memory, bytes or with K, M, G (powers of 1024), such as 64M
    #[arg(long, short = 'm', value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Memory and swap together, or -1 for unlimited swap [default: no swap beyond --memory]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Memory that is reclaimed last when the machine runs short
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_reservation: Option<u64>,
    /// CPU time, number of CPUs, such as 0.5
    #[arg(long, value_name = "CPUS", value_parser = cpus)]
    cpus: Option<u64>,
    /// Share of the CPU against other instances when it is scarce, 2 to 262144; 1024 is the usual
    #[arg(long, value_name = "SHARES", value_parser = clap::value_parser!(u64).range(2..=262_144))]
    cpu_shares: Option<u64>,
    /// CPUs it may run on, such as 0-1,3
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Processes and threads; 0 is unlimited
    #[arg(long, visible_alias = "pids-limit", value_name = "COUNT", default_value_t = 2048)]
    pids: u32,
}

impl LimitOptions {
    pub(super) fn resolve(&self) -> anyhow::Result<Limits> {
        let memory_swap_bytes = match self.memory_swap.as_deref() {
            Some("-1") => None,
            Some(text) => Some(size(text).map_err(|error| error.context("--memory-swap"))?),
            // Without swap on the machine there is nothing to limit, and perhaps nothing that could.
            None => self.memory.filter(|_| machine_has_swap()),
        };
        Ok(Limits {
            memory_bytes: self.memory,
            memory_swap_bytes,
            memory_reservation_bytes: self.memory_reservation,
            cpu_millis: self.cpus,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            pids: Some(self.pids).filter(|pids| *pids > 0),
        })
    }
}

/// proc_swaps(5): a header, and a line for each device.
fn machine_has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}
