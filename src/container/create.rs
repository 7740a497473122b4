//! `create`: from a spec to a process that has done everything but execute the user's program.
//!
//! ```text
//! check and compile         config, hooks, limits, Plan: nothing exists yet, so an error leaves nothing
//! STATE_ROOT/ID             made exclusively, locked
//! state.json                phase creating; names the cgroup to come
//! cgroup                    made with its limits
//! sandbox::begin            the process is made; beside it, what only its program needs: device filter, config.json
//! rest.settle               all mounts stand, the host's root is still there
//! prestart, createRuntime,  hooks
//! createContainer
//! rest.finish               the process waits on start.sock, or for this process when that starts it
//! state.json                phase created
//! ```
//! A creator that starts the container itself, and has no hooks to run in between, awaits nothing: the record names
//! the process once that is there, and `start` hears how it fared.
//! A failure undoes what was done, from the last step back. A `create` that is killed leaves a directory
//! that `delete --force` can clean up, because the record names cgroup and process.
use super::directory::{START_SOCKET, StateDirectory};
use super::foundation::{self, Draft, Making};
use super::hooks::{self, Kind, Place};
use super::record::{Phase, Record};
use super::start::Starter;
use super::state::State;
use super::{Child, Container, ContainerId, CreateOptions, Error, Status, connect_socket, resctrl, socket};
use crate::sandbox::{self, Inputs, NetworkAhead, Plan, Rootfs, Start};
use oci_spec::runtime::{Hooks, Spec};
use rustix::io::Errno;
use rustix::net::SocketType;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// Everything that is known before anything exists.
#[derive(Debug)]
struct Prepared {
    draft: Draft,
    plan: Plan,
    /// On which others start it.
    start_socket: Option<OwnedFd>,
    /// Whether the process is to be awaited before its creator goes on.
    awaited: bool,
}

pub(super) fn create(
    state_root: &Path,
    id: &ContainerId,
    bundle: &Path,
    spec: &Spec,
    mut options: CreateOptions,
) -> Result<(Container, Child), Error> {
    let network = options.network.take().or_else(|| sandbox::network_ahead(spec));
    let mut prepared = prepare(id, bundle, spec, options)?;
    let directory = StateDirectory::create(state_root, id)?;
    let lock = prepared.draft.record.claim(&directory)?;
    let mut making = Making::new(&directory);
    let connection = match make(&mut making, &mut prepared, spec, network) {
        Ok(connection) => connection,
        Err(error) => {
            making.undo(&prepared.draft.record, spec.hooks().as_ref());
            return Err(error);
        }
    };
    if prepared.awaited {
        drop(lock);
    } else {
        lock.keep();
    }
    let (cgroup, child) = making.done()?;
    let Prepared { mut draft, plan, start_socket, awaited, .. } = prepared;
    // To this process, which alone starts it.
    draft.record.phase = Phase::Created;
    let warnings = [draft.warnings(), plan.warnings()].concat();
    let unawaited = (!awaited).then_some(plan);
    let starter = start_socket.is_none().then_some(Starter { connection, unawaited });
    Ok((Container { directory, record: draft.record, cgroup, warnings, starter }, child))
}

