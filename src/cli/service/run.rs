//! `wharf run`
use super::attach;
use super::layer_limits::LayerLimitOptions;
use super::limits::LimitOptions;
use super::listing::print_line;
use super::policy::PolicyOption;
use super::progress::{ProgressKind, Reporter};
use super::pull::{RegistryOptions, pull_to_run};
use super::values::{environment, hostname, key_value, seconds, size, upper};
use crate::cli::terminal;
use crate::container::parse_signal;
use crate::image::{self, Overrides};
use crate::network::{ExtraHost, Mode, PublishedPort};
use crate::service::log::LogLimits;
use crate::service::{
    self, Attachment, Bind, Capabilities, Device, InstanceName, Options, RestartPolicy, Roots, Seccomp,
    Tmpfs, UpperKind, UserNamespace, create, start,
};
use anyhow::{Context as _, bail};
use clap::{ArgAction, Args, ValueEnum};
use oci_spec::runtime::{LinuxSeccomp, PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Make an instance of an image and start it
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
#[command(
    after_help = "Without -d the instance's output is copied here until it ends, and signals are passed on to it. \
        Sizes are bytes, or a number with K, M or G, powers of 1024."
)]
pub(super) struct Run {
    /// Name or digest of the image
    image: String,
    /// Program and arguments in place of the image's
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Leave once it runs, and print its name
    #[arg(long, short)]
    detach: bool,
    /// Name of the instance [default: made from the image's]
    #[arg(long)]
    name: Option<InstanceName>,
    /// Pass standard input on to it
    #[arg(long, short, conflicts_with = "detach")]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
    /// Whether to fetch the image: when it is missing, always, or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = PullPolicy::Missing)]
    pull: PullPolicy,
    /// When to start it again: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: RestartPolicy,
    /// Run a reaper as its process 1
    #[arg(long)]
    init: bool,
    /// Signal that asks it to end [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal)]
    stop_signal: Option<i32>,
    /// Time it may take to end before it is killed, seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    stop_timeout: Duration,
    /// Label, for your own use
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Output kept in one log file before it is rotated
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "10M")]
    log_size: u64,
    /// Log files kept
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    log_files: u32,

    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    process: ProcessOptions,
    #[command(flatten)]
    files: FileOptions,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    privileges: PrivilegeOptions,
    #[command(flatten)]
    layer_limits: LayerLimitOptions,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// When the image is fetched from its registry first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PullPolicy {
    Missing,
    Always,
    Never,
}

/// What is executed, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
struct ProcessOptions {
    /// Program in place of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Environment variable; KEY alone takes the value from this shell
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = environment)]
    env: Vec<(String, String)>,
    /// File of environment variables, KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// User and group, names or numbers
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Limit of its processes, setrlimit(2)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<PosixRlimit>,
}

/// Its file systems.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
struct FileOptions {
    /// Directory or file of the host; options: ro, rw, mount propagation, and noidmap (with --userns: its ids
    /// as the host has them)
    #[arg(long, short, value_name = "SRC:DST[:OPTIONS]")]
    volume: Vec<Bind>,
    /// File system in memory; options: size, mode, uid, gid, exec …
    #[arg(long, value_name = "DST[:OPTIONS]")]
    tmpfs: Vec<Tmpfs>,
    /// Make its root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Where what it writes to its root goes: disk, kept until it is removed, or tmpfs[:SIZE], memory, gone when
    /// it stops
    #[arg(long, value_name = "WHERE", value_parser = upper, default_value = "disk")]
    upper: UpperKind,
    /// Device of the host
    #[arg(long, value_name = "SRC[:DST[:rwm]]")]
    device: Vec<Device>,
}

/// How it is reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
struct NetworkOptions {
    /// bridge: an address of its own; host: the host's network; none: loopback only
    #[arg(long, value_name = "MODE", default_value = "bridge")]
    network: Mode,
    /// Port of the host that leads to it
    #[arg(long, short, value_name = "[IP:]PORT:PORT[/tcp|udp]")]
    publish: Vec<PublishedPort>,
    /// Its host name [default: its name]
    #[arg(long, short = 'h', value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,
    /// Line of its /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<ExtraHost>,
    /// Name server in place of the host's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Kernel parameter of its own namespaces
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    sysctl: Vec<(String, String)>,
}

