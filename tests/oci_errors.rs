//! What `wharf-oci` says when something is wrong, and that it leaves nothing behind then.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::Scratch;
use serde_json::{Value, json};

/// Every change makes a config that must be refused before anything exists, naming the path.
#[test]
fn a_wrong_config_is_refused_with_its_json_path() {
    common::require_root!();
    let scratch = Scratch::new("config");
    type Change = fn(&mut Value);
    let wrong: [(Change, &str); 10] = [
        (|spec| spec["ociVersion"] = json!("2.0.0"), "config.json: ociVersion: \"2.0.0\""),
        (|spec| spec["ociVersion"] = json!("one"), "config.json: ociVersion: \"one\""),
        (|spec| spec["process"] = Value::Null, "config.json: process: is missing"),
        (|spec| spec["process"]["args"] = json!([]), "config.json: process.args: "),
        (|spec| spec["process"]["cwd"] = json!("relative"), "config.json: process.cwd: "),
        (|spec| spec["root"] = Value::Null, "config.json: root: is missing"),
        (
            |spec| spec["linux"]["namespaces"][1]["type"] = json!("moon"),
            "config.json: linux.namespaces[1].type: unknown variant `moon`",
        ),
        (|spec| spec["mounts"][0]["destination"] = json!(7), "config.json: mounts[0].destination: "),
        (
            |spec| spec["hooks"] = json!({"createContainer": [{"path": "/bin/true"}, {"path": "x"}]}),
            "config.json: hooks.createContainer[1].path: ",
        ),
        (
            |spec| spec["hooks"] = json!({"poststop": [{"path": "true"}]}),
            "config.json: hooks.poststop[0].path: ",
        ),
    ];
    for (change, text) in wrong {
        let mut bundle = scratch.bundle(&["/bin/true"]);
        bundle.edit(change);
        let id = scratch.name("wrong");
        scratch.oci(["run", "--bundle", bundle.arg(), &id]).fails_with(&[text]);
        assert!(!scratch.oci_root().join(&id).exists(), "nothing may be left of a config with {text}");
    }
    scratch.assert_clean();
}

#[test]
fn a_program_that_cannot_be_executed_is_told_in_the_words_that_engines_look_for() {
    common::require_root!();
    let scratch = Scratch::new("program");
    let cases = [
        ("nowhere", "exec: \"nowhere\": executable file not found in $PATH"),
        ("/nowhere", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ];
    for (program, words) in cases {
        let bundle = scratch.bundle(&[program]);
        bundle.write("etc/passwd", "root:x:0:0::/:/bin/sh\n");
        std::fs::set_permissions(
            bundle.rootfs().join("etc/passwd"),
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )
        .unwrap();
        let id = scratch.name("program");
        let outcome = scratch.oci(["run", "--bundle", bundle.arg(), &id]).fails_with(&[words]);
        assert_eq!(outcome.code, Some(1), "{outcome}");
        scratch.oci(["state", &id]).fails_with(&["does not exist"]);
    }
    scratch.assert_clean();
}

#[test]
fn errors_reach_the_log_in_the_form_that_engines_parse() {
    common::require_root!();
    let scratch = Scratch::new("log");
    let bundle = scratch.bundle(&["nowhere"]);
    let log = scratch.path().join("log.json");
    let global = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    let id = scratch.name("log");
    scratch.oci(global).args(["run", "--bundle", bundle.arg(), &id]).fails_with(&["$PATH"]);
    let text = std::fs::read_to_string(&log).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().unwrap().contains("executable file not found in $PATH"), "{last}");
    assert!(last["time"].as_str().unwrap().ends_with('Z'), "{last}");
}

#[test]
fn missing_files_and_bad_ids_are_named() {
    common::require_root!();
    let scratch = Scratch::new("missing");
    let absent = scratch.path().join("absent");
    let id = scratch.name("missing");
    scratch
        .oci(["run", "--bundle", absent.to_str().unwrap(), &id])
        .fails_with(&["absent/config.json", "JSON specification file not found"]);
    let bundle = scratch.bundle(&["/bin/true"]);
    for wrong in ["a/b", "..", "a b", ""] {
        scratch.oci(["run", "--bundle", bundle.arg(), wrong]).fails_with(&["invalid container ID format"]);
    }
    std::fs::remove_dir_all(bundle.rootfs()).unwrap();
    scratch.oci(["run", "--bundle", bundle.arg(), &id]).fails_with(&["root.path", "rootfs"]);
    std::fs::write(bundle.path.join("config.json"), "{\"ociVersion\":").unwrap();
    scratch.oci(["run", "--bundle", bundle.arg(), &id]).fails_with(&["config.json", "line 1"]);
    scratch.assert_clean();
}

