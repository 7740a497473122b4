//! `checkpoint`: from a running container to an image.
use super::criu::{Criu, bundle_error};
use super::{CriuOptions, external, streams};
use crate::container::{Container, Error, Status};
use std::path::PathBuf;

/// What only `checkpoint` decides.
#[derive(Debug, Clone, Default)]
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
    /// A descriptor of the caller on which CRIU says that pages can be asked for.
    pub status_fd: Option<i32>,
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
pub(in crate::container) fn checkpoint(container: Container, options: &DumpOptions) -> Result<(), Error> {
    dump(&container, options)?;
    if !options.leave_running && !options.pre_dump {
        container.delete(true)?;
    }
    Ok(())
}

fn dump(container: &Container, options: &DumpOptions) -> Result<(), Error> {
    super::must_be_host_root("dump")?;
    let _lock = container.directory.lock()?;
    let status = container.status_under_lock()?;
    if !matches!(status, Status::Running | Status::Paused) {
        let id = container.record.id.to_string();
        return Err(Error::WrongStatus { action: "checkpoint", id, status });
    }
    let spec = container.config()?;
    if spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false) {
        let reason = "is true; a container with a terminal cannot be checkpointed, for the terminal's master is held outside";
        return Err(Error::config("process.terminal", reason));
    }
    let image = &options.criu.image_path;
    for directory in [Some(image), options.criu.work_path.as_ref()].into_iter().flatten() {
        std::fs::create_dir_all(directory).map_err(bundle_error("make", directory))?;
    }
    let mut criu = Criu::new(if options.pre_dump { "pre-dump" } else { "dump" }, &options.criu)?;
    let pid = container.raw_pid();
    criu.option("--tree", pid.to_string());
    criu.option("--root", &container.record.rootfs);
    criu.flag("--leave-running", options.leave_running);
    criu.flag("--track-mem", options.pre_dump);
    criu.flag("--skip-in-flight", options.tcp_skip_in_flight);
    if let Some(directory) = container.own_cgroup().freezer() {
        criu.option("--freeze-cgroup", directory);
    }
    if let Some(parent) = &options.parent_path {
        check_parent(image, parent)?;
        criu.option("--prev-images-dir", parent);
        criu.flag("--track-mem", !options.pre_dump);
    }
    if let Some(server) = &options.page_server {
        criu.argument("--page-server");
        criu.option("--address", &server.address);
        criu.option("--port", server.port.to_string());
    }
    if let Some(number) = options.status_fd {
        criu.option("--status-fd", number.to_string());
    }
    external::name_for_dump(&mut criu, &spec, pid)?;
    if !options.pre_dump {
        streams::remember(&mut criu, pid, image)?;
    }
    criu.run(|_| {})
}

fn check_parent(image: &std::path::Path, parent: &std::path::Path) -> Result<(), Error> {
    let refuse = |reason: &str| {
        Err(Error::Criu { action: "dump", reason: format!("--parent-path {} {reason}", parent.display()) })
    };
    match () {
        () if parent.is_absolute() => refuse("must be relative to the image"),
        () if !image.join(parent).is_dir() => refuse("is no directory beside the image"),
        () => Ok(()),
    }
}
