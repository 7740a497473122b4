//! `create`: from a spec to a process that has done everything but execute the user's program.
//!
//! ```text
//! check and compile         config, hooks, limits, Plan: nothing exists yet, so an error leaves nothing
//! STATE_ROOT/ID             made exclusively, locked
//! state.json                phase creating; names the cgroup to come
//! cgroup                    made with its limits
//! sandbox::begin            all mounts stand, the host's root is still there
//! prestart, createRuntime,  hooks
//! createContainer
//! rest.finish               the process waits on start.sock
//! state.json                phase created
//! ```
//! A failure undoes what was done, from the last step back. A `create` that is killed leaves a directory
//! that `delete --force` can clean up, because the record names cgroup and process.
use super::directory::{CONFIG_FILE, START_SOCKET, StateDirectory};
use super::hooks::{self, Kind, Place};
use super::record::{Phase, Record};
use super::state::State;
use super::status::ProcessIdentity;
use super::{Child, Container, ContainerId, CreateOptions, Error, Status, config, connect_socket, socket};
use crate::cgroup::{self, Cgroup, CgroupPath, Hierarchies, Resources};
use crate::sandbox::{self, Init, Inputs, Plan, Rootfs};
use oci_spec::runtime::{Hooks, Spec};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Everything that is known before anything exists.
#[derive(Debug)]
struct Prepared {
    record: Record,
    /// The spec as text, for `exec`.
    config: Vec<u8>,
    hooks: Option<Hooks>,
    hierarchies: Hierarchies,
    resources: Resources,
    cgroup_path: CgroupPath,
    plan: Plan,
    start_socket: OwnedFd,
}

/// What exists of a container that is being made, in the order of making.
#[derive(Debug)]
struct Making<'a> {
    directory: &'a StateDirectory,
    cgroup: Option<Cgroup>,
    init: Option<Init>,
}

pub(super) fn create(
    state_root: &Path,
    id: &ContainerId,
    bundle: &Path,
    spec: Spec,
    options: CreateOptions,
) -> Result<(Container, Child), Error> {
    let mut prepared = prepare(id, bundle, &spec, options)?;
    drop(spec);
    let directory = StateDirectory::create(state_root, id)?;
    let mut making = Making { directory: &directory, cgroup: None, init: None };
    let lock = directory.claim()?;
    if let Err(error) = making.make(&mut prepared) {
        making.undo(&prepared);
        return Err(error);
    }
    drop(lock);
    let Making { cgroup, init, .. } = making;
    let Init { pid, pidfd } = init.ok_or_else(|| Error::InitGone(id.to_string()))?;
    let cgroup = cgroup.map_or_else(OnceLock::new, OnceLock::from);
    let warnings = prepared.plan.warnings().to_vec();
    Ok((Container { directory, record: prepared.record, cgroup, warnings }, Child { pid, pidfd }))
}

fn prepare(id: &ContainerId, bundle: &Path, spec: &Spec, options: CreateOptions) -> Result<Prepared, Error> {
    config::validate(spec)?;
    if let Some(hooks) = spec.hooks() {
        hooks::validate(hooks)?;
    }
    let bundle = config::resolve_bundle(bundle)?;
    let hierarchies = Hierarchies::detect()?;
    let linux = spec.linux().as_ref();
    let resources = Resources::compile(linux.and_then(|linux| linux.resources().as_ref()), &hierarchies)?;
    let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_ref()).and_then(|path| path.to_str());
    let cgroup_path = CgroupPath::parse(cgroups_path, id.as_str())?;
    let planned = cgroup::Record::planned(&hierarchies, &cgroup_path);
    let record = draft(id, &bundle, spec, planned);
    let state_error = |errno: Errno| Error::Bundle {
        action: "make the start socket of",
        path: bundle.clone(),
        source: errno.into(),
    };
    let start_socket = socket::unix_socket(SocketType::SEQPACKET).map_err(state_error)?;
    let console_socket = match (options.console, &options.console_socket) {
        (None, Some(path)) => {
            let failed = |source| Error::Console { path: path.clone(), source };
            Some(connect_socket(path).map_err(failed)?)
        }
        (connected, _) => connected,
    };
    let inputs = Inputs {
        rootfs: options.rootfs.unwrap_or_else(|| Rootfs::Directory(record.rootfs.clone())),
        stdio: options.stdio,
        console_socket,
        start_socket: Some(rustix::io::fcntl_dupfd_cloexec(&start_socket, 3).map_err(state_error)?),
        preserve_fds: options.preserve_fds,
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
    };
    let plan = Plan::compile(spec, inputs, &hierarchies)?;
    let config = serde_json::to_vec(spec).map_err(|error| Error::config("", error.to_string()))?;
    let hooks = spec.hooks().clone();
    Ok(Prepared { record, config, hooks, hierarchies, resources, cgroup_path, plan, start_socket })
}