/// What it may do.
#[derive(Debug, Args)]
#[command(next_help_heading = "Privileges")]
struct PrivilegeOptions {
    /// As whose ids it runs: host; auto: 65536 ids that nothing else has; START:SIZE: these ids of the host
    #[arg(long, value_name = "MODE", default_value = "host")]
    userns: UserNamespace,
    /// Capability to add, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Capability to take away, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// seccomp=unconfined, seccomp=FILE (linux.seccomp of the OCI runtime-spec), no-new-privileges[=false]
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Not supported
    #[arg(long, hide = true)]
    privileged: bool,
}

impl Run {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let policy = self.policy.read()?;
        let detach = self.detach;
        let interactive = self.interactive;
        let tty = self.tty;
        if tty && interactive && !rustix::termios::isatty(rustix::stdio::stdin()) {
            bail!("-it: standard input is not a terminal; leave out -t");
        }
        let (image, pull) = (self.image.clone(), self.pull);
        let (limits, registry) = (self.layer_limits.resolve(), self.registry.resolve());
        let options = self.options()?;
        let make = || {
            // Layers are unpacked by whoever needs them first. That takes a while only where somebody looks on.
            let reporter = Reporter::new(ProgressKind::Auto.only_bars());
            let instance = create(roots, &image, &policy, &options, &reporter);
            reporter.end();
            instance
        };
        let fetch = || pull_to_run(roots, &image, &policy, limits, &registry);
        if pull == PullPolicy::Always {
            fetch()?;
        }
        let instance = match make() {
            // A bare digest names an image here and none of a registry.
            Err(service::Error::Image(image::Error::NotFound(_)))
                if pull == PullPolicy::Missing && !image.starts_with("sha256:") =>
            {
                fetch()?;
                make()?
            }
            made => made?,
        };
        let started = if detach {
            start(&instance, Attachment::default()).map(|_| 0).map_err(anyhow::Error::from)
        } else {
            return attach::run(&instance, interactive, tty);
        };
        match started {
            Ok(status) => {
                print_line(instance.name())?;
                Ok(status)
            }
            Err(error) => Err(discard(instance, error)),
        }
    }

    fn options(self) -> anyhow::Result<Options> {
        if self.privileges.privileged {
            bail!(
                "--privileged is not supported: it gives the host away; name what is needed with --cap-add and --device"
            );
        }
        let (seccomp, may_gain_privileges) = security_options(&self.privileges.security_opt)?;
        let options = Options {
            name: self.name,
            limits: self.limits.resolve()?,
            layer_limits: self.layer_limits.resolve(),
            overrides: Overrides {
                entrypoint: self.process.entrypoint.map(|program| match program.as_str() {
                    "" => Vec::new(),
                    _ => vec![program],
                }),
                command: self.command,
                env: all_environment(&self.process.env_file, self.process.env)?,
                user: self.process.user,
                workdir: self.process.workdir,
                hostname: self.network.hostname,
            },
            binds: self.files.volume,
            tmpfs: self.files.tmpfs,
            devices: self.files.device,
            read_only: self.files.read_only,
            upper: self.files.upper,
            userns: self.privileges.userns,
            network: self.network.network,
            ports: self.network.publish,
            add_hosts: self.network.add_host.into_iter().map(Into::into).collect(),
            dns: self.network.dns,
            restart: self.restart,
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            init: self.init,
            terminal: self.tty,
            console_size: self.tty.then(terminal::callers_size).flatten(),
            remove: self.rm,
            cap_add: Capabilities::parse("--cap-add", &self.privileges.cap_add)?,
            cap_drop: Capabilities::parse("--cap-drop", &self.privileges.cap_drop)?,
            seccomp,
            may_gain_privileges,
            ulimits: self.process.ulimit,
            sysctls: self.network.sysctl.into_iter().collect(),
            labels: self.label.into_iter().collect(),
            log: LogLimits { file_bytes: self.log_size.max(4096), files: self.log_files },
        };
        Ok(options)
    }

    /// What is to be executed.
    #[cfg(test)]
    pub(super) fn command(&self) -> &[String] {
        &self.command
    }
}

