//! `start`: the word that a created container's process waits for.
use super::plan::Plan;
use super::report::{Failure, Message, PATIENCE, limit_waits};
use super::seccomp::Listening;
use super::spawn::{self, SpawnError, go_on, program_words, unheard};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// The creator's word to a process that waits for it ([`super::Start::ByCreator`]); [`start`] on the same
/// connection comes next.
///
/// # Errors
/// When the process has ended.
pub fn release(connection: BorrowedFd<'_>) -> Result<(), SpawnError> {
    go_on(connection)
}

/// Completes the start of a created container over a connection to its start socket: returns when the
/// process has executed its program. `program` is `process.args[0]`, for the error's text, and `plan` the Plan of a
/// process that nobody has awaited ([`super::Rest::unawaited`]). `listening` is called when the process has a seccomp
/// filter that notifies.
///
/// # Errors
/// In runc's words when the program cannot be executed.
pub fn start(
    connection: BorrowedFd<'_>,
    program: &str,
    plan: Option<&Plan>,
    mut listening: impl FnMut(&Listening) -> Result<(), SpawnError>,
) -> Result<(), SpawnError> {
    let failed = |errno: Errno| unheard("read the start report", errno);
    if plan.is_none() {
        limit_waits(connection, PATIENCE).map_err(failed)?;
    }
    let mut executing = false;
    loop {
        match Message::receive_with(connection).map_err(failed)? {
            Some((Message::Executing, _)) => executing = true,
            Some((Message::Listening(number), Some(flag))) => listening(&Listening { number, flag })?,
            Some((Message::Listening(_), None)) => return Err(failed(Errno::BADMSG)),
            Some((Message::Failed(failure), _)) => {
                return Err(match plan {
                    Some(plan) => spawn::explain(plan, &failure),
                    None => explain(program, &failure),
                });
            }
            Some((Message::Placed | Message::Ready, _)) => {}
            None if executing => return Ok(()),
            None => return Err(SpawnError::Killed),
        }
    }
}

/// What a process that nobody awaits has said of a failure so far. One that has ended has said all.
///
/// # Errors
/// Names the step that failed.
pub fn failure_so_far(connection: BorrowedFd<'_>, plan: &Plan) -> Result<(), SpawnError> {
    match Message::received(connection) {
        Ok(Some(Message::Failed(failure))) => Err(spawn::explain(plan, &failure)),
        Ok(Some(_)) | Err(Errno::AGAIN) => Ok(()),
        Ok(None) => Err(SpawnError::Killed),
        Err(errno) => Err(unheard("read the child's report", errno)),
    }
}

/// The process says which step failed where it was not the execution of the program.
fn explain(program: &str, failure: &Failure) -> SpawnError {
    match failure.detail() {
        step if step.is_empty() => {
            let searched = !program.contains('/');
            SpawnError::Program(program_words(program, searched, failure.errno))
        }
        step => SpawnError::Step { step: step.into_owned(), source: failure.io_error() },
    }
}
