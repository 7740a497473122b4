//! What `wharf run` was asked for, every single value already parsed.
use super::{Error, InstanceName, Limits, RestartPolicy, UpperKind, UserNamespace, log::LogLimits};
use crate::image::{LayerLimits, Overrides};
use crate::network::{Mode, PublishedPort};
use oci_spec::runtime::{Capability, LinuxSeccomp, PosixRlimit};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// All that makes an instance out of an image. [`Options::validate`] finds what does not go together.
#[derive(Debug, Default)]
pub struct Options {
    /// Name; made from the image's name when not given.
    pub name: Option<InstanceName>,
    /// What is set over the image's configuration.
    pub overrides: Overrides,
    /// Limits on what it may use.
    pub limits: Limits,
    /// What a layer of its image may ask for, if it has to be unpacked.
    pub layer_limits: LayerLimits,
    /// Directories and files of the host.
    pub binds: Vec<Bind>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Device nodes of the host.
    pub devices: Vec<Device>,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Where what it writes goes.
    pub upper: UpperKind,
    /// As whose ids its processes run.
    pub userns: UserNamespace,
    /// How it is reached.
    pub network: Mode,
    /// Ports of the host that lead to it.
    pub ports: Vec<PublishedPort>,
    /// Further lines of `/etc/hosts`.
    pub add_hosts: Vec<(String, IpAddr)>,
    /// Name servers in place of the host's.
    pub dns: Vec<IpAddr>,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Signal that asks it to end, over the image's.
    pub stop_signal: Option<i32>,
    /// How long it may take to end before SIGKILL.
    pub stop_timeout: Duration,
    /// Whether a reaper of ours is process 1.
    pub init: bool,
    /// Whether it has a terminal in place of pipes.
    pub terminal: bool,
    /// Size of the terminal until somebody who is attached changes it.
    pub console_size: Option<oci_spec::runtime::Box>,
    /// Whether it is removed when it has stopped.
    pub remove: bool,
    /// Capabilities beyond the default ones.
    pub cap_add: Capabilities,
    /// Capabilities to take away.
    pub cap_drop: Capabilities,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Whether programs may gain privileges by set-user-ID bits.
    pub may_gain_privileges: bool,
    /// Resource limits of its processes, setrlimit(2).
    pub ulimits: Vec<PosixRlimit>,
    /// Kernel parameters of its own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The user's own labels.
    pub labels: BTreeMap<String, String>,
    /// How much output is kept.
    pub log: LogLimits,
}

impl Options {
    /// Finds values that are acceptable by themselves and not together.
    ///
    /// # Errors
    /// Names the option and what to do.
    pub fn validate(&self) -> Result<(), Error> {
        if self.network != Mode::Bridge && !self.ports.is_empty() {
            let reason =
                format!("ports are published from the bridge; remove it or --network {}", self.network);
            return Err(Error::option("-p", reason));
        }
        if self.remove && self.restart != RestartPolicy::No {
            return Err(Error::option(
                "--rm",
                format!("cannot go with --restart {}; remove one", self.restart),
            ));
        }
        if self.userns == UserNamespace::Host
            && let Some(bind) = self.binds.iter().find(|bind| bind.raw_ids)
        {
            let reason = format!("{}: noidmap means nothing without --userns", bind.source.display());
            return Err(Error::option("-v", reason));
        }
        self.validate_memory()?;
        self.validate_destinations()
    }

    fn validate_memory(&self) -> Result<(), Error> {
        let limits = &self.limits;
        let Some(memory) = limits.memory_bytes else {
            return match limits.memory_swap_bytes {
                Some(_) => {
                    Err(Error::option("--memory-swap", "is memory and swap together; give --memory too"))
                }
                None => Ok(()),
            };
        };
        if limits.memory_swap_bytes.is_some_and(|swap| swap < memory) {
            return Err(Error::option(
                "--memory-swap",
                "is memory and swap together; it must be at least --memory",
            ));
        }
        if limits.memory_reservation_bytes.is_some_and(|reservation| reservation > memory) {
            return Err(Error::option("--memory-reservation", "must not be more than --memory"));
        }
        Ok(())
    }

