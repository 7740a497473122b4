//! `start`: lets a created container's process execute the user's program.
use super::directory::START_SOCKET;
use super::hooks::{self, Kind, Place};
use super::state::State;
use super::{Container, Error, Status, socket};
use rustix::io::Errno;
use rustix::net::SocketType;
use std::os::fd::AsFd as _;

pub(super) fn start(container: &Container) -> Result<(), Error> {
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
    crate::sandbox::start(connection.as_fd(), &container.record.program)?;
    container.directory.remove_file(START_SOCKET)?;
    drop(lock);
    run_hooks(container, Kind::Poststart)
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
