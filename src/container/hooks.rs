//! Hooks: programs of the host that the config asks to run at fixed moments, runtime-spec
//! config.md#posix-platform-hooks.
//!
//! A hook gets the container's state on standard input and exactly the environment that the config
//! gives it: neither ours nor the image's (CVE-2025-23266).
use super::Error;
use oci_spec::runtime::{Hook, Hooks};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

/// The kinds of hook that run in the runtime's own namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Prestart,
    CreateRuntime,
    Poststart,
    Poststop,
}

impl Kind {
    fn json_name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    fn of(self, hooks: &Hooks) -> &[Hook] {
        let list = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }
}

const KINDS: [Kind; 4] = [Kind::Prestart, Kind::CreateRuntime, Kind::Poststart, Kind::Poststop];

/// How much of a failed hook's output goes into the error.
const OUTPUT_SHOWN: u64 = 1000;

/// Finds what is wrong with the hooks before anything exists.
pub(super) fn validate(hooks: &Hooks) -> Result<(), Error> {
    let inside = [
        ("hooks.createContainer", hooks.create_container()),
        ("hooks.startContainer", hooks.start_container()),
    ];
    for (path, list) in inside {
        if list.as_ref().is_some_and(|list| !list.is_empty()) {
            let reason = "hooks that run inside the container are not supported yet; remove them";
            return Err(Error::config(path, reason));
        }
    }
    for kind in KINDS {
        for (index, hook) in kind.of(hooks).iter().enumerate() {
            let at = |field: &str| format!("hooks.{}[{index}].{field}", kind.json_name());
            if !hook.path().is_absolute() {
                let reason = format!("{:?} is not an absolute path", hook.path().display().to_string());
                return Err(Error::config(at("path"), reason));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return Err(Error::config(at("timeout"), "must be greater than 0 seconds"));
            }
        }
    }
    Ok(())
}

/// Runs the hooks of one kind in their order, up to the first that fails.
pub(super) fn run(hooks: Option<&Hooks>, kind: Kind, state: &[u8], bundle: &Path) -> Result<(), Error> {
    for (index, hook) in hooks.map_or(&[][..], |hooks| kind.of(hooks)).iter().enumerate() {
        run_one(hook, state, bundle).map_err(|reason| failed(kind, index, hook, reason))?;
    }
    Ok(())
}

/// Runs every hook of one kind, whatever becomes of the others, and returns what failed.
pub(super) fn run_all(hooks: Option<&Hooks>, kind: Kind, state: &[u8], bundle: &Path) -> Vec<Error> {
    let list = hooks.map_or(&[][..], |hooks| kind.of(hooks)).iter().enumerate();
    list.filter_map(|(index, hook)| {
        run_one(hook, state, bundle).err().map(|reason| failed(kind, index, hook, reason))
    })
    .collect()
}

/// Whether the config has hooks of this kind.
pub(super) fn any(hooks: Option<&Hooks>, kind: Kind) -> bool {
    hooks.is_some_and(|hooks| !kind.of(hooks).is_empty())
}

fn failed(kind: Kind, index: usize, hook: &Hook, reason: String) -> Error {
    let hook_name = format!("hooks.{}[{index}]", kind.json_name());
    Error::Hook { hook: hook_name, path: hook.path().clone(), reason }
}

fn run_one(hook: &Hook, state: &[u8], bundle: &Path) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    // Files in memory rather than pipes: neither side can make the other wait.
    let mut input = memory_file("wharf-hook-state").map_err(text)?;
    input.write_all(state).map_err(text)?;
    seek(&input, SeekFrom::Start(0)).map_err(|errno| errno.to_string())?;
    let output = memory_file("wharf-hook-output").map_err(text)?;

    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(arguments);
    }
    command.env_clear().current_dir(bundle).stdin(input);
    for entry in hook.env().iter().flatten() {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(key, value);
    }
    command.stdout(output.try_clone().map_err(text)?).stderr(output.try_clone().map_err(text)?);
    let mut child = command.spawn().map_err(text)?;
    let status = wait(&mut child, hook.timeout()).map_err(text)?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{}{}", describe(status), shown(output))),
        None => {
            let seconds = hook.timeout().unwrap_or_default();
            Err(format!("did not end within {seconds} s (timeout) and was killed{}", shown(output)))
        }
    }
}

