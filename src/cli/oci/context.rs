//! Options before the command, and what all commands share.
use super::log::{Log, LogFormat};
use crate::sandbox::Caller;
use anyhow::Context as _;
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct GlobalOptions {
    /// Directory of the containers' state, best on a tmpfs [default: /run/wharf-oci, and for users other than
    /// root $XDG_RUNTIME_DIR/wharf-oci]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
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
    /// Run a container without a cgroup where one may not be made, and no limit or linux.cgroupsPath needs it:
    /// true, false, or auto, which is true for everybody but root of the host
    #[arg(long, value_name = "BOOL", default_value = "auto", value_parser = rootless)]
    rootless: Rootless,
}

/// `--rootless`; `None` is auto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rootless(Option<bool>);

/// What runc takes: Go's words for truth, and auto.
fn rootless(text: &str) -> Result<Rootless, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Rootless(Some(true))),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Rootless(Some(false))),
        _ if text.is_empty() || text.eq_ignore_ascii_case("auto") => Ok(Rootless(None)),
        _ => Err("write true, false or auto"),
    }
}

/// What all commands share.
#[derive(Debug)]
pub(super) struct Context {
    /// Directory of the containers' state; `None` where there is none.
    root: Option<PathBuf>,
    pub(super) log: Log,
    /// What `create` and `run` do; other commands know it from the container's record.
    pub(super) systemd_cgroup: bool,
    /// [`crate::container::CreateOptions::rootless`].
    pub(super) rootless: Option<bool>,
}

impl Context {
    pub(super) fn new(options: GlobalOptions) -> Self {
        let root = options.root.or_else(|| {
            let is_root = rustix::process::geteuid().is_root();
            default_root(|name| std::env::var_os(name), Caller::of_this_process(), is_root)
        });
        Self {
            root,
            log: Log::new(options.log, options.log_format, options.debug),
            systemd_cgroup: options.systemd_cgroup,
            rootless: options.rootless.0,
        }
    }

    /// Directory of the containers' state.
    pub(super) fn root(&self) -> anyhow::Result<&Path> {
        self.root.as_deref().context(
            "XDG_RUNTIME_DIR is not set, which names the directory for the state of a user's containers: log in \
             with a session of your own, set it to a directory of mode 0700, or give --root",
        )
    }
}

fn default_root(
    variable: impl Fn(&str) -> Option<OsString>,
    caller: Caller,
    is_root: bool,
) -> Option<PathBuf> {
    if !caller.acts_for_a_user(is_root, &variable) {
        return Some("/run/wharf-oci".into());
    }
    let runtime_directory = variable("XDG_RUNTIME_DIR").filter(|path| !path.is_empty())?;
    Some(Path::new(&runtime_directory).join("wharf-oci"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rootless_takes_the_words_that_runc_takes() {
        let read = |text| rootless(text).map(|Rootless(value)| value);
        assert_eq!([read("true"), read("1"), read("TRUE")], [Ok(Some(true)); 3]);
        assert_eq!([read("false"), read("f")], [Ok(Some(false)); 2]);
        assert_eq!([read(""), read("Auto")], [Ok(None); 2]);
        assert!(read("yes").is_err());
    }

    #[test]
    fn state_of_users_is_in_their_runtime_directory() {
        let at = |variables: &[(&str, &str)], caller, is_root| {
            let value =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            default_root(value, caller, is_root)
        };
        let (host, own) = (Some("/run/wharf-oci".into()), Some("/run/user/1/wharf-oci".into()));
        let xdg = ("XDG_RUNTIME_DIR", "/run/user/1");
        assert_eq!(at(&[xdg], Caller::HostRoot, true), host);
        assert_eq!(at(&[xdg], Caller::User, false), own);
        assert_eq!(at(&[], Caller::User, false), None);
        assert_eq!(at(&[("XDG_RUNTIME_DIR", "")], Caller::User, false), None);
        assert_eq!(at(&[xdg, ("USER", "web")], Caller::NamespaceRoot, true), own);
        assert_eq!(at(&[xdg, ("USER", "root")], Caller::NamespaceRoot, true), host);
        assert_eq!(at(&[], Caller::NamespaceRoot, true), host);
    }
}
