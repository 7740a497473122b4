//! `restore`: from an image to a running container.
use super::criu::{Criu, bundle_error};
use super::{CriuOptions, external, streams};
use crate::container::directory::{CRIU_PID_FILE, StateDirectory};
use crate::container::foundation::{Draft, Making};
use crate::container::hooks::{self, Kind};
use crate::container::record::Phase;
use crate::container::{Child, Container, ContainerId, Error};
use crate::sandbox::Init;
use crate::sys::command::isolate_before_exec;
use oci_spec::runtime::Spec;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What only `restore` decides.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// What checkpoint decides too.
    pub criu: CriuOptions,
    /// `TYPE:NAME` of the LSM profile in place of the saved one.
    pub lsm_profile: Option<String>,
    /// SELinux mount context in place of the saved one.
    pub lsm_mount_context: Option<String>,
}

pub(in crate::container) fn restore(
    state_root: &Path,
    id: &ContainerId,
    bundle: &Path,
    spec: &Spec,
    options: &RestoreOptions,
) -> Result<(Container, Child), Error> {
    super::must_be_host_root("restore")?;
    let mut draft = Draft::of(id, bundle, spec, false, Some(false))?;
    refuse_hooks(spec)?;
    let directory = StateDirectory::create(state_root, id)?;
    let lock = directory.claim()?;
    let mut making = Making::new(&directory);
    if let Err(error) = make(&mut making, &mut draft, spec, options) {
        making.undo(&draft.record, None);
        return Err(error);
    }
    drop(lock);
    let (cgroup, child) = making.done()?;
    let warnings = draft.warnings().to_vec();
    let container = Container { directory, record: draft.record, cgroup, warnings, starter: None };
    crate::container::start::run_hooks(&container, Kind::Poststart)?;
    Ok((container, child))
}

/// CRIU makes the namespaces and the mounts, and leaves no moment for the hooks that belong between.
fn refuse_hooks(spec: &Spec) -> Result<(), Error> {
    let kinds = [Kind::Prestart, Kind::CreateRuntime, Kind::CreateContainer, Kind::StartContainer];
    match kinds.into_iter().find(|kind| hooks::any(spec.hooks().as_ref(), *kind)) {
        Some(kind) => {
            let reason = "cannot be run by restore; take these hooks out of the bundle's config";
            Err(Error::config(format!("hooks.{}", kind.json_name()), reason))
        }
        None => Ok(()),
    }
}

fn make(
    making: &mut Making<'_>,
    draft: &mut Draft,
    spec: &Spec,
    options: &RestoreOptions,
) -> Result<(), Error> {
    making.lay(draft)?;
    let pid = run(making, draft, spec, options)?;
    let gone = |errno: rustix::io::Errno| Error::Process {
        action: "open",
        pid: pid.as_raw_nonzero().get(),
        source: errno.into(),
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(gone)?;
    let record = &mut draft.record;
    record.process = Some(making.take(Init { pid, pidfd })?);
    record.restored = true;
    record.phase = Phase::Created;
    record.write(making.directory)
}

/// Runs CRIU to its end; the restored process becomes a child of ours.
fn run(making: &Making<'_>, draft: &Draft, spec: &Spec, options: &RestoreOptions) -> Result<Pid, Error> {
    let image = &options.criu.image_path;
    if let Some(work) = &options.criu.work_path {
        fs::create_dir_all(work).map_err(bundle_error("make", work))?;
    }
    let directory = making.directory;
    let (root, pid_file) = (directory.make_criu_root()?, directory.path_of(CRIU_PID_FILE));
    let mut criu = Criu::new("restore", &options.criu)?;
    criu.flag("--restore-detached", true);
    criu.flag("--restore-sibling", true);
    criu.option("--root", &root);
    criu.option("--pidfile", &pid_file);
    criu.option("--cgroup-root", draft.cgroup_path.as_str());
    if let Some(profile) = &options.lsm_profile {
        criu.option("--lsm-profile", profile);
    }
    if let Some(context) = &options.lsm_mount_context {
        criu.option("--lsm-mount-context", context);
    }
    let _namespaces = external::give_for_restore(&mut criu, spec, &draft.record.bundle)?;
    let _streams = streams::replace(&mut criu, image)?;
    let groups = making.cgroup.as_ref().map(crate::cgroup::Cgroup::processes_files).transpose()?;
    let nul = |path: &Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|error| bundle_error("name", path)(error.into()))
    };
    let (rootfs, at) = (nul(&draft.record.rootfs)?, nul(&root)?);
    criu.run(|command| isolate_before_exec(command, rootfs, at, groups.unwrap_or_default()))?;
    directory.remove_criu_root()?;
    let text = fs::read_to_string(&pid_file).map_err(bundle_error("read", &pid_file))?;
    directory.remove_file(CRIU_PID_FILE)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| bundle_error("read", &pid_file)(std::io::ErrorKind::InvalidData.into()))
}
