//! Hooks of the runtime's own namespaces: when they run, what they get, and what their failure does.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Scratch, eventually};
use serde_json::{Value, json};

/// A hook that appends its word and the state's status to `log`.
fn tell(word: &str, log: &std::path::Path) -> Value {
    let script = format!("read -r state; echo \"{word} $state\" >> {}", log.display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

#[test]
fn hooks_run_in_the_order_of_the_lifecycle_with_the_state_on_standard_input() {
    common::require_root!();
    let scratch = Scratch::new("order");
    let log = scratch.path().join("log");
    let mut bundle = scratch.bundle(&["/bin/true"]);
    bundle.edit(|spec| {
        spec["hooks"] = json!({
            "prestart": [tell("prestart", &log), tell("prestart2", &log)],
            "createRuntime": [tell("createRuntime", &log)],
            "poststart": [tell("poststart", &log)],
            "poststop": [tell("poststop", &log)],
        });
    });
    let id = scratch.name("order");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].clone();
    scratch.oci(["start", &id]).ok();
    eventually("it ends", || scratch.oci(["state", &id]).ok().json()["status"] == "stopped");
    scratch.oci(["delete", &id]).ok();
    let text = std::fs::read_to_string(&log).unwrap();
    let told: Vec<(&str, Value)> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(word, state)| (word, serde_json::from_str(state).unwrap()))
        .collect();
    let words: Vec<&str> = told.iter().map(|(word, _)| *word).collect();
    assert_eq!(words, ["prestart", "prestart2", "createRuntime", "poststart", "poststop"]);
    for (word, state) in &told {
        assert_eq!(state["id"], id.as_str(), "{word}");
        assert_eq!(state["bundle"], bundle.arg(), "{word}");
        assert_eq!(state["ociVersion"], "1.0.2", "{word}");
    }
    let statuses: Vec<&str> = told.iter().map(|(_, state)| state["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["creating", "creating", "creating", "running", "stopped"]);
    assert_eq!(told[0].1["pid"], pid);
}

#[test]
fn a_failing_create_hook_undoes_the_container() {
    common::require_root!();
    let scratch = Scratch::new("undo");
    for kind in ["prestart", "createRuntime"] {
        let mut bundle = scratch.bundle(&["/bin/touch", "/ran"]);
        let failing = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no luck; exit 4"]});
        bundle.edit(|spec| spec["hooks"] = json!({kind: [failing]}));
        let id = scratch.name("undo");
        let run = scratch.oci(["run", "--bundle", bundle.arg(), &id]);
        run.fails_with(&[&format!("hooks.{kind}[0]"), "/bin/sh", "exit status 4", "no luck"]);
        assert!(!bundle.rootfs().join("ran").exists());
        scratch.oci(["state", &id]).fails_with(&["does not exist"]);
    }
    scratch.assert_clean();
}

#[test]
fn a_hook_that_hangs_is_ended_at_its_timeout() {
    common::require_root!();
    let scratch = Scratch::new("timeout");
    let mut bundle = scratch.bundle(&["/bin/true"]);
    let hanging = json!({"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1});
    bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": [hanging]}));
    let run = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("timeout")]);
    let outcome = run.fails_with(&["hooks.createRuntime[0]", "did not end within 1 s"]);
    assert!(outcome.took.as_secs() < 20, "{outcome}");
    scratch.assert_clean();
}

#[test]
fn a_failing_poststart_hook_stops_the_container() {
    common::require_root!();
    let scratch = Scratch::new("poststart");
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| spec["hooks"] = json!({"poststart": [{"path": "/bin/false"}]}));
    let id = scratch.name("poststart");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).fails_with(&["hooks.poststart[0]", "exit status 1"]);
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "stopped");
    scratch.oci(["delete", &id]).ok();
}

#[test]
fn a_failing_poststop_hook_is_told_and_the_container_is_deleted() {
    common::require_root!();
    let scratch = Scratch::new("poststop");
    let log = scratch.path().join("log");
    let mut bundle = scratch.bundle(&["/bin/true"]);
    bundle.edit(|spec| spec["hooks"] = json!({"poststop": [{"path": "/bin/false"}, tell("second", &log)]}));
    let outcome = scratch.run(&bundle);
    assert!(outcome.success(), "{outcome}");
    assert!(outcome.stderr.contains("warning: error running hooks.poststop[0]"), "{outcome}");
    assert!(std::fs::read_to_string(&log).unwrap().starts_with("second"), "the next hook runs");
    scratch.assert_clean();
}