    fn validate_destinations(&self) -> Result<(), Error> {
        let binds = self.binds.iter().map(|bind| ("-v", &bind.destination));
        let tmpfs = self.tmpfs.iter().map(|tmpfs| ("--tmpfs", &tmpfs.destination));
        let mut seen = Vec::new();
        for (option, destination) in binds.chain(tmpfs) {
            if seen.contains(&destination) {
                let reason = format!("two mounts have the destination {}", destination.display());
                return Err(Error::option(option, reason));
            }
            seen.push(destination);
        }
        Ok(())
    }
}

/// `-v SRC:DST[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Directory or file of the host, absolute.
    pub source: PathBuf,
    /// Where it appears, absolute.
    pub destination: PathBuf,
    /// Whether it may not be written, mounts below it included.
    pub read_only: bool,
    /// `private`, `rslave`…, mount_namespaces(7).
    pub propagation: Option<String>,
    /// Whether ids stay those of the host in an instance with a user namespace of its own.
    pub raw_ids: bool,
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

impl FromStr for Bind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::option("-v", format!("{text:?}: {reason}")));
        let mut parts = text.split(':');
        let (Some(source), Some(destination)) = (parts.next(), parts.next()) else {
            return refuse("write SRC:DST[:ro]".to_owned());
        };
        let options = parts.next().unwrap_or("rw");
        if parts.next().is_some() {
            return refuse("write SRC:DST[:ro]; a path with a colon cannot be given".to_owned());
        }
        if !source.starts_with(['/', '.']) {
            return refuse(
                "named volumes are not supported; give the path of a directory or file".to_owned(),
            );
        }
        let source = std::path::absolute(source).map_err(Error::file("find", Path::new(source)))?;
        if let Err(error) = std::fs::metadata(&source) {
            return refuse(format!("{}: {error}; make it first", source.display()));
        }
        let destination = destination_path("-v", destination)?;
        let mut bind = Self { source, destination, read_only: false, propagation: None, raw_ids: false };
        for option in options.split(',') {
            match option {
                "ro" => bind.read_only = true,
                "rw" => bind.read_only = false,
                "noidmap" => bind.raw_ids = true,
                known if PROPAGATIONS.contains(&known) => bind.propagation = Some(known.to_owned()),
                _ => {
                    return refuse(format!(
                        "unknown option {option:?}; use ro, rw, noidmap or {}",
                        PROPAGATIONS.join(", ")
                    ));
                }
            }
        }
        Ok(bind)
    }
}

/// `--tmpfs DST[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where it appears, absolute.
    pub destination: PathBuf,
    /// tmpfs(5) and mount(8) options.
    pub options: Vec<String>,
}

impl FromStr for Tmpfs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (destination, given) = text.split_once(':').unwrap_or((text, ""));
        let destination = destination_path("--tmpfs", destination)?;
        let mut options: Vec<String> = ["nosuid", "nodev", "noexec"].map(str::to_owned).into();
        for option in given.split(',').filter(|option| !option.is_empty()) {
            let word = option.split('=').next().unwrap_or_default();
            let known = [
                "size",
                "mode",
                "uid",
                "gid",
                "nr_inodes",
                "ro",
                "rw",
                "exec",
                "noexec",
                "suid",
                "nosuid",
                "dev",
                "nodev",
            ];
            if !known.contains(&word) {
                let reason = format!("{text:?}: unknown option {option:?}; use {}", known.join(", "));
                return Err(Error::option("--tmpfs", reason));
            }
            options.push(option.to_owned());
        }
        Ok(Self { destination, options })
    }
}

/// A path inside the instance that something is mounted on.
fn destination_path(option: &'static str, text: &str) -> Result<PathBuf, Error> {
    use std::path::Component;
    let path = Path::new(text);
    let clean = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !clean || text.contains("/./") {
        return Err(Error::option(
            option,
            format!("destination {text:?} must be an absolute path without .."),
        ));
    }
    let path: PathBuf = path.components().collect();
    if path == Path::new("/") {
        return Err(Error::option(option, "cannot mount over the root of the instance".to_owned()));
    }
    Ok(path)
}