#[test]
fn options_that_are_not_supported_are_errors() {
    common::require_root!();
    let scratch = Scratch::new("options");
    let bundle = scratch.bundle(&["/bin/true"]);
    let id = scratch.name("options");
    let run = |before: &[&str], after: &[&str]| {
        scratch.oci(before).args(["run", "--bundle", bundle.arg()]).args(after).arg(&id)
    };
    run(&["--rootless=perhaps"], &[]).fails_with(&["--rootless", "true, false or auto"]);
    run(&[], &["--console-socket", "/x"]).fails_with(&["--console-socket needs a terminal"]);
    run(&[], &["--nonsense"]).fails_with(&["--nonsense"]).code.map(|code| assert_eq!(code, 1)).unwrap();
    for rootless in ["--rootless=false", "--rootless=true", "--rootless=auto"] {
        run(&[rootless], &[]).ok();
    }
    let unknown = |command: &str| scratch.oci([command, "--nonsense", &id]).fails_with(&["--nonsense"]).code;
    assert_eq!((unknown("exec"), unknown("state")), (Some(255), Some(1)));
    scratch.oci(["run", "--detach", "--bundle", scratch.bundle(&["/bin/sleep", "100"]).arg(), &id]).ok();
    scratch.oci(["exec", &id, ""]).fails_with(&["the command to execute is empty"]);
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.oci(["kill", &id, "NOPE"]).fails_with(&["unknown signal \"NOPE\""]);
}

#[test]
fn a_cgroup_that_others_are_in_is_not_taken() {
    common::require_root!();
    let scratch = Scratch::new("taken");
    let path = format!("/{}", scratch.name("taken"));
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
    let (first, second) = (scratch.name("first"), scratch.name("second"));
    scratch.oci(["run", "-d", "--bundle", bundle.arg(), &first]).ok();
    let refused = scratch.oci(["run", "-d", "--bundle", bundle.arg(), &second]);
    refused.fails_with(&["linux.cgroupsPath", "not empty"]);
    scratch.oci(["delete", "--force", &second]).ok();
    assert_eq!(scratch.oci(["state", &first]).ok().json()["status"], "running");
}

#[test]
fn spec_writes_a_config_that_runs_and_never_overwrites_one() {
    common::require_root!();
    let scratch = Scratch::new("spec");
    let bundle = scratch.bundle(&["/bin/true"]);
    scratch.oci(["spec", "--bundle", bundle.arg()]).fails_with(&["config.json exists"]);
    let config = bundle.path.join("config.json");
    std::fs::remove_file(&config).unwrap();
    scratch.oci(["spec", "--bundle", bundle.arg()]).ok();
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/echo", "from the default config"]);
    std::fs::write(&config, spec.to_string()).unwrap();
    assert_eq!(scratch.run(&bundle).stdout, "from the default config\n");
}

#[test]
fn features_are_what_is_implemented() {
    let scratch = Scratch::new("features");
    let features = scratch.oci(["features"]).ok().json();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let listed = |value: &Value, word: &str| value.as_array().unwrap().iter().any(|item| item == word);
    assert!(listed(&features["linux"]["namespaces"], "user"));
    assert!(listed(&features["mountOptions"], "rro"));
    assert!(listed(&features["hooks"], "createContainer"));
    assert_eq!(features["linux"]["cgroup"]["systemd"], true);
}

/// However few descriptors there are, the limit is named and nothing stays.
#[test]
fn a_limit_of_open_files_is_named_and_nothing_stays() {
    common::require_root!();
    let scratch = Scratch::new("files");
    let bundle = scratch.bundle(&["/bin/true"]);
    for limit in 4..14 {
        let id = scratch.name(&format!("files-{limit}"));
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let call = common::Call::new("/bin/sh").args(["-c", script.as_str()]);
        let call = scratch.oci_by(call, ["run", "--bundle", bundle.arg(), &id]);
        call.fails_with(&["(os error 24); raise the limit of open files (ulimit -n)"]);
        assert!(!scratch.oci_root().join(&id).exists(), "left with {limit} descriptors");
    }
    scratch.assert_clean();
}
