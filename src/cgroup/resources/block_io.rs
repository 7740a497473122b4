//! `linux.resources.blockIO`.
use super::Compiler;
use crate::cgroup::Error;
use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

impl Compiler<'_> {
    pub(super) fn block_io(&mut self, block_io: &LinuxBlockIo) -> Result<(), Error> {
        let controller = self.controller();
        if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
            let weight = checked(weight, "blockIO.weight")?;
            let value = self.weight(weight);
            self.set(controller, "blockIO.weight", [Some("blkio.bfq.weight"), Some("io.weight")], value)?;
        }
        if block_io.leaf_weight().is_some_and(|weight| weight != 0) {
            self.set(controller, "blockIO.leafWeight", [None, None], String::new())?;
        }
        for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
            let field = format!("blockIO.weightDevice[{index}]");
            let Some(weight) = device.weight() else { continue };
            let value =
                format!("{}:{} {}", device.major(), device.minor(), self.weight(checked(weight, &field)?));
            self.set(controller, &field, [Some("blkio.bfq.weight_device"), Some("io.weight")], value)?;
        }
        for (field, v1, v2, devices) in [
            (
                "throttleReadBpsDevice",
                "blkio.throttle.read_bps_device",
                "rbps",
                block_io.throttle_read_bps_device(),
            ),
            (
                "throttleWriteBpsDevice",
                "blkio.throttle.write_bps_device",
                "wbps",
                block_io.throttle_write_bps_device(),
            ),
            (
                "throttleReadIOPSDevice",
                "blkio.throttle.read_iops_device",
                "riops",
                block_io.throttle_read_iops_device(),
            ),
            (
                "throttleWriteIOPSDevice",
                "blkio.throttle.write_iops_device",
                "wiops",
                block_io.throttle_write_iops_device(),
            ),
        ] {
            self.throttle(controller, field, v1, v2, devices.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// The controller was renamed with v2.
    fn controller(&self) -> &'static str {
        let v1 = self.hierarchies.v1.iter().any(|v1| v1.controllers.iter().any(|name| name == "blkio"));
        if v1 { "blkio" } else { "io" }
    }

    /// v1's 10 to 1000 onto v2's 1 to 10000.
    fn weight(&self, weight: u64) -> String {
        match self.controller() {
            "blkio" => weight.to_string(),
            _ => (1 + (weight - 10) * 9999 / 990).to_string(),
        }
    }

    fn throttle(
        &mut self,
        controller: &'static str,
        field: &str,
        v1: &str,
        v2: &str,
        devices: &[LinuxThrottleDevice],
    ) -> Result<(), Error> {
        for (index, device) in devices.iter().enumerate() {
            let field = format!("blockIO.{field}[{index}]");
            let number = format!("{}:{}", device.major(), device.minor());
            let value = match controller {
                "blkio" => format!("{number} {}", device.rate()),
                // v1 takes a limit away with 0, which v2 refuses.
                _ if device.rate() == 0 => format!("{number} {v2}=max"),
                _ => format!("{number} {v2}={}", device.rate()),
            };
            self.set(controller, &field, [Some(v1), Some("io.max")], value)?;
        }
        Ok(())
    }
}

fn checked(weight: u16, field: &str) -> Result<u64, Error> {
    if (10..=1000).contains(&weight) {
        return Ok(u64::from(weight));
    }
    Err(Error::config(&format!("linux.resources.{field}"), format!("{weight} is not within 10..1000")))
}
