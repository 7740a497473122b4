//! Maps that only `newuidmap(1)` and `newgidmap(1)` may write for a caller without privileges: they are
//! setuid, or have the capability, and check /etc/subuid and /etc/subgid.
use super::spawn::SpawnError;
use rustix::process::Pid;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// Runs one of the two for the user namespace of a process; `map` is the text of `/proc/PID/uid_map`.
pub(super) fn write(program: &str, at: &str, pid: Pid, map: &str) -> Result<(), SpawnError> {
    let mut command = Command::new(program);
    command.arg(pid.as_raw_nonzero().to_string()).args(map.split_whitespace());
    let refuse = |reason: String| SpawnError::Map { at: at.to_owned(), reason };
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        let ids = "mapping other ids than one's own as a user needs";
        refuse(match error.kind() {
            ErrorKind::NotFound => {
                format!("{ids} {program}(1), which is not in PATH; install it (Debian: uidmap)")
            }
            _ => format!("{ids} {program}(1): {error}"),
        })
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = words.trim_start_matches(program).trim_start_matches(':').trim_start();
    let list = if program == "newuidmap" { "/etc/subuid" } else { "/etc/subgid" };
    Err(refuse(format!("{program}: {words} ({}); does {list} give this user these ids", output.status)))
}
