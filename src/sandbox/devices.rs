//! Device nodes and the links of /dev: runtime-spec config-linux.md#devices and #default-devices.
use super::mounts::Mounts;
use super::plan::Error;
use super::step::{Device, Step};
use super::target::Target;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{FileType, makedev};
use std::path::Path;

/// What config-linux.md#default-devices demands, with major and minor numbers of devices.txt.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: &[(&str, &std::ffi::CStr)] = &[
    ("/dev/fd", c"/proc/self/fd"),
    ("/dev/stdin", c"/proc/self/fd/0"),
    ("/dev/stdout", c"/proc/self/fd/1"),
    ("/dev/stderr", c"/proc/self/fd/2"),
    ("/dev/ptmx", c"pts/ptmx"),
];

/// Compiles `linux.devices` and the default devices. A user namespace may not make nodes, so there the
/// host's are bound.
pub(super) fn compile(listed: &[LinuxDevice], bind: bool, mounts: &mut Mounts) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::with_capacity(DEFAULT.len() + listed.len() + LINKS.len());
    for (path, major, minor) in DEFAULT {
        let target = target(Path::new(path), "linux.devices")?;
        // What the config puts there is what it wants there.
        if listed.iter().any(|device| device.path() == Path::new(path)) || mounts.attaches_at(&target) {
            continue;
        }
        if bind {
            steps.push(Step::Attach { slot: mounts.host(Path::new(path), "linux.devices"), target });
            continue;
        }
        let mode = FileType::CharacterDevice.as_raw_mode() | 0o666;
        let number = makedev(*major, *minor);
        steps.push(Step::MakeDevice(Device { target, mode, number, owner: (0, 0) }));
    }
    for (index, device) in listed.iter().enumerate() {
        let at = format!("linux.devices[{index}]");
        // A pipe is no device: a user namespace may make it, and the host has none to bind.
        steps.push(if bind && device.typ() != LinuxDeviceType::P {
            let target = target(device.path(), &at)?;
            Step::Attach { slot: mounts.host(device.path(), &at), target }
        } else {
            Step::MakeDevice(node(device, &at)?)
        });
    }
    for (path, points_to) in LINKS {
        let target = target(Path::new(path), "linux.devices")?;
        steps.push(Step::Link { target, points_to: (*points_to).to_owned() });
    }
    Ok(steps)
}

fn target(path: &Path, at: &str) -> Result<Target, Error> {
    if !path.is_absolute() {
        return Err(Error::config(
            &format!("{at}.path"),
            format!("{} is not an absolute path", path.display()),
        ));
    }
    // An image whose /dev is a symlink must not choose where nodes are made (CVE-2026-41579).
    Target::parse(path)
        .map(Target::without_symlinks)
        .filter(|target| target.name() != c".")
        .ok_or_else(|| Error::config(&format!("{at}.path"), "is the root or holds a NUL byte"))
}

fn node(device: &LinuxDevice, at: &str) -> Result<Device, Error> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => {
            return Err(Error::config(
                &format!("{at}.type"),
                "\"a\" is for cgroup rules; a node is c, b, u or p",
            ));
        }
    };
    let number = |value: i64, field: &str| {
        u32::try_from(value)
            .map_err(|_| Error::config(&format!("{at}.{field}"), format!("{value} is no device number")))
    };
    let permissions = device.file_mode().unwrap_or(0o666);
    if permissions > 0o7777 {
        let reason = format!("{permissions:#o} has more than permission bits");
        return Err(Error::config(&format!("{at}.fileMode"), reason));
    }
    for (field, id) in [("uid", device.uid()), ("gid", device.gid())] {
        if id == Some(u32::MAX) {
            let reason = format!("{} is no id; the highest is {}", u32::MAX, u32::MAX - 1);
            return Err(Error::config(&format!("{at}.{field}"), reason));
        }
    }
    Ok(Device {
        target: target(device.path(), at)?,
        mode: kind.as_raw_mode() | permissions,
        number: makedev(number(device.major(), "major")?, number(device.minor(), "minor")?),
        owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
    })
}
