//! Older kernels, in place of which a seccomp filter answers that a call does not exist: what has a
//! fallback takes it, and what has none is a clear error (docs/kernel-features.md).

mod common;

use common::{Call, Scratch, eventually, program_exists, require};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;

/// The call, and all that it starts, on a kernel without these system calls.
fn without(call: Call, missing: &[i64]) -> Call {
    answering(call, missing.iter().map(|number| (*number, Vec::new())).collect())
}

/// As [`without`], of one system call, and that with this first argument alone.
fn without_one(call: Call, number: i64, first: u64) -> Call {
    let is_meant =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, first).expect("a condition");
    answering(call, BTreeMap::from([(number, vec![SeccompRule::new(vec![is_meant]).expect("a rule")])]))
}

#[allow(unsafe_code)]
fn answering(mut call: Call, rules: BTreeMap<i64, Vec<SeccompRule>>) -> Call {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
    let answer = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    let install = move || {
        seccompiler::apply_filter(&program).map_err(|_| std::io::Error::other("the filter was refused"))
    };
    // SAFETY: between fork and exec only two system calls are made, on memory that is there already.
    unsafe { call.command().pre_exec(install) };
    call
}

#[test]
fn a_container_runs_without_what_has_a_fallback() {
    common::require_root!();
    let scratch = Scratch::new("fallbacks");
    let bundle = scratch.bundle(&["/bin/echo", "ran"]);
    for (name, missing) in [
        ("add_key and keyctl", &[libc::SYS_add_key, libc::SYS_keyctl][..]),
        ("statmount and listmount", &[457, 458]),
        ("open_tree_attr", &[467]),
    ] {
        let id = scratch.name(&name.replace(' ', "-"));
        let outcome = without(scratch.oci(["run", "--bundle", bundle.arg(), &id]), missing).outcome();
        assert_eq!(outcome.text(), "ran", "without {name}: {outcome}");
    }
    for (name, number, first) in [
        ("PR_SET_MM", libc::SYS_prctl, libc::PR_SET_MM as u64),
        ("CLONE_NEWNET of unshare", libc::SYS_unshare, libc::CLONE_NEWNET as u64),
    ] {
        let id = scratch.name(&name.replace(' ', "-"));
        let outcome =
            without_one(scratch.oci(["run", "--bundle", bundle.arg(), &id]), number, first).outcome();
        assert_eq!(outcome.text(), "ran", "without {name}: {outcome}");
    }
}

/// Sealed by a second execution, as it is where a process cannot change what its executable is.
#[test]
fn a_runtime_that_cannot_be_sealed_in_place_is_sealed_all_the_same() {
    common::require_root!();
    let scratch = Scratch::new("resealed");
    let bundle = scratch.bundle(&["/bin/true"]);
    let id = scratch.name("waits");
    let create = scratch.oci(["create", "--bundle", bundle.arg(), &id]);
    without_one(create, libc::SYS_prctl, libc::PR_SET_MM as u64).ok();
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].as_i64().unwrap();
    assert!(common::is_on_read_only_mount(format!("/proc/{pid}/exe").as_ref()));
    scratch.oci(["delete", "--force", &id]).ok();
}

#[test]
fn what_a_container_cannot_do_without_is_one_clear_line_and_nothing_is_left() {
    common::require_root!();
    let scratch = Scratch::new("required");
    let bundle = scratch.bundle(&["/bin/true"]);
    for (name, missing) in [
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
        ("open_tree", libc::SYS_open_tree),
        ("fsopen", libc::SYS_fsopen),
        ("move_mount", libc::SYS_move_mount),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("close_range", libc::SYS_close_range),
    ] {
        let id = scratch.name(name);
        let outcome = without(scratch.oci(["run", "--bundle", bundle.arg(), &id]), &[missing]).outcome();
        assert_eq!(outcome.code, Some(1), "without {name}: {outcome}");
        assert!(outcome.stderr.contains("Function not implemented"), "without {name}: {outcome}");
        assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "without {name}: {outcome}");
        assert_eq!(scratch.oci(["list", "-q"]).ok().stdout, "", "without {name}");
    }
}

/// Attaches strace(1) to a process alone, and not to what it makes: `inject` is done to that process.
fn injected(pid: &str, inject: &str, trace: &std::path::Path) -> common::Running {
    let call =
        Call::new("strace").args(["-qq", "-e", "trace=fsconfig,mount,umount2", "-e", inject, "-p", pid]);
    let strace = call.arg("-o").arg(trace).spawn();
    let status = format!("/proc/{pid}/status");
    let held = || std::fs::read_to_string(&status).is_ok_and(|text| !text.contains("TracerPid:\t0\n"));
    eventually("strace holds the process", held);
    strace
}

#[test]
fn an_instance_starts_where_overlayfs_does_not_know_lowerdir_plus() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    let scratch = Scratch::new("lowerdir");
    scratch.load("shell");
    let name = scratch.name("box");
    // The first start says nothing but the place; the second is made while fsconfig(2) is refused.
    let script =
        "test -e /again && exec sleep 1000; touch /again; until test -e /go; do sleep 0.05; done; exit 1";
    let run = ["run", "-d", "--name", &name, "--restart", "on-failure:1", "shell", "sh", "-c", script];
    scratch.wharf(run).ok();
    let supervisor = scratch.inspect(&name)["supervisor_pid"].to_string();
    let trace = scratch.path().join("trace");
    let strace = injected(&supervisor, "inject=fsconfig:error=EINVAL:when=1", &trace);
    scratch.wharf(["exec", &name, "touch", "/go"]).ok();
    eventually("it was started again", || {
        let inspected = scratch.inspect(&name);
        inspected["restart_count"] == 1 && inspected["status"] == "running"
    });
    strace.signal(nix::sys::signal::Signal::SIGTERM);
    strace.wait();
    let traced = std::fs::read_to_string(&trace).expect("the trace");
    let has = |words: [&str; 3]| traced.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(["lowerdir+", "EINVAL", "INJECTED"]), "{traced}");
    assert!(has(["mount(\"overlay\"", "lowerdir=", " = 0"]), "{traced}");
    assert!(has(["umount2(", "MNT_DETACH", " = 0"]), "{traced}");
    // Its root is an overlay that has kept what the first start wrote, and no other process sees it.
    let seen = scratch.wharf(["exec", &name, "sh", "-c", "ls /again; grep ' / ' /proc/mounts"]).ok().stdout;
    assert!(seen.starts_with("/again\noverlay / overlay "), "{seen}");
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    assert!(!table.contains(scratch.path().to_str().expect("UTF-8")), "{table}");
    scratch.wharf(["rm", "-f", &name]).ok();
    scratch.assert_clean();
}
