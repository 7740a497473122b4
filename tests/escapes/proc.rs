//! /proc and /sys that are not what they seem.

use crate::common::{self, Bundle, Call, Outcome, Scratch};
use crate::sentinel::{CORE_PATTERN, Sentinel, Setting};
use serde_json::json;
use std::os::unix::fs::symlink;

/// Files that a runtime writes below /proc, as an image would fake them.
const FAKE: &[&str] = &[
    "self/attr/exec",
    "self/attr/apparmor/exec",
    "self/oom_score_adj",
    "self/setgroups",
    "thread-self/attr/exec",
    "sys/net/ipv4/ip_forward",
    "sys/kernel/domainname",
];

/// Makes the runtime write all it may write to /proc.
fn with_writes(bundle: &mut Bundle) {
    bundle.edit(|spec| {
        spec["process"]["oomScoreAdj"] = json!(500);
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.domainname": "example"});
    });
}

#[track_caller]
fn assert_refused(outcome: &Outcome) {
    assert!(outcome.code.is_some_and(|code| code != 0), "should be refused\n{outcome}");
    assert!(!outcome.stderr.trim().is_empty(), "the refusal should be told\n{outcome}");
    assert!(!outcome.stdout.contains("RAN"), "the program ran\n{outcome}");
}

#[test]
fn cve_2025_54867_proc_that_is_a_symlink_is_refused() {
    common::require_root!();
    let scratch = Scratch::new("proc");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), FAKE);
    for target in [sentinel.arg(), "/tmp", "../../sentinel"] {
        let mut bundle = scratch.bundle(&["/bin/echo", "RAN"]);
        with_writes(&mut bundle);
        std::fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
        symlink(target, bundle.rootfs().join("proc")).unwrap();
        assert_refused(&scratch.run(&bundle));
        sentinel.assert_untouched();
    }
}

#[test]
fn cve_2025_54867_sys_that_is_a_symlink_is_refused() {
    common::require_root!();
    let scratch = Scratch::new("sys");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["fs/cgroup/file"]);
    let bundle = scratch.bundle(&["/bin/echo", "RAN"]);
    std::fs::remove_dir(bundle.rootfs().join("sys")).unwrap();
    symlink(&sentinel.path, bundle.rootfs().join("sys")).unwrap();
    assert_refused(&scratch.run(&bundle));
    sentinel.assert_untouched();
}

#[test]
fn cve_2019_19921_a_volume_on_proc_never_receives_the_runtimes_writes() {
    common::require_root!();
    let scratch = Scratch::new("procvol");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), FAKE);
    let volume =
        json!({"destination": "/proc", "type": "bind", "source": sentinel.arg(), "options": ["rbind", "rw"]});
    for first in [true, false] {
        let mut bundle = scratch.bundle(&["/bin/echo", "RAN"]);
        with_writes(&mut bundle);
        bundle.edit(|spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.insert(if first { 0 } else { mounts.len() }, volume.clone());
        });
        scratch.run(&bundle);
        sentinel.assert_untouched();
    }
}

/// Either the container is refused, or what the runtime wrote has reached the kernel and no cover.
#[track_caller]
fn assert_refused_or_written(scratch: &Scratch, bundle: &Bundle) {
    let id = scratch.name("covered");
    let created = scratch.oci(["create", "--bundle", bundle.arg(), &id]).outcome();
    if !created.success() {
        assert_refused(&created);
        return;
    }
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].to_string();
    let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "500", "the write to oom_score_adj went elsewhere");
    let setting = [
        "--target",
        &pid,
        "--net",
        "--uts",
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/domainname",
    ];
    assert_eq!(Call::new("nsenter").args(setting).ok().stdout, "1\nexample\n", "a sysctl went elsewhere");
    scratch.oci(["delete", "--force", &id]).ok();
}

#[test]
fn cve_2019_16884_a_cover_over_a_part_of_proc_never_receives_the_runtimes_writes() {
    common::require_root!();
    let scratch = Scratch::new("attr");
    for destination in ["/proc/self/attr", "/proc/self", "/proc/sys", "/proc/thread-self/attr", "/proc/1"] {
        let mut bundle = scratch.bundle(&["/bin/true"]);
        with_writes(&mut bundle);
        bundle.mount(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}));
        assert_refused_or_written(&scratch, &bundle);
    }
}

#[test]
fn cve_2025_52881_a_symlink_that_leads_a_mount_into_proc_never_receives_the_runtimes_writes() {
    common::require_root!();
    let scratch = Scratch::new("attrln");
    for covered in ["/proc/self/attr", "/proc/sys", "/proc/sys/net", "/proc/self"] {
        let mut bundle = scratch.bundle(&["/bin/true"]);
        with_writes(&mut bundle);
        symlink(covered, bundle.rootfs().join("innocent")).unwrap();
        bundle.mount(json!({"destination": "/innocent", "type": "tmpfs", "source": "tmpfs"}));
        assert_refused_or_written(&scratch, &bundle);
    }
}

#[test]
fn cve_2022_0811_only_settings_of_a_namespace_are_written() {
    common::require_root!();
    let scratch = Scratch::new("sysctl");
    let setting = Setting::of(CORE_PATTERN);
    let attempts = [
        ("kernel.core_pattern", "|/evil"),
        ("kernel/core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("net.ipv4.ip_forward/../../../kernel/core_pattern", "|/evil"),
        ("fs.mqueue.../kernel/core_pattern", "|/evil"),
        ("vm.overcommit_memory", "0"),
    ];
    for (name, value) in attempts {
        let mut bundle = scratch.bundle(&["/bin/echo", "RAN"]);
        bundle.edit(|spec| spec["linux"]["sysctl"] = json!({name: value}));
        assert_refused(&scratch.run(&bundle));
        setting.assert_untouched();
    }
    let mut bundle = scratch.bundle(&["/bin/cat", "/proc/sys/kernel/shm_rmid_forced"]);
    bundle.edit(|spec| {
        spec["linux"]["sysctl"] = json!({"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/evil #"});
    });
    scratch.run(&bundle);
    setting.assert_untouched();
}

#[test]
fn cve_2018_10892_what_proc_tells_of_the_host_is_masked_by_default() {
    common::require_root!();
    let scratch = Scratch::new("masks");
    let spec = scratch.path().join("spec");
    std::fs::create_dir(&spec).unwrap();
    scratch.oci(["spec", "--bundle", spec.to_str().unwrap()]).ok();
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(spec.join("config.json")).unwrap()).unwrap();
    let masked = written["linux"]["maskedPaths"].clone();
    let mut bundle = scratch.bundle(&[
        "/bin/sh",
        "-c",
        "for p in acpi scsi asound; do ls -A /proc/$p 2>/dev/null; done; \
         for p in kcore keys timer_list sched_debug latency_stats; do wc -c < /proc/$p 2>/dev/null | grep -v '^0$'; done; \
         ls -A /sys/firmware 2>/dev/null; echo > /proc/sysrq-trigger; echo looked",
    ]);
    bundle.edit(|spec| spec["linux"]["maskedPaths"] = masked);
    let outcome = scratch.run(&bundle);
    assert_eq!(outcome.text(), "looked", "{outcome}");
    assert!(outcome.stderr.contains("sysrq-trigger"), "writing to sysrq-trigger is refused\n{outcome}");
}
