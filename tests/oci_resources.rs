//! `linux.resources`: what the kernel has of it is set, the rest is refused by its path.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::cgroups::{groups, limit};
use common::{Bundle, Scratch};
use serde_json::{Value, json};

fn limited(scratch: &Scratch, program: &[&str], resources: &Value) -> Bundle {
    let mut bundle = scratch.bundle(program);
    bundle.edit(|spec| spec["linux"]["resources"] = resources.clone());
    bundle
}

fn pid(scratch: &Scratch, id: &str) -> String {
    scratch.oci(["state", id]).ok().json()["pid"].to_string()
}

#[test]
fn a_pids_limit_of_zero_allows_no_fork_since_1_3_and_all_before() {
    common::require_root!();
    let scratch = Scratch::new("nofork");
    let forks = ["/bin/sh", "-c", "/bin/true; echo forked"];
    for (version, pids, forked) in [
        ("1.3.0", json!({"limit": 0}), false),
        ("1.3.0", json!({}), true),
        ("1.2.0", json!({"limit": 0}), true),
        ("1.3.0", json!({"limit": -1}), true),
    ] {
        let mut bundle = limited(&scratch, &forks, &json!({"pids": pids}));
        bundle.edit(|spec| spec["ociVersion"] = json!(version));
        let outcome = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("nofork")]).outcome();
        assert_eq!(outcome.stdout.contains("forked"), forked, "{version} {pids}: {outcome}");
    }
    scratch.assert_clean();
}

#[test]
fn huge_pages_are_limited_when_used_and_when_reserved() {
    common::require_root!();
    let scratch = Scratch::new("huge");
    let resources = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    let bundle = limited(&scratch, &["/bin/sleep", "1000"], &resources);
    let id = scratch.name("huge");
    let outcome = scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).outcome();
    if outcome.success() {
        let pid = pid(&scratch, &id);
        for files in [
            ["hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"],
            ["hugetlb.2MB.rsvd.max", "hugetlb.2MB.rsvd.limit_in_bytes"],
        ] {
            assert_eq!(limit(&pid, &files).as_deref(), Some("4194304"), "{files:?}");
        }
        scratch.oci(["delete", "--force", &id]).ok();
    } else {
        assert!(outcome.stderr.contains("linux.resources.hugepageLimits[0]: "), "{outcome}");
    }
    scratch.assert_clean();
}

#[test]
fn a_weight_is_set_where_a_scheduler_takes_it_and_refused_elsewhere() {
    common::require_root!();
    let scratch = Scratch::new("weight");
    let bundle = limited(&scratch, &["/bin/sleep", "1000"], &json!({"blockIO": {"weight": 500}}));
    let id = scratch.name("weight");
    let outcome = scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).outcome();
    if outcome.success() {
        let files = ["io.bfq.weight", "io.weight", "blkio.weight", "blkio.bfq.weight"];
        let weight = limit(&pid(&scratch, &id), &files).unwrap();
        assert!(["500", "default 500", "default 4950"].contains(&weight.as_str()), "{weight}");
        scratch.oci(["delete", "--force", &id]).ok();
    } else {
        assert!(outcome.stderr.contains("linux.resources.blockIO.weight: "), "{outcome}");
    }
    scratch.assert_clean();
}

/// `MAJOR:MINOR` of a disk of this machine.
fn disk() -> Option<String> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    disks.filter_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok()).next()
}

#[test]
fn a_throttle_of_a_refused_update_is_taken_back() {
    common::require_root!();
    let Some(disk) = disk() else { return common::skip("this machine has no disk") };
    let (major, minor) = disk.trim().split_once(':').unwrap();
    let throttle = |rate: u64| {
        let device = json!([{"major": major.parse::<i64>().unwrap(), "minor": minor.parse::<i64>().unwrap(), "rate": rate}]);
        json!({"throttleReadBpsDevice": device})
    };
    let scratch = Scratch::new("throttle");
    let bundle = limited(&scratch, &["/bin/sleep", "1000"], &json!({}));
    let id = scratch.name("throttle");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let pid = pid(&scratch, &id);
    let throttles = || limit(&pid, &["io.max", "blkio.throttle.read_bps_device"]).unwrap();
    let update = |resources: Value| scratch.oci(["update", "-r", "-", &id]).stdin(resources.to_string());
    update(json!({"blockIO": throttle(1_048_576), "cpu": {"cpus": "9999"}})).fails_with(&["cpu.cpus"]);
    assert_eq!(throttles(), "");
    update(json!({"blockIO": throttle(1_048_576)})).ok();
    assert!(throttles().contains("1048576"), "{}", throttles());
    update(json!({"blockIO": throttle(0)})).ok();
    assert_eq!(throttles(), "");
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn kernel_memory_is_a_warning_and_what_is_no_limit_an_error() {
    common::require_root!();
    let scratch = Scratch::new("odd");
    let bundle = limited(&scratch, &["/bin/true"], &json!({"memory": {"kernel": 4_194_304}}));
    let outcome = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("odd")]).ok();
    assert!(outcome.stderr.contains("warning: linux.resources.memory.kernel: "), "{outcome}");
    for (resources, path) in [
        (json!({"unified": {"cgroup.procs": "1"}}), "linux.resources.unified.cgroup.procs: "),
        (
            json!({"hugepageLimits": [{"pageSize": "2", "limit": 1}]}),
            "linux.resources.hugepageLimits[0].pageSize: ",
        ),
        (json!({"blockIO": {"weight": 5}}), "linux.resources.blockIO.weight: "),
        (json!({"rdma": {"mlx5_0": {}}}), "linux.resources.rdma.mlx5_0: "),
    ] {
        let bundle = limited(&scratch, &["/bin/true"], &resources);
        let id = scratch.name("odd");
        scratch.oci(["run", "--bundle", bundle.arg(), &id]).fails_with(&[path]);
    }
    assert!(groups("self").iter().all(|(_, directory)| directory.exists()));
    scratch.assert_clean();
}
