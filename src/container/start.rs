//! `start`: lets a created container's process execute the user's program.
use super::directory::START_SOCKET;
use super::hooks::{self, Kind, Place};
use super::state::State;
use super::{Container, Error, Status, socket};
use crate::sandbox::seccomp::Listening;
use crate::sandbox::{self, Init, Plan, SpawnError};
use rustix::io::Errno;
use rustix::net::SocketType;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What a creator starts a container by that nobody else can start.
#[derive(Debug)]
pub(super) struct Starter {
    pub(super) connection: OwnedFd,
    /// Set while the process may still be on its way through it.
    pub(super) unawaited: Option<Plan>,
}

pub(super) fn start(container: &mut Container) -> Result<(), Error> {
    if let Some(starter) = container.starter.take() {
        // Since its creation, where nobody has awaited that.
        let lock = match starter.unawaited {
            Some(_) => container.directory.locked(),
            None => container.directory.lock()?,
        };
        run_hooks(container, Kind::StartContainer)?;
        let connection = starter.connection.as_fd();
        // One that has ended has left word of why.
        let released = sandbox::release(connection);
        execute(container, connection, starter.unawaited.as_ref())?;
        released?;
        drop(lock);
        return run_hooks(container, Kind::Poststart);
    }
    let container = &*container;
    let lock = match container.directory.try_lock()? {
        Some(lock) => lock,
        None => {
            // A container that cannot be started is no reason to wait.
            must_be_created(container)?;
            container.directory.lock()?
        }
    };
    must_be_created(container)?;
    run_hooks(container, Kind::StartContainer)?;
    let connected = socket::connect_in(SocketType::SEQPACKET, container.directory.fd(), START_SOCKET);
    let connection = connected.map_err(|errno| match errno {
        Errno::CONNREFUSED | Errno::NOENT => Error::InitGone(container.record.id.to_string()),
        errno => Error::State {
            action: "connect to",
            path: container.directory.path_of(START_SOCKET),
            source: errno.into(),
        },
    })?;
    execute(container, connection.as_fd(), None)?;
    container.directory.remove_file(START_SOCKET)?;
    drop(lock);
    run_hooks(container, Kind::Poststart)
}

pub(super) fn failure_so_far(container: &Container) -> Result<(), Error> {
    match &container.starter {
        Some(Starter { connection, unawaited: Some(plan) }) => {
            Ok(sandbox::failure_so_far(connection.as_fd(), plan)?)
        }
        _ => Ok(()),
    }
}

/// Returns when the program has been executed.
fn execute(container: &Container, connection: BorrowedFd<'_>, unawaited: Option<&Plan>) -> Result<(), Error> {
    let listening = |listening: &Listening| attend(container, listening, connection);
    let started = sandbox::start(connection, &container.record.program, unawaited, listening);
    started.map_err(|error| {
        if matches!(error, SpawnError::Agent { .. }) {
            // Nobody would ever answer its system calls.
            let _ = super::kill::kill_everything(container);
        }
        error.into()
    })
}

/// Hands the listener of the container's seccomp filter to the agent that its config names.
fn attend(container: &Container, listening: &Listening, reports: BorrowedFd<'_>) -> Result<(), SpawnError> {
    let gone = |_| SpawnError::Killed;
    let spec = container.config().map_err(gone)?;
    let init =
        Init { pid: container.pid().ok_or(SpawnError::Killed)?, pidfd: container.pidfd().map_err(gone)? };
    match super::exec::agent(container, &spec, Status::Created) {
        Some(agent) => agent.attend(listening, &init, reports),
        None => Err(SpawnError::Killed),
    }
}

fn must_be_created(container: &Container) -> Result<(), Error> {
    match container.status()? {
        Status::Created => Ok(()),
        other => Err(Error::CannotStart(other)),
    }
}

/// runtime-spec runtime.md#lifecycle, steps 7 and 9: when one of these hooks fails, the container is
/// stopped.
pub(super) fn run_hooks(container: &Container, kind: Kind) -> Result<(), Error> {
    let record = &container.record;
    if !hooks::any(record.hooks.as_ref(), kind) {
        return Ok(());
    }
    let (state, place) = match kind {
        Kind::StartContainer => {
            (State::new(record, Status::Created).seen_inside(record)?, Place::Container(container))
        }
        _ => (State::new(record, Status::Running), Place::Runtime(&record.bundle)),
    };
    hooks::run(record.hooks.as_ref(), kind, &state.to_json(), place).inspect_err(|_| {
        // The hook's failure is the one to report; delete --force finds what survives.
        let _ = super::kill::kill_everything(container);
    })
}
