//! `linux.resources.blockIO`.
use super::Compiler;
use crate::cgroup::Error;
use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};

/// Both versions' names of one throttle.
struct Throttle {
    field: &'static str,
    v1: &'static str,
    /// Key in io.max.
    v2: &'static str,
}

const READ_BPS: Throttle =
    Throttle { field: "throttleReadBpsDevice", v1: "blkio.throttle.read_bps_device", v2: "rbps" };
const WRITE_BPS: Throttle =
    Throttle { field: "throttleWriteBpsDevice", v1: "blkio.throttle.write_bps_device", v2: "wbps" };
const READ_IOPS: Throttle =
    Throttle { field: "throttleReadIOPSDevice", v1: "blkio.throttle.read_iops_device", v2: "riops" };
const WRITE_IOPS: Throttle =
    Throttle { field: "throttleWriteIOPSDevice", v1: "blkio.throttle.write_iops_device", v2: "wiops" };

impl Compiler<'_> {
    pub(super) fn block_io(&mut self, block_io: &LinuxBlockIo) -> Result<(), Error> {
        let controller = self.io_controller();
        if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
            self.weight(controller, "blockIO.weight", None, weight)?;
        }
        if let Some(weight) = block_io.leaf_weight().filter(|weight| *weight != 0) {
            self.leaf_weight(controller, "blockIO.leafWeight", None, weight)?;
        }
        for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
            self.weight_device(controller, &format!("blockIO.weightDevice[{index}]"), device)?;
        }
        for (throttle, devices) in [
            (READ_BPS, block_io.throttle_read_bps_device()),
            (WRITE_BPS, block_io.throttle_write_bps_device()),
            (READ_IOPS, block_io.throttle_read_iops_device()),
            (WRITE_IOPS, block_io.throttle_write_iops_device()),
        ] {
            self.throttle(controller, &throttle, devices.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// The controller was renamed with v2.
    fn io_controller(&self) -> &'static str {
        let v1 = self.hierarchies.v1.iter().any(|v1| v1.controllers.iter().any(|name| name == "blkio"));
        if v1 { "blkio" } else { "io" }
    }

    /// Weights are a matter of the I/O scheduler, which has files of its own: BFQ's take the
    /// specification's numbers, io.weight of io.cost those of v2.
    fn weight(
        &mut self,
        controller: &'static str,
        field: &str,
        device: Option<&str>,
        weight: u16,
    ) -> Result<(), Error> {
        let weight = checked(weight, field)?;
        let value = |number: u64| device.map_or_else(|| number.to_string(), |id| format!("{id} {number}"));
        let (files, instead) = match (controller, device) {
            ("blkio", None) => (["blkio.weight", ""], ("blkio.bfq.weight", weight)),
            ("blkio", Some(_)) => (["blkio.weight_device", ""], ("blkio.bfq.weight_device", weight)),
            _ => (["", "io.bfq.weight"], ("io.weight", v2_weight(weight))),
        };
        let write = self.set(controller, field, [Some(files[0]), Some(files[1])], value(weight))?;
        write.instead = Some((instead.0.to_owned(), value(instead.1)));
        Ok(())
    }

    /// Only the scheduler CFQ had leaves, and it went with Linux 5.0: newer kernels lack the file.
    fn leaf_weight(
        &mut self,
        controller: &'static str,
        field: &str,
        device: Option<&str>,
        weight: u16,
    ) -> Result<(), Error> {
        let weight = checked(weight, field)?;
        let (file, value) = match device {
            Some(device) => ("blkio.leaf_weight_device", format!("{device} {weight}")),
            None => ("blkio.leaf_weight", weight.to_string()),
        };
        self.set(controller, field, [Some(file), None], value)?;
        Ok(())
    }

    fn weight_device(
        &mut self,
        controller: &'static str,
        field: &str,
        device: &LinuxWeightDevice,
    ) -> Result<(), Error> {
        let number = device_number(device.major(), device.minor(), field)?;
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            self.weight(controller, &format!("{field}.weight"), Some(&number), weight)?;
        }
        if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
            self.leaf_weight(controller, &format!("{field}.leafWeight"), Some(&number), weight)?;
        }
        Ok(())
    }

    fn throttle(
        &mut self,
        controller: &'static str,
        throttle: &Throttle,
        devices: &[LinuxThrottleDevice],
    ) -> Result<(), Error> {
        let Throttle { field, v1, v2 } = throttle;
        for (index, device) in devices.iter().enumerate() {
            let field = format!("blockIO.{field}[{index}]");
            let number = device_number(device.major(), device.minor(), &field)?;
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

/// v1's 10 to 1000 onto v2's 1 to 10000.
fn v2_weight(weight: u64) -> u64 {
    1 + (weight - 10) * 9999 / 990
}

fn checked(weight: u16, field: &str) -> Result<u64, Error> {
    if (10..=1000).contains(&weight) {
        return Ok(u64::from(weight));
    }
    Err(Error::config(&format!("linux.resources.{field}"), format!("{weight} is not within 10..1000")))
}

/// `MAJOR:MINOR` as the kernel's files want it; 12 and 20 bits are what a device number has.
fn device_number(major: i64, minor: i64, field: &str) -> Result<String, Error> {
    let fits = (0..1 << 12).contains(&major) && (0..1 << 20).contains(&minor);
    let at = format!("linux.resources.{field}");
    if fits {
        Ok(format!("{major}:{minor}"))
    } else {
        Err(Error::config(&at, format!("{major}:{minor} is not the number of a device")))
    }
}
