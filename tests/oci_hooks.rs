//! Hooks: when they run, what they get, and what their failure does.
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
    let script = "read -r state; echo \"startContainer $state\" >> /hooklog";
    let inside = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    std::fs::write(&log, "").unwrap();
    bundle.edit(|spec| {
        bind(spec, &log, "/hooklog");
        spec["hooks"] = json!({
            "prestart": [tell("prestart", &log), tell("prestart2", &log)],
            "createRuntime": [tell("createRuntime", &log)],
            "createContainer": [tell("createContainer", &log)],
            "startContainer": [inside],
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
    let order = [
        "prestart",
        "prestart2",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    assert_eq!(words, order);
    for (word, state) in &told {
        assert_eq!(state["id"], id.as_str(), "{word}");
        assert_eq!(state["bundle"], bundle.arg(), "{word}");
        assert_eq!(state["ociVersion"], "1.0.2", "{word}");
    }
    let statuses: Vec<&str> = told.iter().map(|(_, state)| state["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["creating", "creating", "creating", "creating", "created", "running", "stopped"]);
    assert_eq!(told[0].1["pid"], pid);
    // In the container's namespaces, the pid as seen there.
    assert_eq!((&told[3].1["pid"], &told[4].1["pid"]), (&json!(1), &json!(1)));
}

fn bind(spec: &mut Value, source: &std::path::Path, destination: &str) {
    let mount = json!({"destination": destination, "source": source, "type": "bind", "options": ["bind"]});
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

/// A shell script as a hook; what it prints ends up in `out`.
fn script(text: &str, out: &std::path::Path) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", format!("{{ {text}; }} > {} 2>&1", out.display())]})
}

#[test]
fn hooks_of_create_see_every_mount_at_the_rootfs_and_can_add_to_it() {
    common::require_root!();
    let scratch = Scratch::new("timing");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "cat /added /etc/via-runtime"]);
    let rootfs = bundle.rootfs();
    let (runtime, container) = (scratch.path().join("runtime"), scratch.path().join("container"));
    let root = rootfs.display();
    bundle.edit(|spec| {
        spec["hooks"] = json!({
            // In the host's mount namespace: the container's mounts are not there.
            "createRuntime": [script(&format!("mkdir -p {root}/etc; echo runtime > {root}/etc/via-runtime; grep -c {root}/ /proc/self/mountinfo; true"), &runtime)],
            // In the container's: they are, at the rootfs, and a mount made now becomes the container's.
            "createContainer": [script(&format!(
                "grep -c {root}/proc /proc/self/mountinfo; test -c {root}/dev/null && echo devices; hostname; mount -t tmpfs added {root}/mnt && touch {root}/added && echo container > {root}/mnt/added && mount --bind {root}/mnt/added {root}/added && pwd"), &container)],
        });
        spec["hostname"] = json!("inner");
    });
    std::fs::create_dir_all(rootfs.join("mnt")).unwrap();
    let outcome = scratch.run(&bundle);
    let told = std::fs::read_to_string(&container).unwrap();
    assert!(outcome.success(), "{outcome}\n{told}");
    assert_eq!(outcome.stdout, "container\nruntime\n");
    assert_eq!(std::fs::read_to_string(&runtime).unwrap(), "0\n");
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() >= 1, "{told}");
    assert_eq!(lines[1..], ["devices", "inner", rootfs.to_str().unwrap()]);
    scratch.assert_clean();
}

#[test]
fn hooks_that_start_inside_are_bound_like_the_container_itself() {
    common::require_root!();
    let scratch = Scratch::new("bound");
    let mut bundle = scratch.bundle(&["/bin/cat", "/out/told"]);
    let out = scratch.path().join("out");
    std::fs::create_dir(&out).unwrap();
    rustix::fs::chmod(&out, rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
    let text =
        "{ id -u; cat /proc/self/status | grep -e CapEff -e NoNewPrivs; env; cat /proc/1/comm; } > /out/told";
    bundle.edit(|spec| {
        bind(spec, &out, "/out");
        spec["process"]["user"] = json!({"uid": 1234, "gid": 1234});
        spec["process"]["noNewPrivileges"] = json!(true);
        spec["process"]["capabilities"] = json!({"bounding": [], "effective": [], "permitted": []});
        spec["hooks"] = json!({"startContainer":
            [{"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["ONLY=this"]}]});
    });
    let outcome = scratch.run(&bundle);
    assert!(outcome.success(), "{outcome}");
    let told: Vec<&str> = outcome
        .stdout
        .lines()
        .filter(|line| !line.starts_with("SHLVL") && !line.starts_with("PWD"))
        .collect();
    assert_eq!(told[0], "1234", "{outcome}");
    assert!(told.contains(&"CapEff:\t0000000000000000") && told.contains(&"NoNewPrivs:\t1"), "{outcome}");
    assert!(told.contains(&"ONLY=this") && !outcome.stdout.contains("HOME="), "{outcome}");
}

/// A `run` in the foreground blocks signals, to hand them on.
#[test]
fn hooks_of_run_can_be_sent_signals() {
    common::require_root!();
    let scratch = Scratch::new("mask");
    let mut bundle = scratch.bundle(&["/bin/true"]);
    let kinds = ["createRuntime", "createContainer", "poststart", "poststop"];
    let copies = kinds.map(|kind| scratch.path().join(kind));
    bundle.edit(|spec| {
        for (kind, copy) in kinds.iter().zip(&copies) {
            // No shell, which may unblock them by itself.
            spec["hooks"][kind] = json!([{"path": "/bin/cp", "args": ["cp", "/proc/self/status", copy]}]);
        }
    });
    assert_eq!(scratch.run(&bundle).code, Some(0));
    for copy in copies {
        let status = std::fs::read_to_string(&copy).unwrap();
        assert!(status.contains("SigBlk:\t0000000000000000\n"), "{}: {status}", copy.display());
    }
}

#[test]
fn a_failing_hook_of_start_ends_the_container_before_its_program_runs() {
    common::require_root!();
    let scratch = Scratch::new("failstart");
    let mut bundle = scratch.bundle(&["/bin/touch", "/ran"]);
    bundle.edit(|spec| {
        spec["hooks"] = json!({"startContainer":
        [{"path": "/bin/sh", "args": ["sh", "-c", "echo no luck; exit 9"]}]});
    });
    let id = scratch.name("failstart");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).fails_with(&["hooks.startContainer[0]", "exit status 9", "no luck"]);
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "stopped");
    scratch.oci(["delete", &id]).ok();
    assert!(!bundle.rootfs().join("ran").exists());
    bundle.edit(|spec| {
        spec["hooks"] = json!({"startContainer":
        [{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]});
    });
    scratch
        .oci(["run", "--bundle", bundle.arg(), &id])
        .fails_with(&["hooks.startContainer[0]", "did not end within 1 s"]);
    bundle.edit(|spec| spec["hooks"] = json!({"startContainer": [{"path": "/nowhere"}]}));
    scratch.oci(["run", "--bundle", bundle.arg(), &id]).fails_with(&[
        "hooks.startContainer[0]",
        "/nowhere",
        "no such file",
    ]);
    scratch.assert_clean();
}

#[test]
fn a_failing_create_hook_undoes_the_container() {
    common::require_root!();
    let scratch = Scratch::new("undo");
    for kind in ["prestart", "createRuntime", "createContainer"] {
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
