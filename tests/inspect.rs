//! What `wharf inspect` and `wharf stats` say is what the kernel's own files say.

mod common;

use common::{Scratch, eventually};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A file of the instance's cgroup, whichever of the names this host has: v1's first, then v2's.
fn cgroup_file(inspected: &Value, names: &[&str]) -> String {
    let directories: Vec<PathBuf> =
        serde_json::from_value(inspected["cgroup_directories"].clone()).expect("paths");
    let files = names.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    let texts: Vec<String> = files.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    texts.first().unwrap_or_else(|| panic!("none of {names:?} in {directories:?}")).trim().to_owned()
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[test]
fn inspect_agrees_with_the_kernel_about_a_running_instance() {
    common::require_root!();
    let scratch = Scratch::new("inspect");
    scratch.load("shell");
    let name = scratch.name("box");
    let limits = ["--memory", "64M", "--pids", "77", "--cpus", "0.5"];
    let command = ["shell", "sleep", "1000"];
    scratch.wharf(["run", "-d", "--name", &name]).args(limits).args(command).ok();
    let inspected = scratch.inspect(&name);

    let pid = inspected["pid"].as_u64().expect("a pid");
    assert_eq!(std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs"), b"sleep\x001000\x00");
    assert_eq!(inspected["supervisor_pid"], json!(parent(pid)));
    let cgroup = inspected["cgroup"].as_str().expect("a path");
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read");
    assert!(groups.lines().any(|line| line.ends_with(&format!(":{cgroup}"))), "{cgroup}: {groups}");
    assert_eq!(cgroup_file(&inspected, &["cgroup.procs"]), pid.to_string());

    let asked = &inspected["limits"];
    let memory = cgroup_file(&inspected, &["memory.limit_in_bytes", "memory.max"]);
    assert_eq!((asked["memory_bytes"].as_u64(), number(&memory)), (Some(64 << 20), Some(64 << 20)));
    let pids = cgroup_file(&inspected, &["pids.max"]);
    assert_eq!((asked["pids"].as_u64(), number(&pids)), (Some(77), Some(77)));
    let quota = cgroup_file(&inspected, &["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(asked["cpu_millis"], 500);
    assert_eq!(quota.split(' ').next(), Some("50000"), "of a period of 100000");

    let address = inspected["address"].as_str().expect("an address");
    let inside = scratch.wharf(["exec", &name, "ip", "-4", "-o", "addr", "show"]).ok();
    assert!(inside.stdout.contains(&format!(" {address}/")), "{address}: {inside}");
    assert_eq!((&inspected["restart_count"], &inspected["last_exit"]), (&json!(0), &Value::Null));
}

fn parent(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("PPid");
    line.trim().parse().expect("a number")
}

#[test]
fn inspect_tells_how_an_instance_ended_and_how_often_it_was_started_again() {
    common::require_root!();
    let scratch = Scratch::new("ended");
    scratch.load("shell");
    let name = scratch.name("box");
    let command = ["shell", "sh", "-c", "exit 3"];
    scratch.wharf(["run", "-d", "--name", &name, "--restart", "on-failure:1"]).args(command).ok();
    eventually("it is given up", || scratch.inspect(&name)["status"] == "stopped");
    let inspected = scratch.inspect(&name);
    assert_eq!(inspected["restart_count"], 1);
    assert_eq!(inspected["last_exit"]["code"], 3);
    assert_eq!(inspected["last_exit"]["oom"], false);
    for gone in ["pid", "usage"] {
        assert_eq!(inspected[gone], Value::Null, "{gone}");
    }
    // The address stays the instance's own until it is removed, so that a later start has it again.
    let address = inspected["address"].as_str().expect("an address").to_owned();
    let hosts = std::fs::read_to_string(scratch.root().join("instances").join(&name).join("hosts"));
    assert!(hosts.expect("read").lines().any(|line| line.starts_with(&address)), "{address}");
}

#[test]
fn stats_agree_with_the_cgroup_files() {
    common::require_root!();
    let scratch = Scratch::new("stats");
    scratch.load("shell");
    let name = scratch.name("box");
    let script = "sleep 1000 & sleep 1000 & echo ready; wait";
    let limits = ["--memory", "48M", "--pids", "33"];
    scratch.wharf(["run", "-d", "--name", &name]).args(limits).args(["shell", "sh", "-c", script]).ok();
    eventually("it is ready", || scratch.wharf(["logs", &name]).ok().stdout == "ready\n");
    let inspected = scratch.inspect(&name);

    let stats = || scratch.wharf(["stats", "--no-stream", "--json", &name]).ok().json()[0].clone();
    let seen = stats();
    assert_eq!(seen["name"], name.as_str());
    assert_eq!((&seen["memory_limit_bytes"], &seen["pids_limit"]), (&json!(48 << 20), &json!(33)));
    // Everything sleeps now, so the kernel's counts soon stand still.
    let agrees = |field: &str, names: &[&str]| {
        eventually(&format!("{field} is what the kernel counts"), || {
            stats()[field].as_u64() == number(&cgroup_file(&inspected, names))
        });
    };
    agrees("pids_current", &["pids.current"]);
    agrees("memory_usage_bytes", &["memory.usage_in_bytes", "memory.current"]);
    assert_eq!(stats()["pids_current"], 3);
    let percent = stats()["memory_percent"].as_f64().expect("a number");
    let used = stats()["memory_used_bytes"].as_f64().expect("a number");
    assert!((percent - used * 100.0 / f64::from(48 << 20)).abs() < 0.5, "{percent} % of {used}");

    scratch.wharf(["stop", "-t", "0", &name]).ok();
    assert_eq!(scratch.wharf(["stats", "--no-stream", "--json"]).ok().json(), json!([]));
}