fn prepare(id: &ContainerId, bundle: &Path, spec: &Spec, options: CreateOptions) -> Result<Prepared, Error> {
    let draft = Draft::of(id, bundle, spec, options.systemd_cgroup, options.rootless)?;
    let state_error = |errno: Errno| Error::Bundle {
        action: "make the start socket of",
        path: draft.record.bundle.clone(),
        source: errno.into(),
    };
    let socket = || socket::unix_socket(SocketType::SEQPACKET).map_err(state_error);
    let start_socket = (!options.starts_it).then(socket).transpose()?;
    let process = spec.process().as_ref();
    let terminal = process.and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
    // What has to happen between the two, or comes of the first, wants to know that it went well.
    let awaited = !options.starts_it || spec.hooks().is_some() || terminal;
    let start = match &start_socket {
        Some(socket) => Start::ByAnyone(rustix::io::fcntl_dupfd_cloexec(socket, 3).map_err(state_error)?),
        None => Start::ByCreator { awaits: awaited },
    };
    let console_socket = connect_console(options.console, options.console_socket.as_deref())?;
    let inputs = Inputs {
        rootfs: options.rootfs.unwrap_or_else(|| Rootfs::Directory(draft.record.rootfs.clone())),
        bundle: draft.record.bundle.clone(),
        cgroup: Some(draft.record.cgroup.clone()),
        stdio: options.stdio,
        console_socket,
        start,
        preserve_fds: options.preserve_fds,
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
    };
    let mut plan = Plan::compile(spec, inputs, &draft.hierarchies)?;
    plan.check_rights()?;
    plan.write_pid_to(draft.record.resctrl.as_ref().map(resctrl::Record::task_files).unwrap_or_default());
    Ok(Prepared { draft, plan, start_socket, awaited })
}

/// The socket that gets the terminal's master: one that is connected already, or that at the path.
pub(super) fn connect_console(
    connected: Option<OwnedFd>,
    path: Option<&Path>,
) -> Result<Option<OwnedFd>, Error> {
    match (connected, path) {
        (None, Some(path)) => {
            let failed = |source| Error::Console { path: path.to_owned(), source };
            Ok(Some(connect_socket(path).map_err(failed)?))
        }
        (connected, _) => Ok(connected),
    }
}

fn make(
    making: &mut Making<'_>,
    prepared: &mut Prepared,
    spec: &Spec,
    network: Option<NetworkAhead>,
) -> Result<OwnedFd, Error> {
    making.lay(&prepared.draft)?;
    let directory = making.directory;
    if let Some(socket) = &prepared.start_socket {
        // A `create` that was killed may have left one.
        directory.remove_file(START_SOCKET)?;
        socket::listen_in(socket.as_fd(), directory.fd(), START_SOCKET).map_err(|errno| {
            let path = directory.path_of(START_SOCKET);
            Error::State { action: "listen on", path, source: errno.into() }
        })?;
    }
    let Prepared { draft, plan, awaited, .. } = prepared;
    let (init, mut rest) = sandbox::begin(plan, making.cgroup.as_ref(), network, |init| {
        making.furnish(draft, spec)?;
        draft.record.process = Some(foundation::identity(init)?);
        // From here on `delete --force` finds the process.
        if *awaited { Ok(()) } else { draft.record.write(directory) }
    })?;
    let init = making.init.insert(init);
    if !*awaited {
        return Ok(rest.unawaited());
    }
    rest.settle(plan, init)?;
    let record = &mut prepared.draft.record;
    run_hooks(making, record, spec.hooks().as_ref(), &HOOKS)?;
    let connection = rest.finish(&prepared.plan)?;
    record.phase = Phase::Created;
    record.write(directory)?;
    Ok(connection)
}

/// Hooks that belong to the making of a container, in their order.
const HOOKS: [Kind; 3] = [Kind::Prestart, Kind::CreateRuntime, Kind::CreateContainer];

/// Runs hooks of create, kind after kind.
pub(super) fn run_hooks(
    making: &Making<'_>,
    record: &Record,
    hooks: Option<&Hooks>,
    kinds: &[Kind],
) -> Result<(), Error> {
    let Some(init) = making.init.as_ref().filter(|_| kinds.iter().any(|kind| hooks::any(hooks, *kind)))
    else {
        return Ok(());
    };
    // A hook may run for long, and `delete --force` must find the process meanwhile.
    record.write(making.directory)?;
    for kind in kinds {
        let state = State::new(record, Status::Creating);
        let (state, place) = match kind {
            Kind::CreateContainer => (state.seen_inside(record)?, Place::Namespaces(init, &record.rootfs)),
            _ => (state, Place::Runtime(&record.bundle)),
        };
        hooks::run(hooks, *kind, &state.to_json(), place)?;
    }
    Ok(())
}
