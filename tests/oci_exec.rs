//! `wharf-oci exec`: one more process in a container.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Bundle, Scratch, eventually};
use serde_json::json;

/// A container that sleeps, its bundle and its id.
fn sleeper(scratch: &Scratch) -> (Bundle, String) {
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("exec");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    (bundle, id)
}

#[test]
fn exec_gives_the_programs_output_and_status() {
    common::require_root!();
    let scratch = Scratch::new("exec");
    let (_bundle, id) = sleeper(&scratch);
    let outcome = scratch.oci(["exec", &id, "sh", "-c", "echo out; echo err >&2; exit 9"]).exits(9);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(scratch.oci(["exec", &id, "sh", "-c", "kill -9 $$"]).outcome().code, Some(137));
    assert_eq!(scratch.oci(["exec", &id, "cat"]).stdin("typed").ok().stdout, "typed");
}

#[test]
fn exec_joins_the_containers_namespaces_and_cgroup() {
    common::require_root!();
    let scratch = Scratch::new("join");
    let (_bundle, id) = sleeper(&scratch);
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].as_i64().unwrap();
    let script = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done; hostname";
    let inside = scratch.oci(["exec", &id, "/bin/sh", "-c", script]).ok().stdout;
    let mut expected = String::new();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        expected.push_str(&format!("{}\n", link.display()));
    }
    assert_eq!(inside, format!("{expected}sandbox\n"));
    let groups = |pid: i64| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let pid_file = scratch.path().join("pid");
    scratch.oci(["exec", "-d", "--pid-file", pid_file.to_str().unwrap(), &id, "/bin/sleep", "1000"]).ok();
    let second: i64 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(groups(second), groups(pid));
}

#[test]
fn options_change_the_process() {
    common::require_root!();
    let scratch = Scratch::new("options");
    let (_bundle, id) = sleeper(&scratch);
    let exec = |options: &[&str], script: &str| {
        scratch.oci(["exec"]).args(options).args([id.as_str(), "/bin/sh", "-c", script]).ok().stdout
    };
    assert_eq!(exec(&["--cwd", "/bin"], "pwd"), "/bin\n");
    assert_eq!(exec(&["-e", "A=1", "--env", "B=2 3"], "echo $A $B"), "1 2 3\n");
    let groups = exec(&["-u", "12:34", "-g", "56"], "id -u; id -g; id -G");
    assert_eq!(groups, "12\n34\n34 56\n");
    let bit = |capabilities: &str| {
        let line = capabilities.lines().find(|line| line.starts_with("CapEff")).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap() & 1 << 13 != 0
    };
    assert!(!bit(&exec(&[], "cat /proc/self/status")), "CAP_NET_RAW is not the container's");
    assert!(bit(&exec(&["--cap", "CAP_NET_RAW"], "cat /proc/self/status")));
    assert!(exec(&["--no-new-privs"], "cat /proc/self/status").contains("NoNewPrivs:\t1"));
}

#[test]
fn a_process_file_describes_the_whole_process() {
    common::require_root!();
    let scratch = Scratch::new("file");
    let (_bundle, id) = sleeper(&scratch);
    let file = scratch.path().join("process.json");
    let process = json!({"user": {"uid": 5, "gid": 6}, "args": ["/bin/sh", "-c", "id -u; echo $A; exit 2"],
        "env": ["PATH=/bin", "A=b"], "cwd": "/"});
    std::fs::write(&file, process.to_string()).unwrap();
    let exec = || scratch.oci(["exec", "--process", file.to_str().unwrap(), &id]);
    assert_eq!(exec().exits(2).stdout, "5\nb\n");
    std::fs::write(&file, r#"{"user": {"uid": "root"}, "cwd": "/"}"#).unwrap();
    exec().fails_with(&["process.json", "user.uid"]);
    std::fs::write(&file, json!({"user": {"uid": 0, "gid": 0}, "args": [], "cwd": "/"}).to_string()).unwrap();
    exec().fails_with(&["process.json: args: is empty"]);
}

#[test]
fn a_failed_exec_exits_255_in_the_words_that_engines_look_for() {
    common::require_root!();
    let scratch = Scratch::new("failed");
    let (_bundle, id) = sleeper(&scratch);
    let outcome = scratch.oci(["exec", &id, "nowhere"]).fails_with(&["executable file not found in $PATH"]);
    assert_eq!(outcome.code, Some(255), "{outcome}");
    scratch.oci(["exec", "--user", "root", &id, "id"]).fails_with(&["--user", "numeric"]);
    scratch.oci(["exec", "--env", "A", &id, "id"]).fails_with(&["--env", "KEY=VALUE"]);
    scratch.oci(["exec", &id]).fails_with(&["needs a command"]);
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "running");
}

#[test]
fn an_exec_beyond_the_limit_of_processes_names_the_limit() {
    common::require_root!();
    let scratch = Scratch::new("full");
    let mut bundle = scratch.bundle(&["/bin/sleep", "600"]);
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 1}}));
    let id = scratch.name("full");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["exec", &id, "/bin/true"]).fails_with(&[
        "Resource temporarily unavailable",
        "pids.max",
        "raise",
    ]);
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn a_detached_process_goes_on_and_ends_with_the_container() {
    common::require_root!();
    let scratch = Scratch::new("detached");
    let (bundle, id) = sleeper(&scratch);
    scratch.oci(["exec", "--detach", &id, "/bin/sh", "-c", "echo > /up; sleep 1000"]).ok();
    eventually("it runs", || bundle.rootfs().join("up").exists());
    scratch.oci(["kill", &id, "KILL"]).ok();
    eventually("the container stops", || scratch.oci(["state", &id]).ok().json()["status"] == "stopped");
    scratch.oci(["delete", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn dev_null_of_the_host_comes_in_as_the_containers_own() {
    common::require_root!();
    let scratch = Scratch::new("null");
    // Through the host's own device, root inside could change its mode.
    let script = "test \"$(stat -L -c %d /proc/self/fd/0)\" = \"$(stat -c %d /dev/null)\" && echo own";
    let bundle = scratch.bundle(&["/bin/sh", "-c", &format!("{script}; exec sleep 1000")]);
    let id = scratch.name("null");
    let running = scratch.oci(["run", "--bundle", bundle.arg(), &id]).spawn();
    eventually("it has looked", || running.stdout() == "own\n");
    assert_eq!(scratch.oci(["exec", &id, "/bin/sh", "-c", script]).ok().stdout, "own\n");
    scratch.oci(["kill", &id, "KILL"]).ok();
    running.wait();
}
