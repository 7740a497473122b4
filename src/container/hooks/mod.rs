//! Hooks: programs that the config asks to run at fixed moments, runtime-spec
//! config.md#posix-platform-hooks.
//!
//! | kind | moment | namespaces | path resolved in |
//! |---|---|---|---|
//! | prestart, createRuntime | create, all mounts made, before pivot_root | runtime | runtime |
//! | createContainer | after these | container | runtime |
//! | startContainer | start, before the program | container, as the container's user | container |
//! | poststart | start, after the program was executed | runtime | runtime |
//! | poststop | delete, after everything is gone | runtime | runtime |
//!
//! A hook gets the container's state on standard input and exactly the environment that the config
//! gives it: neither ours nor the image's (CVE-2025-23266).
mod process;

use super::{Container, Error};
use crate::sandbox::Init;
use oci_spec::runtime::{Hook, Hooks};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

/// Where the hooks of a kind run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// As a program of the host, in this directory.
    Runtime(&'a Path),
    /// As a program of the host in the namespaces of a container that is being created, in this directory.
    Namespaces(&'a Init, &'a Path),
    /// As a program of the container, bound by all that binds the container's own.
    Container(&'a Container),
}

impl Kind {
    pub(super) fn json_name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    fn of(self, hooks: &Hooks) -> &[Hook] {
        let list = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }
}

const KINDS: [Kind; 6] = [
    Kind::Prestart,
    Kind::CreateRuntime,
    Kind::CreateContainer,
    Kind::StartContainer,
    Kind::Poststart,
    Kind::Poststop,
];

/// Finds what is wrong with the hooks before anything exists.
pub(super) fn validate(hooks: &Hooks) -> Result<(), Error> {
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
pub(super) fn run(hooks: Option<&Hooks>, kind: Kind, state: &[u8], place: Place<'_>) -> Result<(), Error> {
    for (index, hook) in hooks.map_or(&[][..], |hooks| kind.of(hooks)).iter().enumerate() {
        process::run(hook, state, place).map_err(|reason| failed(kind, index, hook, reason))?;
    }
    Ok(())
}

/// Runs every hook of one kind, whatever becomes of the others, and returns what failed.
pub(super) fn run_all(hooks: Option<&Hooks>, kind: Kind, state: &[u8], place: Place<'_>) -> Vec<Error> {
    let list = hooks.map_or(&[][..], |hooks| kind.of(hooks)).iter().enumerate();
    list.filter_map(|(index, hook)| {
        process::run(hook, state, place).err().map(|reason| failed(kind, index, hook, reason))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(json: serde_json::Value) -> Hooks {
        serde_json::from_value(json).expect("hooks")
    }

    fn run_poststart(json: serde_json::Value) -> Result<(), Error> {
        run(Some(&hooks(json)), Kind::Poststart, b"{\"id\":\"web\"}", Place::Runtime(Path::new("/")))
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
        let failures = run_all(Some(&hooks), Kind::Poststop, b"{}", Place::Runtime(Path::new("/")));
        assert_eq!(failures.len(), 2, "{failures:?}");
    }

    #[test]
    fn hooks_that_cannot_be_run_are_refused_before_anything_exists() {
        let refused = |json: serde_json::Value| validate(&hooks(json)).expect_err("refused").to_string();
        let inside = refused(serde_json::json!({"startContainer": [{"path": "/bin/true"}, {"path": ""}]}));
        assert!(inside.starts_with("config.json: hooks.startContainer[1].path: "), "{inside}");
        let relative = refused(serde_json::json!({"poststop": [{"path": "true"}]}));
        assert!(relative.starts_with("config.json: hooks.poststop[0].path: "), "{relative}");
        let zero = refused(serde_json::json!({"prestart": [{"path": "/bin/true", "timeout": 0}]}));
        assert!(zero.starts_with("config.json: hooks.prestart[0].timeout: "), "{zero}");
    }
}
