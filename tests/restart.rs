//! Restart policies and stopping.

mod common;

use common::{Scratch, eventually};
use std::time::{Duration, Instant};

#[test]
fn a_failing_instance_is_started_again_as_often_as_the_policy_says() {
    common::require_root!();
    let scratch = Scratch::new("again");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch
        .wharf([
            "run",
            "-d",
            "--name",
            &name,
            "--restart",
            "on-failure:3",
            "shell",
            "sh",
            "-c",
            "echo run; exit 1",
        ])
        .ok();
    assert_eq!(scratch.wharf(["wait", &name]).outcome().code, Some(1));
    let inspected = scratch.inspect(&name);
    assert_eq!(inspected["restart_count"], 3);
    assert_eq!(inspected["status"], "stopped");
    assert_eq!(scratch.wharf(["logs", &name]).ok().stdout, "run\n".repeat(4));
}

#[test]
fn success_is_no_failure_and_no_policy_means_no_restart() {
    common::require_root!();
    let scratch = Scratch::new("once");
    scratch.load("shell");
    for (stem, policy, command) in [("a", "on-failure", "exit 0"), ("b", "no", "exit 1")] {
        let name = scratch.name(stem);
        scratch.wharf(["run", "-d", "--name", &name, "--restart", policy, "shell", "sh", "-c", command]).ok();
        scratch.wharf(["wait", &name]).outcome();
        assert_eq!(scratch.inspect(&name)["restart_count"], 0, "{policy}");
    }
}

#[test]
fn an_instance_with_policy_always_ends_when_it_is_stopped() {
    common::require_root!();
    let scratch = Scratch::new("always");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch.wharf(["run", "-d", "--name", &name, "--restart", "always", "shell", "true"]).ok();
    eventually("it was started again", || scratch.inspect(&name)["restart_count"].as_u64() > Some(1));
    scratch.wharf(["stop", &name]).ok();
    assert_eq!(scratch.inspect(&name)["status"], "stopped");
    assert!(scratch.inspect(&name)["supervisor_pid"].is_null());
}

#[test]
fn stop_sends_the_signal_of_the_user_and_waits() {
    common::require_root!();
    let scratch = Scratch::new("stop");
    scratch.load("shell");
    let name = scratch.name("box");
    let script = "trap 'sleep 0.3; echo bye; exit 5' USR1; echo ready; while :; do sleep 0.05; done";
    scratch.wharf(["run", "-d", "--name", &name, "--stop-signal", "USR1", "shell", "sh", "-c", script]).ok();
    eventually("it is ready", || scratch.wharf(["logs", &name]).ok().stdout == "ready\n");
    scratch.wharf(["stop", &name]).ok();
    assert_eq!(scratch.inspect(&name)["last_exit"]["code"], 5);
    assert_eq!(scratch.wharf(["logs", &name]).ok().stdout, "ready\nbye\n");
}

#[test]
fn what_does_not_stop_in_time_is_killed() {
    common::require_root!();
    let scratch = Scratch::new("kill");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch
        .wharf(["run", "-d", "--name", &name, "shell", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
        .ok();
    let begun = Instant::now();
    scratch.wharf(["stop", "-t", "1", &name]).ok();
    assert!((1..8).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(scratch.inspect(&name)["last_exit"]["signal"], 9);
    assert!(scratch.inspect(&name)["pid"].is_null());
}

#[test]
fn a_stopped_instance_starts_again_with_what_it_has_written() {
    common::require_root!();
    let scratch = Scratch::new("start");
    scratch.load("shell");
    let name = scratch.name("box");
    let script = "cat /kept; echo x >> /kept; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sh", "-c", script]).ok();
    scratch.wharf(["start", &name]).fails_with(&["already started"]);
    scratch.wharf(["restart", &name]).ok();
    scratch.wharf(["stop", &name]).ok();
    scratch.wharf(["start", &name]).ok();
    eventually("it has seen both starts", || {
        scratch.wharf(["logs", &name]).ok().stdout.matches('x').count() == 3
    });
    scratch.wharf(["rm", &name]).fails_with(&["is running"]);
    scratch.wharf(["rm", "-f", &name]).ok();
    scratch.wharf(["inspect", &name]).fails_with(&["no instance"]);
}

#[test]
fn a_second_stop_and_a_kill_are_harmless() {
    common::require_root!();
    let scratch = Scratch::new("twice");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch.wharf(["run", "-d", "--name", &name, "--restart", "always", "shell", "sleep", "100"]).ok();
    scratch.wharf(["kill", &name]).ok();
    eventually("it is stopped", || scratch.inspect(&name)["status"] == "stopped");
    scratch.wharf(["stop", &name]).ok();
    scratch.wharf(["kill", &name]).limit(Duration::from_secs(10)).fails_with(&["is not running"]);
}