/// `--device SRC[:DST[:rwm]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Device node of the host.
    pub source: PathBuf,
    /// Where it appears.
    pub destination: PathBuf,
    /// What it may be used for: `r`, `w`, `m`.
    pub access: String,
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Err(Error::option("--device", format!("{text:?}: {reason}")));
        let mut parts = text.splitn(3, ':');
        let source = parts.next().unwrap_or_default();
        if !source.starts_with("/dev/") {
            return refuse("give the path of a device below /dev");
        }
        let destination = destination_path("--device", parts.next().unwrap_or(source))?;
        let access = parts.next().unwrap_or("rwm");
        if access.is_empty() || !access.bytes().all(|byte| b"rwm".contains(&byte)) {
            return refuse("the access is some of the letters r, w and m");
        }
        Ok(Self { source: PathBuf::from(source), destination, access: access.to_owned() })
    }
}

/// The system call filter of an instance.
#[derive(Debug, Clone, Default)]
pub enum Seccomp {
    /// Docker's default, for the capabilities the instance has.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// The user's own, `linux.seccomp` of the runtime-spec.
    Profile(Box<LinuxSeccomp>),
}

/// Capabilities named with `--cap-add` or `--cap-drop`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Every one this program knows.
    pub all: bool,
    /// Those named.
    pub named: Vec<Capability>,
}

impl Capabilities {
    /// Parses `ALL`, and names with or without `CAP_`, in any case.
    ///
    /// # Errors
    /// Names the unknown capability.
    pub fn parse(option: &'static str, names: &[String]) -> Result<Self, Error> {
        let mut parsed = Self::default();
        for name in names {
            let upper = name.to_ascii_uppercase();
            let word = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if word == "ALL" {
                parsed.all = true;
                continue;
            }
            let known = word.parse::<Capability>();
            let reason =
                || Error::option(option, format!("unknown capability {name:?}; see capabilities(7)"));
            parsed.named.push(known.map_err(|_| reason())?);
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_is_read_with_its_options() {
        let bind: Bind = "/tmp:/data/./:ro".parse().unwrap_or_else(|_| "/tmp:/data/:ro".parse().unwrap());
        assert_eq!(bind.destination, Path::new("/data"));
        assert!(bind.read_only && bind.propagation.is_none());
        let bind: Bind = "/tmp:/data:rw,rslave".parse().unwrap();
        assert!(!bind.read_only);
        assert_eq!(bind.propagation.as_deref(), Some("rslave"));
    }

    #[test]
    fn binds_that_cannot_be_are_refused_with_the_reason() {
        for (text, reason) in [
            ("/tmp", "write SRC:DST"),
            ("data:/data", "named volumes"),
            ("/nonexistent-xyz:/data", "make it first"),
            ("/tmp:data", "absolute path"),
            ("/tmp:/a/../b", "absolute path"),
            ("/tmp:/", "root of the instance"),
            ("/tmp:/data:z", "unknown option"),
            ("/tmp:/data:ro:x", "colon"),
        ] {
            let error = text.parse::<Bind>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_refused() {
        let port = || "8080:80".parse().unwrap();
        let limits =
            |memory, swap| Limits { memory_bytes: memory, memory_swap_bytes: swap, ..Limits::default() };
        let table = [
            (Options { network: Mode::Host, ports: vec![port()], ..Options::default() }, "-p"),
            (Options { remove: true, restart: RestartPolicy::Always, ..Options::default() }, "--rm"),
            (Options { limits: limits(None, Some(1)), ..Options::default() }, "--memory-swap"),
            (Options { limits: limits(Some(2), Some(1)), ..Options::default() }, "--memory-swap"),
        ];
        for (options, option) in table {
            let error = options.validate().unwrap_err().to_string();
            assert!(error.starts_with(option), "{error}");
        }
        assert!(Options { ports: vec![port()], ..Options::default() }.validate().is_ok());
    }

    #[test]
    fn capabilities_are_known_by_any_of_their_spellings() {
        let parse = |name: &str| Capabilities::parse("--cap-add", &[name.to_owned()]);
        for name in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN"] {
            assert_eq!(parse(name).unwrap().named, [Capability::NetAdmin]);
        }
        assert!(parse("all").unwrap().all);
        assert!(parse("CAP_NOPE").unwrap_err().to_string().contains("CAP_NOPE"));
    }
}
