//! `kill -9` of wharf-oci at any point loses nothing: the next command tells the truth, and
//! `delete --force` leaves nothing behind.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Call, Scratch, eventually, program_exists, require, sparseness};
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::HashMap;

/// One system call of a program: its name, and the how manieth of that name it is.
type Moment = (String, u32);

fn strace(scratch: &Scratch, options: &[&str], args: &[&str]) -> Call {
    scratch.oci_by(Call::new("strace").arg("-qq").args(options), args)
}

/// Every system call that `wharf-oci ARGS` makes, in order.
fn moments(scratch: &Scratch, args: &[&str]) -> Vec<Moment> {
    let trace = scratch.path().join("trace");
    strace(scratch, &["-o", trace.to_str().unwrap()], args).ok();
    let mut counts = HashMap::new();
    let text = std::fs::read_to_string(&trace).unwrap();
    let names = text.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name);
    // strace shows calls that are newer than itself by number, and cannot wait for them.
    let names = names.filter(|name| !name.starts_with("syscall_"));
    let moments = names.map(|name| {
        let count = counts.entry(name.to_owned()).or_insert(0);
        *count += 1;
        (name.to_owned(), *count)
    });
    moments.collect()
}

/// Runs `wharf-oci ARGS` and has it killed at that moment.
fn kill_at(scratch: &Scratch, (name, count): &Moment, args: &[&str]) {
    let inject = format!("inject={name}:signal=SIGKILL:when={count}");
    let outcome = strace(scratch, &["-o", "/dev/null", "-e", &inject], args).outcome();
    // A command may make a call less on its second run, where it waited on its first.
    assert!(outcome.signal == Some(9) || outcome.success(), "{name} {count}\n{outcome}");
}

/// Kills `args` at every `step`th of its system calls, fewer on a slow machine; `reset` brings the container back before each.
fn kill_everywhere(scratch: &Scratch, id: &str, step: usize, args: &[&str], mut reset: impl FnMut()) {
    reset();
    let all = moments(scratch, args);
    assert!(all.len() > 40, "{all:?}");
    scratch.oci(["delete", "--force", id]).ok();
    for moment in all.iter().step_by(step * sparseness()) {
        reset();
        kill_at(scratch, moment, args);
        let listed = scratch.oci(["list", "--format", "json"]).ok().json();
        assert!(listed.as_array().is_some(), "list works after a kill at {moment:?}");
        scratch.oci(["delete", "--force", id]).ok();
        let left = scratch.leftovers();
        assert!(left.is_empty() || settled(scratch), "left by a kill at {moment:?}: {left:#?}");
        assert!(!scratch.oci_root().join(id).exists(), "state is left by a kill at {moment:?}");
    }
}

/// Dying processes may need a moment.
fn settled(scratch: &Scratch) -> bool {
    (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        scratch.leftovers().is_empty()
    })
}

#[test]
fn a_create_that_is_killed_at_any_system_call_can_be_cleaned_up() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    let scratch = Scratch::new("create");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("create");
    kill_everywhere(&scratch, &id, 2, &["create", "--bundle", bundle.arg(), &id], || {});
}

#[test]
fn a_run_that_is_killed_at_any_system_call_can_be_cleaned_up() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    let scratch = Scratch::new("run");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("run");
    // Detached, so that it ends by itself where it is not killed.
    kill_everywhere(&scratch, &id, 2, &["run", "--detach", "--bundle", bundle.arg(), &id], || {});
}

#[test]
fn a_create_takes_over_what_a_killed_one_left() {
    common::require_root!();
    let scratch = Scratch::new("over");
    let bundle = scratch.bundle(&["/bin/true"]);
    let id = scratch.name("over");
    let left = scratch.oci_root().join(&id);
    std::fs::create_dir_all(&left).unwrap();
    drop(std::os::unix::net::UnixListener::bind(left.join("start.sock")).unwrap());
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).ok();
    scratch.oci(["delete", "--force", &id]).ok();
}

#[test]
fn a_delete_that_is_killed_at_any_system_call_can_be_repeated() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    let scratch = Scratch::new("delete");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("delete");
    kill_everywhere(&scratch, &id, 1, &["delete", "--force", &id], || {
        scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    });
}

#[test]
fn a_start_that_is_killed_at_any_system_call_leaves_a_container_that_tells_the_truth() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    let scratch = Scratch::new("start");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("start");
    let create = || scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    create();
    let all = moments(&scratch, &["start", &id]);
    assert!(all.len() > 30, "{all:?}");
    scratch.oci(["delete", "--force", &id]).ok();
    for moment in all.iter().step_by(2 * sparseness()) {
        create();
        kill_at(&scratch, moment, &["start", &id]);
        let state = scratch.oci(["state", &id]).ok().json();
        let command = std::fs::read(format!("/proc/{}/cmdline", state["pid"])).unwrap();
        let executed = command.starts_with(b"/bin/sleep");
        // The process may execute between the two looks; it never goes back.
        let truth = if executed { ["running", "created"] } else { ["created", "created"] };
        assert!(truth.contains(&state["status"].as_str().unwrap()), "killed at {moment:?}: {state}");
        scratch.oci(["delete", "--force", &id]).ok();
    }
}

