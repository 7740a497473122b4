//! `checkpoint`: from a running container to an image.
use super::criu::{Criu, bundle_error};
use super::rpc::{self, Action, option};
use super::{CriuOptions, external, has_terminal, streams};
use crate::container::{Container, Error, Status};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What only `checkpoint` decides.
#[derive(Debug, Default)]
pub struct DumpOptions {
    /// What restore decides too.
    pub criu: CriuOptions,
    /// The previous image of a series, relative to the image.
    pub parent_path: Option<PathBuf>,
    /// Let the container go on.
    pub leave_running: bool,
    /// Save memory only, as the beginning of a series; the container goes on.
    pub pre_dump: bool,
    /// Leave out connections that are being established.
    pub tcp_skip_in_flight: bool,
    /// Where pages are sent instead of into files.
    pub page_server: Option<PageServer>,
    /// Gets a zero byte, and is closed, when pages can be asked for.
    pub status: Option<File>,
}

/// A server of `criu page-server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageServer {
    /// IP address or host name.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

/// Saves the container. One that does not go on is deleted.
pub(in crate::container) fn checkpoint(container: &Container, mut options: DumpOptions) -> Result<(), Error> {
    let status = options.status.take();
    dump(container, &options, status)?;
    if !options.leave_running && !options.pre_dump {
        container.delete(true)?;
    }
    Ok(())
}

fn dump(container: &Container, options: &DumpOptions, mut status_file: Option<File>) -> Result<(), Error> {
    super::must_be_host_root("dump")?;
    let _lock = container.directory.lock()?;
    let status = container.status_under_lock()?;
    if !matches!(status, Status::Running | Status::Paused) {
        let id = container.record.id.to_string();
        return Err(Error::WrongStatus { action: "checkpoint", id, status });
    }
    let spec = container.config()?;
    let image = &options.criu.image_path;
    for directory in [Some(image), options.criu.work_path.as_ref()].into_iter().flatten() {
        std::fs::create_dir_all(directory).map_err(bundle_error("make", directory))?;
    }
    let mut criu = Criu::new(if options.pre_dump { Action::PreDump } else { Action::Dump }, &options.criu)?;
    let pid = container.raw_pid();
    criu.number(option::PID, i64::from(pid));
    criu.path(option::ROOT, &container.record.rootfs);
    criu.flag(option::LEAVE_RUNNING, options.leave_running);
    criu.flag(option::TRACK_MEM, options.pre_dump || options.parent_path.is_some());
    criu.flag(option::TCP_SKIP_IN_FLIGHT, options.tcp_skip_in_flight);
    // Its master is held by an engine or another caller, outside.
    criu.flag(option::ORPHAN_PTS_MASTER, has_terminal(&spec));
    if let Some(directory) = container.own_cgroup().freezer() {
        criu.path(option::FREEZE_CGROUP, directory);
    }
    if let Some(parent) = &options.parent_path {
        check_parent(image, parent)?;
        criu.path(option::PARENT_IMG, parent);
    }
    if let Some(server) = &options.page_server {
        criu.message(option::PAGE_SERVER, &rpc::page_server(&server.address, server.port));
    }
    external::name_for_dump(&mut criu, &spec, pid)?;
    if !options.pre_dump {
        streams::remember(&mut criu, pid, image)?;
    }
    criu.flag(option::NOTIFY_SCRIPTS, status_file.is_some());
    let worker = criu.start(|_| {})?;
    criu.ask(worker, &mut |moment| match status_file.take_if(|_| moment.name == STATUS_READY) {
        Some(mut file) => file.write_all(&[0]).map_err(bundle_error("write", Path::new("--status-fd"))),
        None => Ok(()),
    })
    .map(drop)
}

/// The moment at which pages can be asked for.
const STATUS_READY: &str = "status-ready";

fn check_parent(image: &Path, parent: &Path) -> Result<(), Error> {
    let refuse = |reason: &str| {
        Err(Error::Criu { action: "dump", reason: format!("--parent-path {} {reason}", parent.display()) })
    };
    match () {
        () if parent.is_absolute() => refuse("must be relative to the image"),
        () if !image.join(parent).is_dir() => refuse("is no directory beside the image"),
        () => Ok(()),
    }
}
