//! `wharf-oci checkpoint`
use super::context::Context;
use crate::container::{CgroupsMode, Container, ContainerId, CriuOptions, DumpOptions, PageServer};
use crate::sys::fd;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use std::fs::File;
use std::path::PathBuf;

/// Save a running container with CRIU, to be restored later
#[derive(Debug, Args)]
pub(super) struct Checkpoint {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    #[command(flatten)]
    criu: CriuArguments,
    /// Previous image of a series, relative to the image path
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Let the container go on afterwards
    #[arg(long)]
    leave_running: bool,
    /// Leave out TCP connections that are being established
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// With --lazy-pages: file descriptor on which CRIU says that it is ready
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    status_fd: Option<i32>,
    /// Send memory to this criu page-server instead of into files
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = page_server)]
    page_server: Option<PageServer>,
    /// Save memory only, as the beginning of a series; the container goes on
    #[arg(long)]
    pre_dump: bool,
}

/// What `checkpoint` and `restore` have in common.
#[derive(Debug, Args)]
pub(super) struct CriuArguments {
    /// Directory of the image files
    #[arg(long, value_name = "DIR", default_value = "./checkpoint")]
    image_path: PathBuf,
    /// Directory of CRIU's log and working files [default: the image path]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Allow established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Allow Unix sockets whose other end is outside
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow a session that began outside
    #[arg(long)]
    shell_job: bool,
    /// Allow file locks
    #[arg(long)]
    file_locks: bool,
    /// How CRIU treats cgroups below the container's own
    #[arg(long, value_name = "MODE", value_enum)]
    manage_cgroups_mode: Option<Mode>,
    /// Make this namespace without what was in it
    #[arg(long, value_name = "NAMESPACE", value_parser = ["network"])]
    empty_ns: Option<String>,
    /// Drop from the images what a later one of a series replaces
    #[arg(long)]
    auto_dedup: bool,
    /// Move memory when it is asked for, with userfaultfd(2)
    #[arg(long)]
    lazy_pages: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Soft,
    Full,
    Strict,
    Ignore,
}

impl From<&CriuArguments> for CriuOptions {
    fn from(arguments: &CriuArguments) -> Self {
        Self {
            image_path: arguments.image_path.clone(),
            work_path: arguments.work_path.clone(),
            tcp_established: arguments.tcp_established,
            ext_unix_sk: arguments.ext_unix_sk,
            shell_job: arguments.shell_job,
            file_locks: arguments.file_locks,
            manage_cgroups: arguments.manage_cgroups_mode.map(|mode| match mode {
                Mode::Soft => CgroupsMode::Soft,
                Mode::Full => CgroupsMode::Full,
                Mode::Strict => CgroupsMode::Strict,
                Mode::Ignore => CgroupsMode::Ignore,
            }),
            empty_network: arguments.empty_ns.is_some(),
            auto_dedup: arguments.auto_dedup,
            lazy_pages: arguments.lazy_pages,
        }
    }
}

impl Checkpoint {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        // Before anything of ours could have that number; runc's own "none", which engines pass, is negative.
        let status = self.status_fd.filter(|number| *number >= 0).map(fd::adopt).transpose();
        let status = status.context("--status-fd: the file descriptor is not open")?;
        let container = Container::load(context.root()?, &self.id)?;
        container.checkpoint(DumpOptions {
            criu: (&self.criu).into(),
            parent_path: self.parent_path.clone(),
            leave_running: self.leave_running,
            pre_dump: self.pre_dump,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            page_server: self.page_server.clone(),
            status: status.map(File::from),
        })?;
        Ok(0)
    }
}

fn page_server(text: &str) -> anyhow::Result<PageServer> {
    let (address, port) = text.rsplit_once(':').context("is not ADDRESS:PORT")?;
    let port = port.parse().with_context(|| format!("{port:?} is no port"))?;
    Ok(PageServer { address: address.to_owned(), port })
}
