//! One hook's process: started in its place, watched until its end or its timeout.
use super::Place;
use crate::container::{Container, exec};
use crate::sandbox::{Caller, ExecInputs, Init, Stdio};
use crate::sys::command::{join_as_owner_before_exec, join_before_exec, memory_file, reset_signals_in_exec};
use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// How much of a failed hook's output goes into the error.
const OUTPUT_SHOWN: u64 = 1000;

/// Runs the hook to its end.
pub(super) fn run(hook: &Hook, state: &[u8], place: Place<'_>) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    // Files in memory rather than pipes: neither side can make the other wait.
    let mut input = memory_file("wharf-hook-state").map_err(text)?;
    input.write_all(state).map_err(text)?;
    seek(&input, SeekFrom::Start(0)).map_err(|errno| errno.to_string())?;
    let output = memory_file("wharf-hook-output").map_err(text)?;

    let streams = [input.into(), output.try_clone().map_err(text)?.into()];
    let pidfd = match place {
        Place::Runtime(directory) => spawn(command(hook, streams, directory).map_err(text)?),
        Place::Namespaces(init, directory) => spawn_joined(hook, streams, init, directory),
        Place::Container(container) => return run_inside(container, hook, streams, output),
    };
    finish(hook, &pidfd.map_err(text)?, output)
}

/// Waits for the end of the process and judges it.
fn finish(hook: &Hook, pidfd: &OwnedFd, output: File) -> Result<(), String> {
    match wait(pidfd.as_fd(), hook.timeout()).map_err(|error| error.to_string())? {
        Some(status) if status.exit_status() == Some(0) => Ok(()),
        Some(status) => Err(format!("{}{}", describe(&status), shown(output))),
        None => {
            let seconds = hook.timeout().unwrap_or_default();
            Err(format!("did not end within {seconds} s (timeout) and was killed{}", shown(output)))
        }
    }
}

fn command(hook: &Hook, [input, output]: [OwnedFd; 2], directory: &Path) -> io::Result<Command> {
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(arguments);
    }
    command.env_clear().current_dir(directory).stdin(input);
    for entry in hook.env().iter().flatten() {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(key, value);
    }
    command.stdout(output.try_clone()?).stderr(output);
    // A command in the foreground has blocked all that it hands on.
    reset_signals_in_exec(&mut command);
    Ok(command)
}

fn spawn(mut command: Command) -> io::Result<OwnedFd> {
    // The pidfd takes the place of the Child, which has nothing to do when it is dropped.
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The hook's process is born into the pid namespace and enters the others itself.
fn spawn_joined(hook: &Hook, streams: [OwnedFd; 2], init: &Init, directory: &Path) -> io::Result<OwnedFd> {
    let mut command = command(hook, streams, Path::new("/"))?;
    let others = differing(init.pid)?;
    let directory = CString::new(directory.as_os_str().as_bytes())?;
    if Caller::of_this_process() == Caller::User {
        join_as_owner_before_exec(&mut command, init.pidfd.try_clone()?, others, directory);
        return spawn(command);
    }
    join_before_exec(&mut command, init.pidfd.try_clone()?, others, directory);
    let own = File::open("/proc/self/ns/pid")?;
    move_into_thread_name_spaces(init.pidfd.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
    let spawned = spawn(command);
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    spawned
}

/// Which namespaces of a process are not ours; its user namespace cannot be joined from within itself.
fn differing(pid: Pid) -> io::Result<ThreadNameSpaceType> {
    let kinds = [
        ("mnt", ThreadNameSpaceType::MOUNT),
        ("net", ThreadNameSpaceType::NETWORK),
        ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
        ("time", ThreadNameSpaceType::TIME),
        ("user", ThreadNameSpaceType::USER),
    ];
    let link = |process: &str, kind: &str| std::fs::read_link(format!("/proc/{process}/ns/{kind}"));
    let mut others = ThreadNameSpaceType::empty();
    for (kind, flag) in kinds {
        if link("self", kind)? != link(&pid.as_raw_nonzero().to_string(), kind)? {
            others |= flag;
        }
    }
    Ok(others)
}

/// Like `exec`: the program comes from the image, and must be no freer than the container's own.
fn run_inside(
    container: &Container,
    hook: &Hook,
    [input, output]: [OwnedFd; 2],
    shown: File,
) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let spec = container.config().map_err(|error| error.to_string())?;
    let mut process = spec.process().clone().unwrap_or_default();
    let path = hook.path().to_string_lossy().into_owned();
    let args = hook.args().clone().filter(|args| !args.is_empty());
    process.set_args(Some(args.unwrap_or_else(|| vec![path])));
    process.set_env(Some(hook.env().clone().unwrap_or_default()));
    process.set_terminal(Some(false)).set_console_size(None).set_cwd("/".into());
    let inputs = ExecInputs {
        path: Some(hook.path().clone()),
        stdio: Stdio {
            stdin: Some(input),
            stdout: Some(output.try_clone().map_err(text)?),
            stderr: Some(output),
        },
        ..ExecInputs::default()
    };
    let child = exec::spawn(container, &spec, &process, inputs).map_err(|error| error.to_string())?;
    finish(hook, &child.pidfd, shown)
}

/// Waits for the end; `None` when the timeout passed first, after which it has been killed.
fn wait(pidfd: BorrowedFd<'_>, timeout_s: Option<i64>) -> io::Result<Option<WaitIdStatus>> {
    if let Some(seconds) = timeout_s {
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let ended = loop {
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
                Err(Errno::INTR) => {}
                other => break other? > 0,
            }
        };
        if !ended {
            pidfd_send_signal(pidfd, Signal::KILL)?;
            reap(pidfd)?;
            return Ok(None);
        }
    }
    reap(pidfd).map(Some)
}

fn reap(pidfd: BorrowedFd<'_>) -> io::Result<WaitIdStatus> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => return other?.ok_or_else(|| Errno::CHILD.into()),
        }
    }
}

fn describe(status: &WaitIdStatus) -> String {
    match status.terminating_signal() {
        Some(signal) => format!("killed by signal {signal}"),
        None => format!("exit status {}", status.exit_status().unwrap_or_default()),
    }
}

/// What the hook printed, on one line.
fn shown(output: File) -> String {
    let mut bytes = Vec::new();
    let read = seek(&output, SeekFrom::Start(0)).map_err(io::Error::from);
    let read = read.and_then(|_| output.take(OUTPUT_SHOWN).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if read.is_err() || line.is_empty() { String::new() } else { format!(", output: {line}") }
}
