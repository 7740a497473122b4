//! What becomes of an instance when its supervisor is killed.

mod common;

use common::{Scratch, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";

fn pid_of(scratch: &Scratch, name: &str, field: &str) -> Pid {
    let pid = scratch.inspect(name)[field].as_i64().unwrap_or_else(|| panic!("{name} has no {field}"));
    Pid::from_raw(i32::try_from(pid).expect("a pid"))
}

fn start(scratch: &Scratch, options: &[&str], script: &str) -> String {
    let name = scratch.name("box");
    scratch.wharf(["run", "-d", "--name", &name]).args(options).args(["shell", "sh", "-c", script]).ok();
    name
}

/// Gone, or a zombie that the host's process 1 has not reaped yet.
fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[test]
fn an_instance_whose_supervisor_was_killed_is_adopted_and_loses_no_output() {
    common::require_root!();
    let scratch = Scratch::new("adopt");
    scratch.load("shell");
    let name = start(&scratch, &[], COUNTER);
    let pid = pid_of(&scratch, &name, "pid");
    for _ in 0..3 {
        let supervisor = pid_of(&scratch, &name, "supervisor_pid");
        kill(supervisor, Signal::SIGKILL).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_ne!(pid_of(&scratch, &name, "supervisor_pid"), supervisor);
        assert_eq!(pid_of(&scratch, &name, "pid"), pid, "neither lost nor started twice");
    }
    scratch.wharf(["stop", "-t", "0", &name]).ok();
    let logs = scratch.wharf(["logs", &name]).ok().stdout;
    let count = logs.lines().count();
    let expected: String = (1..=count).map(|number| format!("{number}\n")).collect();
    assert!(count > 20 && logs == expected, "{logs}");
}

#[test]
fn a_supervisor_blocks_what_it_handles_whoever_started_it() {
    common::require_root!();
    let scratch = Scratch::new("mask");
    scratch.load("shell");
    let name = scratch.name("box");
    let run = scratch.wharf(["run", "--name", &name, "shell", "sh", "-c", "echo ready; sleep 600"]).spawn();
    eventually("the instance is ready", || run.stdout().contains("ready"));
    let status = format!("/proc/{}/status", pid_of(&scratch, &name, "supervisor_pid"));
    let status = std::fs::read_to_string(status).expect("a supervisor");
    // SIGHUP, SIGINT, SIGQUIT, SIGTERM.
    assert!(status.contains("SigBlk:\t0000000000004007\n"), "{status}");
    scratch.wharf(["stop", "-t", "0", &name]).ok();
    run.wait();
}

#[test]
fn the_exit_status_of_an_adopted_instance_is_known() {
    common::require_root!();
    let scratch = Scratch::new("status");
    scratch.load("shell");
    let name = start(&scratch, &[], "trap 'exit 42' USR1; echo ready; while :; do sleep 0.02; done");
    eventually("it is ready", || scratch.wharf(["logs", &name]).ok().stdout == "ready\n");
    kill(pid_of(&scratch, &name, "supervisor_pid"), Signal::SIGKILL).unwrap();
    scratch.wharf(["kill", "-s", "USR1", &name]).ok();
    eventually("it has ended", || scratch.inspect(&name)["status"] == "stopped");
    assert_eq!(scratch.inspect(&name)["last_exit"]["code"], 42);
}

#[test]
fn an_instance_that_ended_unseen_is_cleaned_up_after_and_told_so() {
    common::require_root!();
    let scratch = Scratch::new("unseen");
    scratch.load("shell");
    let name = start(&scratch, &[], COUNTER);
    let pid = pid_of(&scratch, &name, "pid");
    kill(pid_of(&scratch, &name, "supervisor_pid"), Signal::SIGKILL).unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    eventually("it has ended", || has_ended(pid));
    let inspected = scratch.inspect(&name);
    assert_eq!(inspected["status"], "stopped", "{inspected}");
    assert!(inspected["last_exit"]["reason"].as_str().unwrap().contains("unseen"), "{inspected}");
    assert!(inspected["cgroup_directories"].as_array().unwrap().is_empty());
}

#[test]
fn the_policy_holds_for_an_instance_that_ended_unseen() {
    common::require_root!();
    let scratch = Scratch::new("policy");
    scratch.load("shell");
    let name = start(&scratch, &["--restart", "always"], COUNTER);
    let pid = pid_of(&scratch, &name, "pid");
    kill(pid_of(&scratch, &name, "supervisor_pid"), Signal::SIGKILL).unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    eventually("it runs again", || {
        scratch.inspect(&name)["pid"].as_i64().is_some_and(|now| now != i64::from(pid.as_raw()))
    });
    assert_eq!(scratch.inspect(&name)["restart_count"], 1);
}

#[test]
fn commands_at_once_adopt_once() {
    common::require_root!();
    let scratch = Scratch::new("race");
    scratch.load("shell");
    let name = start(&scratch, &["--restart", "always"], COUNTER);
    let pid = pid_of(&scratch, &name, "pid");
    kill(pid_of(&scratch, &name, "supervisor_pid"), Signal::SIGKILL).unwrap();
    let running: Vec<_> = (0..6).map(|_| scratch.wharf(["ps", "--json"]).spawn()).collect();
    for command in running {
        assert_eq!(command.wait().json()[0]["pid"], pid.as_raw());
    }
    let supervisors = scratch.processes().into_iter().filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("supervise")
    });
    assert_eq!(supervisors.count(), 1);
}

#[test]
fn a_supervisor_that_is_asked_to_end_stops_its_instance() {
    common::require_root!();
    let scratch = Scratch::new("term");
    scratch.load("shell");
    let name = start(&scratch, &["--restart", "always"], "trap 'exit 0' TERM; while :; do sleep 0.02; done");
    kill(pid_of(&scratch, &name, "supervisor_pid"), Signal::SIGTERM).unwrap();
    eventually("it is stopped", || scratch.inspect(&name)["status"] == "stopped");
}

/// A file that had its name on the disk, and its contents not yet, has no byte when the power comes back.
#[test]
fn what_a_power_failure_kept_from_the_disk_is_in_nobodys_way() {
    common::require_root!();
    let scratch = Scratch::new("power");
    scratch.load("shell");
    let instances = scratch.root().join("instances");
    // While it was being made.
    let name = scratch.name("half");
    let half = instances.join(&name);
    std::fs::create_dir_all(half.join("upper")).unwrap();
    for file in ["config.json", "state.json", "instance.json"] {
        std::fs::write(half.join(file), "").unwrap();
    }
    assert_eq!(scratch.wharf(["ps", "--all", "--json"]).ok().json().as_array().unwrap().len(), 0);
    scratch.wharf(["inspect", &name]).fails_with(&["no instance"]);
    scratch.wharf(["run", "--name", &name, "shell", "true"]).ok();
    // While it was being started again.
    std::fs::write(half.join("state.json"), "").unwrap();
    let state = scratch.inspect(&name);
    assert_eq!(state["status"], "stopped");
    assert!(state["last_exit"]["reason"].as_str().unwrap().contains("previous boot"), "{state}");
    scratch.wharf(["start", &name]).ok();
    scratch.wharf(["rm", "-f", &name]).ok();
}
