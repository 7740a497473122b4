//! `start`: the word that a created container's process waits for.
use super::report::Message;
use super::spawn::{SpawnError, program_words};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// Completes the start of a created container over a connection to its start socket: returns when the
/// process has executed its program. `program` is `process.args[0]`, for the error's text.
///
/// # Errors
/// In runc's words when the program cannot be executed.
pub fn start(connection: BorrowedFd<'_>, program: &str) -> Result<(), SpawnError> {
    let failed = |text: &str, errno: Errno| SpawnError::Step { step: text.to_owned(), source: errno.into() };
    let mut executing = false;
    loop {
        match Message::receive(connection).map_err(|errno| failed("read the start report", errno))? {
            Some(Message::Executing) => executing = true,
            Some(Message::Failed(failure)) if executing => {
                let searched = !program.contains('/');
                return Err(SpawnError::Program(program_words(program, searched, failure.errno)));
            }
            Some(Message::Failed(failure)) => {
                let step = "apply seccomp and capabilities".to_owned();
                return Err(SpawnError::Step { step, source: failure.io_error() });
            }
            Some(Message::Placed | Message::Ready) => {}
            None if executing => return Ok(()),
            None => return Err(SpawnError::Killed),
        }
    }
}