/// Waits for the end; `None` when the timeout passed first, after which it has been killed.
fn wait(child: &mut Child, timeout_s: Option<i64>) -> io::Result<Option<ExitStatus>> {
    if let (Some(seconds), Ok(Some(pid))) = (timeout_s, i32::try_from(child.id()).map(Pid::from_raw)) {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let ended = loop {
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other? > 0,
            }
        };
        if !ended {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
    }
    child.wait().map(Some)
}

fn memory_file(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("killed by signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or_default()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(json: serde_json::Value) -> Hooks {
        serde_json::from_value(json).expect("hooks")
    }

    fn run_poststart(json: serde_json::Value) -> Result<(), Error> {
        run(Some(&hooks(json)), Kind::Poststart, b"{\"id\":\"web\"}", Path::new("/"))
    }

    #[test]
    fn a_hook_reads_the_state_and_has_only_the_configs_environment() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let script = format!(
            "cat > {0}/state; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= > {0}/env; echo $0 > {0}/name",
            scratch.path().display()
        );
        let hook = serde_json::json!({"poststart": [
            {"path": "/bin/sh", "args": ["sh", "-c", script, "called"], "env": ["ONLY=this"]}]});
        run_poststart(hook).expect("succeeds");
        let read = |name: &str| std::fs::read_to_string(scratch.path().join(name)).expect("file");
        assert_eq!(read("state"), "{\"id\":\"web\"}");
        assert_eq!(read("env"), "ONLY=this\n");
        assert_eq!(read("name"), "called\n");
    }

    #[test]
    fn a_failing_hook_is_named_with_its_status_and_output() {
        let hook = serde_json::json!({"poststart": [{"path": "/bin/true"},
            {"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 3"]}]});
        let error = run_poststart(hook).expect_err("fails").to_string();
        assert_eq!(error, "error running hooks.poststart[1] hook /bin/sh: exit status 3, output: no luck");
    }

    #[test]
    fn a_hook_that_hangs_is_killed_at_its_timeout() {
        let hook = serde_json::json!({"poststart": [
            {"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]});
        let start = std::time::Instant::now();
        let error = run_poststart(hook).expect_err("times out").to_string();
        assert!(error.contains("did not end within 1 s"), "{error}");
        assert!(start.elapsed().as_secs() < 10);
    }

    #[test]
    fn poststop_hooks_all_run_and_all_failures_are_told() {
        let hooks = hooks(serde_json::json!({"poststop": [
            {"path": "/bin/false"}, {"path": "/nowhere"}, {"path": "/bin/true"}]}));
        let failures = run_all(Some(&hooks), Kind::Poststop, b"{}", Path::new("/"));
        assert_eq!(failures.len(), 2, "{failures:?}");
    }

    #[test]
    fn hooks_that_cannot_be_run_are_refused_before_anything_exists() {
        let refused = |json: serde_json::Value| validate(&hooks(json)).expect_err("refused").to_string();
        let inside = refused(serde_json::json!({"createContainer": [{"path": "/bin/true"}]}));
        assert!(inside.starts_with("config.json: hooks.createContainer: "), "{inside}");
        let relative = refused(serde_json::json!({"poststop": [{"path": "true"}]}));
        assert!(relative.starts_with("config.json: hooks.poststop[0].path: "), "{relative}");
        let zero = refused(serde_json::json!({"prestart": [{"path": "/bin/true", "timeout": 0}]}));
        assert!(zero.starts_with("config.json: hooks.prestart[0].timeout: "), "{zero}");
    }
}
