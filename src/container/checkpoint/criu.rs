//! Runs of the program `criu`.
use super::{CgroupsMode, CriuOptions};
use crate::container::Error;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SEARCHED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One call of criu being put together.
#[derive(Debug)]
pub(super) struct Criu {
    action: &'static str,
    arguments: Vec<OsString>,
    log: PathBuf,
}

impl Criu {
    /// A call with what the options say; `action` is criu's command.
    pub(super) fn new(action: &'static str, options: &CriuOptions) -> Result<Self, Error> {
        let work = options.work_path.as_ref().unwrap_or(&options.image_path);
        let log_name = format!("{action}.log");
        let mut criu = Self { action, arguments: vec![action.into()], log: work.join(&log_name) };
        criu.option("--images-dir", &absolute(&options.image_path)?);
        criu.option("--work-dir", &absolute(work)?);
        criu.option("--log-file", log_name);
        criu.flag("-v4", true);
        criu.flag("--tcp-established", options.tcp_established);
        criu.flag("--ext-unix-sk", options.ext_unix_sk);
        criu.flag("--shell-job", options.shell_job);
        criu.flag("--file-locks", options.file_locks);
        criu.flag("--auto-dedup", options.auto_dedup);
        criu.flag("--lazy-pages", options.lazy_pages);
        let mode = options.manage_cgroups.unwrap_or(CgroupsMode::Soft);
        criu.argument(format!("--manage-cgroups={}", mode.word()));
        if options.empty_network {
            criu.option("--empty-ns", "net");
        }
        if find("iptables-restore").is_none() {
            criu.option("--network-lock", "nftables");
        }
        Ok(criu)
    }

    pub(super) fn argument(&mut self, argument: impl Into<OsString>) {
        self.arguments.push(argument.into());
    }

    pub(super) fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.arguments.push(name.into());
        self.arguments.push(value.as_ref().to_owned());
    }

    pub(super) fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.argument(name);
        }
    }

    /// Runs it to its end, as `arrange` wants its process.
    pub(super) fn run(self, arrange: impl FnOnce(&mut Command)) -> Result<(), Error> {
        let failed = |reason: String| Error::Criu { action: self.action, reason };
        let program = find("criu").ok_or_else(|| {
            failed(format!("executable file not found in {SEARCHED}; install the package criu"))
        })?;
        let mut command = Command::new(program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear().env("PATH", SEARCHED);
        arrange(&mut command);
        let status = command.status().map_err(|error| failed(error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        Err(failed(format!("{status}{}; see {}", cause(&self.log), self.log.display())))
    }
}

/// The cause is the last error before CRIU gives up: what it could do without comes before it, and what
/// came of giving up after it.
fn cause(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let errors = text.lines().filter(|line| line.contains("Error ("));
    let before = errors.take_while(|line| !line.contains(" FAILED."));
    before.last().map(|line| format!(": {}", line.trim())).unwrap_or_default()
}

fn find(program: &str) -> Option<PathBuf> {
    let given = std::env::var("PATH").ok();
    let searched = given.as_deref().into_iter().chain([SEARCHED]).flat_map(|path| path.split(':'));
    searched
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_absolute() && path.is_file())
}

/// CRIU changes its working directory before it opens these.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(bundle_error("find", path))
}

pub(super) fn bundle_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Bundle { action, path, source }
}
