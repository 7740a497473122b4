//! `linux.resources.cpu`.
use super::{Compiler, Home, Write};
use crate::cgroup::Error;
use oci_spec::runtime::LinuxCpu;

/// cgroup-v2.rst: the period that cpu.max has by default.
const DEFAULT_PERIOD_US: u64 = 100_000;

impl Compiler<'_> {
    pub(super) fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        // An idle group takes no weight: idle goes first where it ends, and last where it begins.
        if cpu.idle() == Some(0) {
            self.idle(0)?.optional = true;
        }
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            let v1 = self.home("cpu", "cpu.shares")? == Home::V1;
            let value = if v1 { shares } else { weight_of_shares(shares) };
            self.set("cpu", "cpu.shares", [Some("cpu.shares"), Some("cpu.weight")], value.to_string())?;
        }
        if let Some(idle) = cpu.idle().filter(|idle| *idle != 0) {
            self.idle(idle)?;
        }
        self.bandwidth(cpu)?;
        if let Some(burst) = cpu.burst() {
            let files = [Some("cpu.cfs_burst_us"), Some("cpu.max.burst")];
            // Kernels before 5.14 have no burst, which is what 0 says.
            self.set("cpu", "cpu.burst", files, burst.to_string())?.optional = burst == 0;
        }
        if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
            self.set("cpu", "cpu.realtimePeriod", [Some("cpu.rt_period_us"), None], period.to_string())?;
        }
        if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
            self.set("cpu", "cpu.realtimeRuntime", [Some("cpu.rt_runtime_us"), None], runtime.to_string())?;
        }
        for (field, file, list) in
            [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())]
        {
            if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                check_list(field, list)?;
                self.set("cpuset", field, [Some(file), Some(file)], list.clone())?;
            }
        }
        Ok(())
    }

    fn idle(&mut self, idle: i64) -> Result<&mut Write, Error> {
        self.set("cpu", "cpu.idle", [Some("cpu.idle"), Some("cpu.idle")], idle.to_string())
    }

    fn bandwidth(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let period = cpu.period().filter(|period| *period != 0);
        if quota.is_none() && period.is_none() {
            return Ok(());
        }
        let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        if self.home("cpu", field)? == Home::V1 {
            if let Some(period) = period {
                self.set("cpu", "cpu.period", [Some("cpu.cfs_period_us"), None], period.to_string())?;
            }
            if let Some(quota) = quota {
                let quota = quota.max(-1).to_string();
                self.set("cpu", "cpu.quota", [Some("cpu.cfs_quota_us"), None], quota)?;
            }
            return Ok(());
        }
        let quota =
            quota.filter(|quota| *quota > 0).map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        let value = format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US));
        self.set("cpu", field, [None, Some("cpu.max")], value)?;
        Ok(())
    }
}

/// Maps v1's shares (2 to 262144, default 1024) onto v2's weight (1 to 10000, default 100) so that the
/// defaults meet: a quadratic in log2, as runc, crun and Kubernetes agreed on in 2025 (KEP-2254).
fn weight_of_shares(shares: u64) -> u64 {
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

fn check_list(field: &str, list: &str) -> Result<(), Error> {
    let plain = list.chars().all(|c| c.is_ascii_digit() || ",-".contains(c));
    let path = format!("linux.resources.{field}");
    if plain { Ok(()) } else { Err(Error::config(&path, format!("{list:?} is not a list such as 0-2,7"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_weight_meet_at_both_ends_and_at_the_default() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }
}
