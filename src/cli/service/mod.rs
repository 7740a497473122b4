//! The command line of `wharf`, one file per command.
use std::process::ExitCode;

/// Parses the process's arguments, runs the command and returns its exit status.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
