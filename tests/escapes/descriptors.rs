//! Descriptors of the host that a process inside could come by.

use crate::common::{self, Call, DESCRIPTOR_SCAN, Scratch, eventually};
use crate::sentinel::Sentinel;
use serde_json::{Value, json};
use std::path::PathBuf;

#[test]
fn cve_2016_9962_process_1_finds_no_descriptor_of_the_host_in_an_entering_process() {
    common::require_root!();
    let scratch = Scratch::new("fds");
    let bundle = scratch.bundle(&["/bin/sh", "/scan"]);
    // 0, 1 and 2 are what the caller of exec gave; all else would be the runtime's.
    bundle.write("scan", &format!("echo $$ > /ready\n{DESCRIPTOR_SCAN}"));
    let id = scratch.name("scan");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).ok();
    eventually("the attack runs", || bundle.rootfs().join("ready").exists());
    for _ in 0..30 {
        scratch.oci(["exec", &id, "/bin/sleep", "0.02"]).ok();
    }
    std::fs::write(bundle.rootfs().join("stop"), "").unwrap();
    assert!(bundle.rootfs().join("seen").exists(), "the scan met no process; it proves nothing");
    let found = std::fs::read_to_string(bundle.rootfs().join("found")).unwrap_or_default();
    assert_eq!(found, "", "process 1 saw descriptors of the entering process");
}

/// Runs a call with descriptors 7 and 41 open on host files and inheritable, as a careless caller would.
fn with_open_descriptors(program: &std::path::Path, args: &[&str]) -> common::Outcome {
    let script = r#"exec 7</etc/hostname 41</ "$@""#;
    Call::new("bash").args(["-c", script, "bash", program.to_str().unwrap()]).args(args).ok()
}

/// What the descriptors of a container's first process lead to, without its standard streams.
fn held_beside_streams(state: &Value) -> Vec<PathBuf> {
    let mut held = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", state["pid"])).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        if number > 2 {
            held.push(std::fs::read_link(entry.path()).unwrap_or_default());
        }
    }
    held
}

#[test]
fn descriptors_of_the_caller_reach_neither_run_nor_exec() {
    common::require_root!();
    let scratch = Scratch::new("inherit");
    let list = "for number in /proc/self/fd/*; do readlink $number; done | grep -v -e pipe: -e ^/proc/ -e deleted -e /dev/null";
    let bundle = scratch.bundle(&["/bin/sh", "-c", &format!("{list}; sleep 100")]);
    let root = scratch.oci_root();
    let (runtime, root) = (common::wharf_oci(), root.to_str().unwrap());
    let id = scratch.name("held");
    with_open_descriptors(&runtime, &["--root", root, "create", "--bundle", bundle.arg(), &id]);
    scratch.oci(["start", &id]).ok();
    let inside = with_open_descriptors(
        &runtime,
        &["--root", root, "exec", &id, "/bin/sh", "-c", &format!("{list}; true")],
    );
    assert_eq!(inside.text(), "", "exec inherited a descriptor\n{inside}");
    let state = scratch.oci(["state", &id]).ok().json();
    // The shell keeps its own script descriptor (10 upward) only for scripts in files.
    let held = held_beside_streams(&state);
    assert!(held.is_empty(), "run inherited {held:?}");
}

#[test]
fn a_container_that_waits_for_its_start_has_no_descriptor_of_the_host() {
    common::require_root!();
    let scratch = Scratch::new("waiting");
    let bundle = scratch.bundle(&["/bin/true"]);
    let id = scratch.name("waiting");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    let mut held = held_beside_streams(&scratch.oci(["state", &id]).ok().json());
    // On these it is started, and reports.
    held.retain(|target| !target.to_str().unwrap().starts_with("socket:"));
    assert!(held.is_empty(), "the waiting process holds {held:?}");
    scratch.oci(["start", &id]).ok();
}

#[test]
fn a_process_that_enters_is_never_seen_with_the_hosts_root_directory_or_descriptors() {
    common::require_root!();
    let scratch = Scratch::new("entering");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["secret"]);
    // CAP_SYS_PTRACE of the host's user namespace gets past the entering process not being dumpable.
    let watch = "echo watching; while true; do for p in /proc/[0-9]*; do
        case $p in /proc/1|/proc/$$) continue;; esac
        test \"$p\" -ef /proc/self && continue
        echo seen $p
        cat $p/cwd/secret && echo read; echo pwned > $p/cwd/written; cat $p/root$SENTINEL/secret && echo read
        for fd in $p/fd/*; do test -d $fd && ls $fd/.. | grep -q -e sentinel -e oci && echo descriptor $fd; done
        done; done 2>/dev/null";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", watch]);
    bundle.edit(|spec| {
        let sets = ["bounding", "effective", "permitted"];
        for set in sets {
            let capabilities = spec["process"]["capabilities"][set].as_array_mut().unwrap();
            capabilities.push(json!("CAP_SYS_PTRACE"));
        }
        spec["process"]["env"].as_array_mut().unwrap().push(json!(format!("SENTINEL={}", sentinel.arg())));
    });
    let id = scratch.name("entering");
    let running = scratch.oci(["run", "--bundle", bundle.arg(), &id]).spawn();
    eventually("it watches", || running.stdout().contains("watching"));
    for _ in 0..60 {
        scratch.oci(["exec", &id, "/bin/sleep", "0.02"]).current_dir(&sentinel.path).ok();
    }
    scratch.oci(["kill", &id, "KILL"]).ok();
    let outcome = running.wait();
    assert!(outcome.stdout.contains("seen"), "the watcher saw an entering process: {outcome}");
    assert!(!outcome.stdout.contains("read\n") && !outcome.stdout.contains("descriptor"), "{outcome}");
    sentinel.assert_untouched();
}