/// Processes of others would come under our limits, and end with our container.
fn must_be_empty(planned: &cgroup::Record, path: &str) -> Result<(), Error> {
    match Cgroup::from_record(planned).pids() {
        Ok(pids) if !pids.is_empty() => {
            let reason = format!("cgroup {path} is not empty: {} process(es) are in it", pids.len());
            Err(Error::config("linux.cgroupsPath", reason))
        }
        // It does not exist, which is as it should be; what else is wrong its creation tells.
        _ => Ok(()),
    }
}

fn draft(id: &ContainerId, bundle: &Path, spec: &Spec, cgroup: cgroup::Record) -> Record {
    let root = spec.root().as_ref().map(|root| bundle.join(root.path())).unwrap_or_default();
    let args = spec.process().as_ref().and_then(|process| process.args().as_deref());
    let annotations = spec.annotations().iter().flatten();
    let later = |hooks: &&Hooks| {
        [Kind::StartContainer, Kind::Poststart, Kind::Poststop]
            .into_iter()
            .any(|kind| hooks::any(Some(hooks), kind))
    };
    Record {
        oci_version: spec.version().clone(),
        id: id.clone(),
        bundle: bundle.to_owned(),
        program: args.and_then(<[String]>::first).cloned().unwrap_or_default(),
        rootfs: root,
        created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
        annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
        phase: Phase::Creating,
        process: None,
        cgroup,
        hooks: spec.hooks().as_ref().filter(later).cloned(),
    }
}

impl Making<'_> {
    fn make(&mut self, prepared: &mut Prepared) -> Result<(), Error> {
        let Prepared { hierarchies, cgroup_path, resources, .. } = &*prepared;
        must_be_empty(&prepared.record.cgroup, cgroup_path.as_str())?;
        prepared.record.write(self.directory)?;
        self.cgroup = Some(Cgroup::create(hierarchies, cgroup_path, resources)?);
        self.directory.write(CONFIG_FILE, &prepared.config, false)?;
        let directory = self.directory.fd();
        socket::listen_in(prepared.start_socket.as_fd(), directory, START_SOCKET).map_err(|errno| {
            let path = self.directory.path_of(START_SOCKET);
            Error::State { action: "listen on", path, source: errno.into() }
        })?;
        let (init, rest) = sandbox::begin(&prepared.plan, self.cgroup.as_ref())?;
        let init = self.init.insert(init);
        prepared.record.process = Some(ProcessIdentity::of_child(init.pid).map_err(|source| {
            Error::Process { action: "read the start time of", pid: init.pid.as_raw_nonzero().get(), source }
        })?);
        self.run_hooks(prepared)?;
        rest.finish(&prepared.plan)?;
        prepared.record.phase = Phase::Created;
        prepared.record.write(self.directory)
    }

    fn run_hooks(&self, prepared: &Prepared) -> Result<(), Error> {
        let (hooks, record) = (prepared.hooks.as_ref(), &prepared.record);
        let kinds = [Kind::Prestart, Kind::CreateRuntime, Kind::CreateContainer];
        let Some(init) = self.init.as_ref().filter(|_| kinds.iter().any(|kind| hooks::any(hooks, *kind)))
        else {
            return Ok(());
        };
        // A hook may run for long, and `delete --force` must find the process meanwhile.
        record.write(self.directory)?;
        let state = State::new(record, Status::Creating);
        let json = state.to_json();
        let runtime = Place::Runtime(&record.bundle);
        hooks::run(hooks, Kind::Prestart, &json, runtime)?;
        hooks::run(hooks, Kind::CreateRuntime, &json, runtime)?;
        let json = state.seen_inside(record)?.to_json();
        hooks::run(hooks, Kind::CreateContainer, &json, Place::Namespaces(init, &record.rootfs))
    }

    /// Takes back what was made. What cannot be removed keeps its record, so that `delete --force`
    /// finds it.
    fn undo(self, prepared: &Prepared) {
        if let Some(init) = &self.init {
            // Both can only fail when the process is gone already.
            let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        let removed = self.cgroup.as_ref().is_none_or(|cgroup| {
            // The error that led here is the one to report.
            let _ = cgroup.kill();
            cgroup.delete().is_ok()
        });
        if self.init.is_some() {
            let state = State::new(&prepared.record, Status::Stopped).to_json();
            let place = Place::Runtime(&prepared.record.bundle);
            hooks::run_all(prepared.hooks.as_ref(), Kind::Poststop, &state, place);
        }
        if removed {
            let _ = self.directory.remove();
        }
    }
}
