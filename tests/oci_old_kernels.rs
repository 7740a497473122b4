//! Older kernels, in place of which a seccomp filter answers that a call does not exist: what has a
//! fallback takes it, and what has none is a clear error (docs/kernel-features.md).

mod common;

use common::{Call, Scratch};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;

/// The call, and all that it starts, on a kernel without these system calls.
#[allow(unsafe_code)]
fn without(mut call: Call, missing: &[i64]) -> Call {
    let rules: BTreeMap<i64, Vec<_>> = missing.iter().map(|number| (*number, Vec::new())).collect();
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