/// Removes an instance that could not be started, and hands the reason on.
pub(super) fn discard(instance: crate::service::Instance, error: anyhow::Error) -> anyhow::Error {
    match instance.remove() {
        // With --rm its supervisor may have removed it already.
        Ok(()) | Err(crate::service::Error::NoInstance(_) | crate::service::Error::File { .. }) => error,
        Err(remains) => error.context(format!("not everything could be removed again ({remains})")),
    }
}

fn all_environment(files: &[PathBuf], given: Vec<(String, String)>) -> anyhow::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for path in files {
        all.append(&mut environment_file(path).with_context(|| format!("--env-file {}", path.display()))?);
    }
    // A variable of the command line counts over one of a file.
    all.extend(given);
    Ok(all)
}

fn environment_file(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(environment).collect()
}

fn security_options(texts: &[String]) -> anyhow::Result<(Seccomp, bool)> {
    let mut seccomp = Seccomp::Default;
    let mut may_gain_privileges = false;
    for text in texts {
        match text.split_once('=').unwrap_or((text, "")) {
            ("seccomp", "unconfined") => seccomp = Seccomp::Unconfined,
            ("seccomp", path) if !path.is_empty() => {
                seccomp = Seccomp::Profile(Box::new(seccomp_profile(Path::new(path))?));
            }
            ("no-new-privileges", "" | "true") => may_gain_privileges = false,
            ("no-new-privileges", "false") => may_gain_privileges = true,
            _ => bail!(
                "--security-opt: unknown option {text:?}; use seccomp=unconfined, seccomp=FILE or no-new-privileges[=false]"
            ),
        }
    }
    Ok((seccomp, may_gain_privileges))
}

fn seccomp_profile(path: &Path) -> anyhow::Result<LinuxSeccomp> {
    let text = std::fs::read(path).with_context(|| format!("--security-opt: read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!("--security-opt: {} is not a linux.seccomp object of the OCI runtime-spec", path.display())
    })
}

fn ulimit(text: &str) -> anyhow::Result<PosixRlimit> {
    let shape = || format!("{text:?} is not NAME=SOFT[:HARD], such as nofile=1024:4096");
    let (name, values) = text.split_once('=').with_context(shape)?;
    let known = format!("RLIMIT_{}", name.to_ascii_uppercase()).parse::<PosixRlimitType>();
    let typ = known
        .ok()
        .with_context(|| format!("unknown limit {name:?}; see setrlimit(2), such as nofile or core"))?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| match text {
        "unlimited" | "-1" => Some(u64::MAX),
        digits => digits.parse().ok(),
    };
    let (soft, hard) = (value(soft).with_context(shape)?, value(hard).with_context(shape)?);
    if soft > hard {
        bail!("{text:?}: the soft limit is above the hard one");
    }
    Ok(PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_have_a_name_and_one_or_two_values() {
        let limit = ulimit("nofile=1024:4096").unwrap();
        assert_eq!((limit.typ(), limit.soft(), limit.hard()), (PosixRlimitType::RlimitNofile, 1024, 4096));
        assert_eq!(ulimit("core=unlimited").unwrap().hard(), u64::MAX);
        for text in ["nofile", "nope=1", "nofile=x", "nofile=2:1"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_environment_file_has_a_variable_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\nA=1\n\n B=x y=z\n").unwrap();
        let expected = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "x y=z".to_owned())];
        assert_eq!(all_environment(&[file.path().to_owned()], Vec::new()).unwrap(), expected);
        std::fs::write(file.path(), "=x\n").unwrap();
        assert!(all_environment(&[file.path().to_owned()], Vec::new()).is_err());
    }

    #[test]
    fn security_options_are_known_or_refused() {
        let parse = |text: &str| security_options(&[text.to_owned()]);
        assert!(matches!(parse("seccomp=unconfined").unwrap(), (Seccomp::Unconfined, false)));
        assert!(matches!(parse("no-new-privileges=false").unwrap(), (Seccomp::Default, true)));
        for text in ["seccomp", "seccomp=/nonexistent", "label=disable", "apparmor=x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
