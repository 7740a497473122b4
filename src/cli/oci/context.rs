//! Options before the command, and what all commands share.
use super::log::{Log, LogFormat};
use anyhow::bail;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct GlobalOptions {
    /// Directory of the containers' state; best on a tmpfs
    #[arg(long, value_name = "DIR", default_value = "/run/wharf-oci")]
    root: PathBuf,
    /// Append log lines to this file (errors go to standard error as well)
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of the log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log what is done, too
    #[arg(long)]
    debug: bool,
    /// Have systemd make the cgroup of a new container: a transient scope, named by linux.cgroupsPath as
    /// slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// Pass over cgroup permission errors: true, false or auto. Root has none; other callers need a cgroup
    /// of their own, so that for them `true` is an error
    #[arg(long, value_name = "BOOL", default_value = "auto", value_parser = rootless)]
    rootless: Rootless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rootless {
    True,
    False,
    Auto,
}

/// What runc takes: Go's words for truth, and auto.
fn rootless(text: &str) -> Result<Rootless, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Rootless::True),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Rootless::False),
        _ if text.is_empty() || text.eq_ignore_ascii_case("auto") => Ok(Rootless::Auto),
        _ => Err("write true, false or auto"),
    }
}

/// What all commands share.
#[derive(Debug)]
pub(super) struct Context {
    /// Directory of the containers' state.
    pub(super) root: PathBuf,
    pub(super) log: Log,
    /// What `create` and `run` do; other commands know it from the container's record.
    pub(super) systemd_cgroup: bool,
    rootless: Rootless,
}

impl Context {
    pub(super) fn new(options: GlobalOptions) -> Self {
        Self {
            root: options.root,
            log: Log::new(options.log, options.log_format, options.debug),
            systemd_cgroup: options.systemd_cgroup,
            rootless: options.rootless,
        }
    }

    /// Refuses what is not supported, in the log as everywhere.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.rootless == Rootless::True && !rustix::process::geteuid().is_root() {
            bail!(
                "--rootless=true: wharf-oci runs no container without a cgroup; run as root, or leave it out and \
                 set linux.cgroupsPath to a cgroup that you may write"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rootless_takes_the_words_that_runc_takes() {
        assert_eq!([rootless("true"), rootless("1"), rootless("TRUE")], [Ok(Rootless::True); 3]);
        assert_eq!([rootless("false"), rootless("f")], [Ok(Rootless::False); 2]);
        assert_eq!([rootless(""), rootless("Auto")], [Ok(Rootless::Auto); 2]);
        assert!(rootless("yes").is_err());
    }
}
