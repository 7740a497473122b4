//! `restore`: from an image to a running container.
//!
//! ```text
//! criu's moment             done at it
//! (before its request)      criu enters the container's cgroup and class of service, and all it makes with it
//! setup-namespaces          the first process is there, in namespaces that are still empty: prestart and
//!                           createRuntime hooks
//! post-setup-namespaces     all namespaces but that of mounts are as they were: createContainer hooks; CRIU
//!                           changes the root later, so that the runtime's programs are still to be seen
//! orphan-pts-master         criu hands over the master of a terminal
//! post-restore              all is restored and does not run yet: the container's master goes to its console
//! (after its end)           poststart hooks
//! ```
//! `startContainer` hooks precede the user's program (runtime-spec config.md#startcontainer-hooks), which is
//! under way here; as with runc they are not run.
use super::criu::{Criu, bundle_error};
use super::rpc::{self, Action, option};
use super::terminal::{self, Console};
use super::worker::Moment;
use super::{CriuOptions, external, has_terminal, streams};
use crate::container::directory::StateDirectory;
use crate::container::foundation::{Draft, Making};
use crate::container::hooks::Kind;
use crate::container::record::Phase;
use crate::container::{Child, Container, ContainerId, Error, create, start};
use crate::sandbox::Init;
use crate::sys::command::isolate_before_exec;
use oci_spec::runtime::Spec;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// What only `restore` decides.
#[derive(Debug, Default)]
pub struct RestoreOptions {
    /// What checkpoint decides too.
    pub criu: CriuOptions,
    /// `TYPE:NAME` of the LSM profile in place of the saved one.
    pub lsm_profile: Option<String>,
    /// SELinux mount context in place of the saved one.
    pub lsm_mount_context: Option<String>,
    /// Path of the Unix socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// A connected socket in place of [`RestoreOptions::console_socket`].
    pub console: Option<OwnedFd>,
    /// Have systemd make the cgroup, as a transient scope; `linux.cgroupsPath` is `slice:prefix:name` then.
    pub systemd_cgroup: bool,
}

pub(in crate::container) fn restore(
    state_root: &Path,
    id: &ContainerId,
    bundle: &Path,
    spec: &Spec,
    mut options: RestoreOptions,
) -> Result<(Container, Child), Error> {
    super::must_be_host_root("restore")?;
    let mut draft = Draft::of(id, bundle, spec, options.systemd_cgroup, Some(false))?;
    draft.record.restored = true;
    let socket = create::connect_console(options.console.take(), options.console_socket.as_deref())?;
    terminal::check(has_terminal(spec), socket.is_some())?;
    let path = options.console_socket.clone().unwrap_or_else(|| "of the caller".into());
    let console = socket.map(|socket| Console { socket, path });
    let directory = StateDirectory::create(state_root, id)?;
    let lock = draft.record.claim(&directory)?;
    let mut making = Making::new(&directory);
    if let Err(error) = make(&mut making, &mut draft, spec, &options, console) {
        making.undo(&draft.record, spec.hooks().as_ref());
        return Err(error);
    }
    drop(lock);
    let (cgroup, child) = making.done()?;
    let warnings = draft.warnings().to_vec();
    let container = Container { directory, record: draft.record, cgroup, warnings, starter: None };
    if let Err(error) = start::run_hooks(&container, Kind::Poststart) {
        // The hook's failure, which has stopped it, is the one to report.
        let _ = container.delete(true);
        let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
        return Err(error);
    }
    Ok((container, child))
}

fn make(
    making: &mut Making<'_>,
    draft: &mut Draft,
    spec: &Spec,
    options: &RestoreOptions,
    console: Option<Console>,
) -> Result<(), Error> {
    making.lay(draft)?;
    making.furnish(draft, spec)?;
    let directory = making.directory;
    if let Some(work) = &options.criu.work_path {
        fs::create_dir_all(work).map_err(bundle_error("make", work))?;
    }
    let criu = request(draft, spec, options)?;
    let worker = criu.start(isolate_before_exec)?;
    making.admit(draft, worker.pid())?;
    let mut restoring = Restoring { making, draft, spec, console, masters: Vec::new() };
    let restored = criu.ask(worker, &mut |moment| restoring.attend(moment))?;
    if let Some(pid) = restored {
        restoring.take(pid)?;
    }
    if making.init.is_none() {
        return Err(Error::InitGone(directory.id().to_string()));
    }
    draft.record.phase = Phase::Created;
    draft.record.write(directory)
}

/// The restored process becomes a child of ours.
fn request(draft: &Draft, spec: &Spec, options: &RestoreOptions) -> Result<Criu, Error> {
    let mut criu = Criu::new(Action::Restore, &options.criu)?;
    criu.flag(option::RST_SIBLING, true);
    criu.flag(option::NOTIFY_SCRIPTS, true);
    criu.flag(option::ORPHAN_PTS_MASTER, has_terminal(spec));
    // Not bound anywhere else: a mount can join the peer group of its master only by way of a mount that
    // shows as much of the file system, which CRIU looks for at this path and above.
    criu.path(option::ROOT, &draft.record.rootfs);
    criu.message(option::CG_ROOT, &rpc::cgroup_root(draft.cgroup_path.as_str()));
    if let Some(profile) = &options.lsm_profile {
        criu.text(option::LSM_PROFILE, profile);
    }
    if let Some(context) = &options.lsm_mount_context {
        criu.text(option::LSM_MOUNT_CONTEXT, context);
    }
    external::give_for_restore(&mut criu, spec, &draft.record.bundle)?;
    streams::replace(&mut criu, &options.criu.image_path)?;
    Ok(criu)
}

/// What is at hand while CRIU restores.
struct Restoring<'a, 'b> {
    making: &'a mut Making<'b>,
    draft: &'a mut Draft,
    spec: &'a Spec,
    console: Option<Console>,
    masters: Vec<OwnedFd>,
}

impl Restoring<'_, '_> {
    fn attend(&mut self, moment: Moment) -> Result<(), Error> {
        match moment.name.as_str() {
            "setup-namespaces" => {
                if let Some(pid) = moment.pid {
                    self.take(pid)?;
                }
                self.run_hooks(&[Kind::Prestart, Kind::CreateRuntime])
            }
            "post-setup-namespaces" => self.run_hooks(&[Kind::CreateContainer]),
            "orphan-pts-master" => {
                self.masters.extend(moment.descriptor);
                Ok(())
            }
            "post-restore" => {
                let masters = std::mem::take(&mut self.masters);
                self.console.take().map_or(Ok(()), |console| terminal::hand_over(&console, masters))
            }
            _ => Ok(()),
        }
    }

    fn run_hooks(&self, kinds: &[Kind]) -> Result<(), Error> {
        create::run_hooks(self.making, &self.draft.record, self.spec.hooks().as_ref(), kinds)
    }

    /// Takes the first process, once.
    fn take(&mut self, pid: Pid) -> Result<(), Error> {
        if self.making.init.is_some() {
            return Ok(());
        }
        let gone = |errno: rustix::io::Errno| {
            let pid = pid.as_raw_nonzero().get();
            Error::Process { action: "open", pid, source: errno.into() }
        };
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(gone)?;
        self.draft.record.process = Some(self.making.take(Init { pid, pidfd })?);
        Ok(())
    }
}
