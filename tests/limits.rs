//! Limits are shown to bind, by the kernel's own accounting.

mod common;

use common::cgroups::CGROUP2_ONLY;
use common::{Call, Scratch, eventually, eventually_within};
use std::time::Duration;

/// Fills memory: a shell variable that doubles until it is larger than any limit here.
const EAT_MEMORY: &str = "x=0123456789abcdef; while :; do x=$x$x; done";

#[test]
fn oom_kill_is_reported_with_the_limit() {
    common::require_root!();
    let scratch = Scratch::new("oom");
    scratch.load("shell");
    let name = scratch.name("box");
    let run = scratch
        .wharf(["run", "--name", &name, "--memory", "64M", "shell", "sh", "-c", EAT_MEMORY])
        .exits(137);
    assert!(run.stderr.contains("killed: out of memory, limit 64 MiB"), "{run}");
    let inspected = scratch.inspect(&name);
    assert_eq!(inspected["last_exit"]["oom"], true);
    assert_eq!(inspected["last_exit"]["signal"], 9);
    assert!(inspected["oom_kills"].as_u64() >= Some(1));
    let listed = scratch.wharf(["ps", "-a"]).ok();
    assert!(listed.stdout.contains("killed: out of memory, limit 64 MiB"), "{listed}");
}

#[test]
fn an_oom_killed_child_is_reported_though_the_service_goes_on() {
    common::require_root!();
    let scratch = Scratch::new("child");
    scratch.load("shell");
    let name = scratch.name("box");
    let script = format!("sh -c '{EAT_MEMORY}'; echo child ended with $?; sleep 100");
    scratch.wharf(["run", "-d", "--name", &name, "--memory", "32M", "shell", "sh", "-c", &script]).ok();
    eventually("the child is gone", || scratch.wharf(["logs", &name]).ok().stdout.contains("ended with 137"));
    assert_eq!(scratch.inspect(&name)["status"], "running");
    assert_eq!(scratch.inspect(&name)["oom_kills"], 1);
    let stats = scratch.wharf(["stats", "--no-stream", "--json", &name]).ok().json();
    assert_eq!((&stats[0]["oom_kills"], &stats[0]["memory_limit_bytes"]), (&1.into(), &(32 << 20).into()));
}

#[test]
fn a_limit_too_small_for_any_program_ends_with_a_clear_error() {
    common::require_root!();
    let scratch = Scratch::new("tiny");
    scratch.load("shell");
    let name = scratch.name("box");
    let outcome = scratch
        .wharf(["run", "--name", &name, "--memory", "64K", "shell", "sleep", "100"])
        .limit(Duration::from_secs(20))
        .outcome();
    assert!(outcome.code.is_some_and(|code| code != 0), "{outcome}");
    assert!(outcome.stderr.contains("memory"), "{outcome}");
}

#[test]
fn two_busy_loops_get_the_share_of_cpu_they_were_given() {
    common::require_root!();
    let scratch = Scratch::new("cpu");
    scratch.load("shell");
    let name = scratch.name("box");
    let script = "while :; do :; done & while :; do :; done";
    scratch.wharf(["run", "-d", "--name", &name, "--cpus", "0.5", "shell", "sh", "-c", script]).ok();
    // Judged by the kernel's count of 100 ms periods and of CPU time, not by the clock; on a busy machine
    // the loops may go without their share for a while, but never get more.
    eventually_within(Duration::from_secs(120), "45 to 55 % of a CPU over two seconds", || {
        let percent = share_over_twenty_periods(&scratch, &name);
        assert!(percent <= 55, "{percent} %");
        percent >= 45
    });
    assert!(scratch.inspect(&name)["usage"]["cpu_throttled_periods"].as_u64() > Some(0));
}

/// CPU time used in percent of one CPU.
fn share_over_twenty_periods(scratch: &Scratch, name: &str) -> u64 {
    let field = |usage: &serde_json::Value, field: &str| usage[field].as_u64().expect("a number");
    let usage = || scratch.inspect(name)["usage"].clone();
    let before = usage();
    let mut after = usage();
    while field(&after, "cpu_periods") < field(&before, "cpu_periods") + 20 {
        std::thread::sleep(Duration::from_millis(50));
        after = usage();
    }
    let grown = |name: &str| field(&after, name) - field(&before, name);
    let periods = grown("cpu_periods");
    100 * grown("cpu_usage_ns") / (periods * 100_000_000)
}

#[test]
fn a_fork_bomb_stops_at_the_limit_of_processes() {
    common::require_root!();
    let scratch = Scratch::new("bomb");
    scratch.load("shell");
    let name = scratch.name("box");
    let script = "while :; do sleep 1000 & done 2>/dev/null; sleep 1000";
    scratch.wharf(["run", "-d", "--name", &name, "--pids", "20", "shell", "sh", "-c", script]).ok();
    let pids = || scratch.inspect(&name)["usage"]["pids_current"].as_u64().unwrap_or(20);
    for _ in 0..20 {
        assert!(pids() <= 20);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(scratch.inspect(&name)["limits"]["pids"], 20);
    scratch.wharf(["rm", "-f", &name]).ok();
}

#[test]
fn the_cgroup_is_gone_when_the_instance_has_stopped() {
    common::require_root!();
    let scratch = Scratch::new("gone");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch.wharf(["run", "-d", "--name", &name, "--memory", "64M", "shell", "sleep", "100"]).ok();
    let directories = scratch.inspect(&name)["cgroup_directories"].clone();
    let directories: Vec<String> = serde_json::from_value(directories).unwrap();
    assert!(!directories.is_empty());
    scratch.wharf(["stop", "-t", "0", &name]).ok();
    for directory in directories {
        assert!(!std::path::Path::new(&directory).exists(), "{directory}");
    }
}

#[test]
fn a_limit_whose_controller_is_absent_is_refused_and_leaves_no_instance() {
    common::require_root!();
    let scratch = Scratch::new("absent");
    scratch.load("shell");
    let controllers = Call::new(CGROUP2_ONLY).args(["cat", "/sys/fs/cgroup/cgroup.controllers"]).ok();
    let present = controllers.stdout.split_whitespace().any(|controller| controller == "memory");
    common::require!(!present, "needs a host that keeps the memory controller on cgroup v1");
    for detach in [&[][..], &["-d"]] {
        let mut wharf = scratch.wharf(["run", "--memory", "64M"]).args(detach).args(["shell", "true"]);
        let command = wharf.command();
        let run = Call::new(CGROUP2_ONLY).arg(command.get_program()).args(command.get_args());
        let refused = run.fails_with(&["the memory controller is not available", "or remove the limit"]);
        assert_eq!(refused.code, Some(125), "{refused}");
    }
    assert_eq!(scratch.wharf(["ps", "-a", "--json"]).ok().json(), serde_json::json!([]));
    let containers = std::fs::read_dir(scratch.root().join("run/containers")).unwrap();
    assert_eq!(containers.count(), 0);
    scratch.assert_clean();
}
