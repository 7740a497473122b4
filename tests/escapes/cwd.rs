//! A working directory outside the container's root.

use crate::common::{self, Scratch};
use crate::sentinel::Sentinel;

/// Looks for the host's sentinel from the working directory upward.
fn search(sentinel: &Sentinel) -> String {
    let below = sentinel.arg().trim_start_matches('/');
    format!(
        "up=.; for turn in 1 2 3 4 5 6 7 8; do [ -e $up/{below}/file ] && echo ESCAPED; \
         [ -e $up/file ] && echo ESCAPED; up=$up/..; done; echo searched"
    )
}

#[test]
fn cve_2024_21626_no_descriptor_serves_as_a_way_out_for_run() {
    common::require_root!();
    let scratch = Scratch::new("cwd");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["file"]);
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", &search(&sentinel)]);
    for number in 3..64 {
        bundle.edit(|spec| spec["process"]["cwd"] = format!("/proc/self/fd/{number}").into());
        let outcome = scratch.run(&bundle);
        assert!(!outcome.stdout.contains("ESCAPED"), "descriptor {number}\n{outcome}");
        assert!(outcome.success() || !outcome.stderr.is_empty(), "{outcome}");
    }
}

#[test]
fn cve_2024_21626_no_descriptor_serves_as_a_way_out_for_exec() {
    common::require_root!();
    let scratch = Scratch::new("cwdx");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["file"]);
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("cwd");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).ok();
    let search = search(&sentinel);
    let honest = scratch.oci(["exec", "--cwd", "/tmp", &id, "/bin/sh", "-c", &search]).ok();
    assert_eq!(honest.text(), "searched", "the search itself works");
    for number in 3..64 {
        let cwd = format!("/proc/self/fd/{number}");
        let outcome = scratch.oci(["exec", "--cwd", &cwd, &id, "/bin/sh", "-c", &search]).outcome();
        assert!(!outcome.stdout.contains("ESCAPED"), "descriptor {number}\n{outcome}");
    }
}

#[test]
fn a_working_directory_through_a_symlink_stays_inside() {
    common::require_root!();
    let scratch = Scratch::new("cwdln");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["file"]);
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", &search(&sentinel)]);
    std::os::unix::fs::symlink(&sentinel.path, bundle.rootfs().join("out")).unwrap();
    bundle.edit(|spec| spec["process"]["cwd"] = "/out".into());
    let outcome = scratch.run(&bundle);
    assert!(!outcome.stdout.contains("ESCAPED"), "{outcome}");
    sentinel.assert_untouched();
}