#[test]
fn a_create_that_is_killed_in_a_hook_leaves_no_process_and_can_be_deleted() {
    common::require_root!();
    let scratch = Scratch::new("hook");
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let entered = scratch.path().join("entered");
    let script = format!("echo > {}; exec sleep 1000", entered.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": [hook]}));
    let id = scratch.name("hook");
    let running = scratch.oci(["create", "--bundle", bundle.arg(), &id]).spawn();
    eventually("the hook runs", || entered.exists());
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "creating");
    scratch.oci(["start", &id]).fails_with(&["creating"]);
    let hooks = children(running.pid());
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait().signal, Some(9));
    eventually("its process ends with its maker", || {
        scratch.oci(["state", &id]).ok().json()["status"] == "stopped"
    });
    scratch.oci(["start", &id]).fails_with(&["stopped"]);
    // The hook is the host's own; end it as its starter would have.
    for pid in hooks {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

/// Children of a process that are no container's.
fn children(pid: u32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_run_that_is_killed_leaves_a_container_that_goes_on_and_can_be_deleted() {
    common::require_root!();
    let scratch = Scratch::new("run");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("run");
    let running = scratch.oci(["run", "--bundle", bundle.arg(), &id]).spawn();
    eventually("it runs", || {
        scratch.oci(["state", &id]).outcome().stdout.contains("\"status\": \"running\"")
    });
    running.signal(Signal::SIGKILL);
    running.wait();
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "running");
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn a_recorded_pid_that_belongs_to_another_process_now_is_left_alone() {
    common::require_root!();
    let scratch = Scratch::new("reuse");
    let bundle = scratch.bundle(&["/bin/true"]);
    let id = scratch.name("reuse");
    scratch.oci(["run", "--keep", "--bundle", bundle.arg(), &id]).ok();
    // A pid is not given out again within the tick, a hundredth of a second, that start times are told in.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let stranger = Call::new("/bin/sleep").arg("1000").spawn();
    let file = scratch.oci_root().join(&id).join("state.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    record["process"]["pid"] = json!(stranger.pid());
    std::fs::write(&file, record.to_string()).unwrap();
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "stopped");
    scratch.oci(["kill", &id, "KILL"]).fails_with(&["container not running"]);
    scratch.oci(["delete", "--force", &id]).ok();
    assert!(std::path::Path::new(&format!("/proc/{}", stranger.pid())).exists());
    stranger.signal(Signal::SIGKILL);
    stranger.wait();
}

#[test]
fn an_unreadable_record_can_be_forced_away_and_hides_no_other_container() {
    common::require_root!();
    let scratch = Scratch::new("broken");
    let bundle = scratch.bundle(&["/bin/true"]);
    let (broken, whole) = (scratch.name("broken"), scratch.name("whole"));
    for id in [&broken, &whole] {
        scratch.oci(["run", "--keep", "--bundle", bundle.arg(), id]).ok();
    }
    std::fs::write(scratch.oci_root().join(&broken).join("state.json"), "{").unwrap();
    scratch.oci(["state", &broken]).fails_with(&["state.json", "delete --force"]);
    let listed = scratch.oci(["list", "--quiet"]).ok();
    assert_eq!(listed.text(), whole);
    assert!(listed.stderr.contains(&broken), "{listed}");
    scratch.oci(["delete", "--force", &broken]).ok();
    assert!(!scratch.oci_root().join(&broken).exists());

    // What a power failure may leave of a file is no container, and its id is free.
    std::fs::write(scratch.oci_root().join(&whole).join("state.json"), "").unwrap();
    scratch.oci(["state", &whole]).fails_with(&[&whole, "does not exist"]);
    scratch.oci(["run", "--bundle", bundle.arg(), &whole]).ok();
    assert!(!scratch.oci_root().join(&whole).exists());
}

#[test]
fn commands_at_once_on_one_container_wait_for_each_other() {
    common::require_root!();
    let scratch = Scratch::new("race");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    for round in 0..5 {
        let id = scratch.name(&format!("race{round}"));
        let create = || scratch.oci(["create", "--bundle", bundle.arg(), &id]).spawn();
        let made: Vec<_> = [create(), create(), create()].into_iter().map(|call| call.wait()).collect();
        assert_eq!(made.iter().filter(|outcome| outcome.success()).count(), 1, "{made:#?}");
        let start = || scratch.oci(["start", &id]).spawn();
        let started: Vec<_> = [start(), start(), start()].into_iter().map(|call| call.wait()).collect();
        assert_eq!(started.iter().filter(|outcome| outcome.success()).count(), 1, "{started:#?}");
        let delete = || scratch.oci(["delete", "--force", &id]).spawn();
        let deleted: Vec<_> = [delete(), delete()].into_iter().map(|call| call.wait()).collect();
        assert!(deleted.iter().all(common::Outcome::success), "{deleted:#?}");
    }
    scratch.assert_clean();
}

#[test]
fn a_forced_delete_beside_a_create_waits_and_leaves_nothing() {
    common::require_root!();
    let scratch = Scratch::new("beside");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("beside");
    for round in 0..20 {
        let create = scratch.oci(["create", "--bundle", bundle.arg(), &id]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(round % 10 * 3));
        scratch.oci(["delete", "--force", &id]).ok();
        // The one that comes second decides what is left.
        create.wait();
        scratch.oci(["delete", "--force", &id]).ok();
        assert!(!scratch.oci_root().join(&id).exists());
    }
    scratch.assert_clean();
}
