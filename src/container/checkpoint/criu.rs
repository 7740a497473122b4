//! A call of CRIU that is being put together: the request, and the descriptors that it speaks of.
use super::protobuf::Message;
use super::rpc::{self, Action, option};
use super::worker::{Moment, Worker, find};
use super::{CgroupsMode, CriuOptions, log};
use crate::container::Error;
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that can be logged; the cause of a failure is read from the log.
const LOG_LEVEL: i64 = 4;

/// One call.
#[derive(Debug)]
pub(super) struct Criu {
    action: Action,
    options: Message,
    /// Directories of the image and of log and working files.
    directories: [PathBuf; 2],
    /// Descriptors that criu's process is born with.
    inherited: Vec<OwnedFd>,
}

impl Criu {
    /// A call with what the options say.
    pub(super) fn new(action: Action, options: &CriuOptions) -> Result<Self, Error> {
        let work = options.work_path.as_ref().unwrap_or(&options.image_path);
        let directories = [absolute(&options.image_path)?, absolute(work)?];
        let mut message = Message::default();
        message.bytes(option::LOG_FILE, log_name(action).as_bytes());
        message.integer(option::LOG_LEVEL, LOG_LEVEL);
        message.flag(option::TCP_ESTABLISHED, options.tcp_established);
        message.flag(option::EXT_UNIX_SK, options.ext_unix_sk);
        message.flag(option::SHELL_JOB, options.shell_job);
        message.flag(option::FILE_LOCKS, options.file_locks);
        message.flag(option::AUTO_DEDUP, options.auto_dedup);
        message.flag(option::LAZY_PAGES, options.lazy_pages);
        let mode = options.manage_cgroups.unwrap_or(CgroupsMode::Soft);
        message.integer(option::MANAGE_CGROUPS_MODE, mode.number());
        if options.empty_network {
            message.integer(option::EMPTY_NS, i64::from(libc::CLONE_NEWNET));
        }
        if find("iptables-restore").is_none() {
            /// `criu_network_lock_method` NFTABLES.
            const NFTABLES: i64 = 2;
            message.integer(option::NETWORK_LOCK, NFTABLES);
        }
        Ok(Self { action, options: message, directories, inherited: Vec::new() })
    }

    pub(super) fn flag(&mut self, field: u32, set: bool) {
        self.options.flag(field, set);
    }

    pub(super) fn number(&mut self, field: u32, number: i64) {
        self.options.integer(field, number);
    }

    pub(super) fn text(&mut self, field: u32, text: &str) {
        self.options.bytes(field, text.as_bytes());
    }

    pub(super) fn path(&mut self, field: u32, path: &Path) {
        self.options.bytes(field, path.as_os_str().as_bytes());
    }

    pub(super) fn message(&mut self, field: u32, message: &Message) {
        self.options.message(field, message);
    }

    /// Names something outside the container, see criu(8) `--external`.
    pub(super) fn external(&mut self, resource: &str) {
        self.text(option::EXTERNAL, resource);
    }

    /// Has CRIU use a descriptor for what the image knows by this key, see criu(8) `--inherit-fd`. It must
    /// stay open over an execve.
    pub(super) fn inherit(&mut self, key: &str, descriptor: OwnedFd) {
        self.message(option::INHERIT_FD, &rpc::inherited(key, descriptor.as_raw_fd()));
        self.inherited.push(descriptor);
    }

    /// Starts criu, which waits for [`Criu::ask`], as `arrange` wants its process.
    pub(super) fn start(&self, arrange: impl FnOnce(&mut Command)) -> Result<Worker, Error> {
        Worker::start(self.action, arrange)
    }

    /// Has it done. `attend` is called at CRIU's moments, and its error is the call's. Returns the first
    /// restored process.
    pub(super) fn ask(
        mut self,
        worker: Worker,
        attend: &mut dyn FnMut(Moment) -> Result<(), Error>,
    ) -> Result<Option<Pid>, Error> {
        // criu works in these directories by way of our descriptors, and mounts in one of them, so that they
        // must be those of its own mount namespace.
        let opened = worker.open(&self.directories)?;
        self.number(option::IMAGES_DIR_FD, i64::from(opened[0].as_raw_fd()));
        self.number(option::WORK_DIR_FD, i64::from(opened[1].as_raw_fd()));
        let request = rpc::request(self.action, &self.options);
        let end = worker.converse(request.as_bytes(), attend)?;
        if end.success {
            return Ok(end.pid.and_then(Pid::from_raw));
        }
        let log = self.directories[1].join(log_name(self.action));
        let cause = log::cause(&log).or(end.error).map(|cause| cause.trim().to_owned());
        let cause = cause.unwrap_or_else(|| end.status.to_string());
        let reason = format!("{cause}; see {}", log.display());
        Err(Error::Criu { action: self.action.word(), reason })
    }
}

impl CgroupsMode {
    /// `criu_cg_mode`.
    fn number(self) -> i64 {
        match self {
            Self::Ignore => 0,
            Self::Soft => 3,
            Self::Full => 4,
            Self::Strict => 5,
        }
    }
}

fn log_name(action: Action) -> String {
    format!("{}.log", action.word())
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(bundle_error("find", path))
}

pub(super) fn bundle_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Bundle { action, path, source }
}
