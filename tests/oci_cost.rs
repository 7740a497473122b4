//! What `wharf-oci run` costs, in system calls: a bound that no later change loses unseen.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::cgroups::CGROUP2_ONLY;
use common::trace::{TracedCall, memory_kib, traced_calls};
use common::{Bundle, Call, CgroupHost, Scratch, program_exists, require};
use std::collections::{BTreeMap, BTreeSet};

/// The default config; 38 of the calls drop one capability each, and the test's state root is made. glibc makes more
/// calls before `main`.
const BOUND: u32 = if cfg!(target_env = "musl") { 250 } else { 262 };

/// Calls of all processes of a traced `run`, by name, without those of the container's own program.
fn calls(scratch: &Scratch, bundle: &Bundle) -> BTreeMap<String, u32> {
    let trace = scratch.path().join("trace");
    let id = scratch.name("cost");
    // The same on every host: v1 hierarchies cost calls of their own.
    let call = Call::new(CGROUP2_ONLY).args(["strace", "-f", "-qq", "-o", trace.to_str().unwrap()]);
    scratch.oci_by(call, ["run", "--bundle", bundle.arg(), &id]).ok();
    let mut programs = BTreeSet::new();
    let mut counts = BTreeMap::new();
    for TracedCall { pid, name, rest } in traced_calls(&std::fs::read_to_string(&trace).unwrap()) {
        if programs.contains(pid) {
            continue;
        }
        *counts.entry(name.to_owned()).or_insert(0) += 1;
        if name == "execve" && rest.starts_with("\"/bin/true\"") {
            programs.insert(pid.to_owned());
        }
    }
    counts
}

#[test]
fn a_run_of_the_default_config_makes_few_system_calls() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    let scratch = Scratch::new("cost");
    let bundle = scratch.bundle(&["/bin/true"]);
    let counts = calls(&scratch, &bundle);
    let total: u32 = counts.values().sum();
    // Controllers have to be enabled level by level where there are any.
    let bound = if CgroupHost::here() == CgroupHost::V2 { BOUND + 20 } else { BOUND };
    assert!(total <= bound, "{total} system calls, {bound} are allowed: {counts:#?}");
    assert!(total > 100, "the trace is complete: {counts:#?}");
    assert_eq!(counts.get("getdents64"), None, "no directory is listed: {counts:#?}");
    assert_eq!(counts.get("clone3"), Some(&2), "one thread and one process are made: {counts:#?}");
    assert_eq!(counts.get("execveat"), None, "the executable is sealed in place: {counts:#?}");
}

/// To move another process takes a grace period of the kernel's, 10 to 30 ms.
#[test]
fn on_v1_hierarchies_every_process_enters_by_itself() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    require!(CgroupHost::here() == CgroupHost::V1OrHybrid, "needs a host with v1 hierarchies");
    let scratch = Scratch::new("enters");
    let own = "cat /proc/self/cgroup";
    let (waits, prints) = (scratch.bundle(&["/bin/true"]), scratch.bundle(&["/bin/sh", "-c", own]));
    let (id, other) = (scratch.name("enters"), scratch.name("prints"));
    let traced = |name: &str, arguments: &[&str]| {
        let trace = scratch.path().join(name);
        let call =
            Call::new("strace").args(["-f", "-qq", "-e", "open,openat", "-o", trace.to_str().unwrap()]);
        (scratch.oci_by(call, arguments).ok().stdout, std::fs::read_to_string(&trace).unwrap())
    };
    scratch.oci(["create", "--bundle", waits.arg(), &id]).ok();
    let run = traced("run", &["run", "--bundle", prints.arg(), &other]);
    let exec = traced("exec", &["exec", &id, "/bin/sh", "-c", own]);
    scratch.oci(["delete", "--force", &id]).ok();
    for (groups, trace) in [run, exec] {
        // In a cgroup namespace, which begins where the container's process was when it was made.
        assert!(groups.lines().count() > 2 && groups.lines().all(|line| line.ends_with(":/")), "{groups}");
        assert!(
            trace.contains("/tasks\", O_WRONLY") && !trace.contains("cgroup.procs\", O_WRONLY"),
            "{trace}"
        );
    }
}

/// A container between `create` and `start` may wait for days, and thousands beside it.
#[test]
fn a_container_that_waits_for_its_start_holds_little_memory() {
    common::require_root!();
    let scratch = Scratch::new("waits");
    let bundle = scratch.bundle(&["/bin/true"]);
    let id = scratch.name("waits");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].as_i64().unwrap();
    let (of_files, all) = (memory_kib(pid, "Pss_File"), memory_kib(pid, "Pss"));
    scratch.oci(["delete", "--force", &id]).ok();
    // Of the program's file, tens of megabytes in a debug build, two pages of code and what lies beside the data that
    // was written to. A release holds 168 KiB in all.
    assert!(of_files <= 256, "{of_files} KiB of {all}");
    assert!(all <= 450, "{all} KiB, {of_files} of files");
}
