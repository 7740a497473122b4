//! Namespaces that a config asks for beside the usual ones, through wharf-oci.

mod common;

use common::Scratch;
use serde_json::json;
use std::os::unix::fs::MetadataExt as _;

#[test]
fn a_time_namespace_has_its_offsets() {
    common::require_root!();
    let scratch = Scratch::new("time");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "cut -d. -f1 /proc/uptime"]);
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "time"}));
        spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    });
    let uptime: u64 = scratch.run(&bundle).text().parse().expect("a number");
    assert!(uptime > 1_000_000, "{uptime}");
}

#[test]
fn a_user_namespace_maps_ids_and_a_map_without_one_is_refused() {
    common::require_root!();
    let scratch = Scratch::new("user");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "id -u; cat /proc/self/uid_map; touch /made"]);
    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(100_000)).expect("chown");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.edit(|spec| {
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    });
    scratch
        .oci(["run", "--bundle", bundle.arg(), &scratch.name("none")])
        .fails_with(&["linux.uidMappings", "user namespace"]);
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    });
    let outcome = scratch.run(&bundle);
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536"]);
    let made = std::fs::metadata(bundle.rootfs().join("made")).expect("made inside");
    assert_eq!((made.uid(), made.gid()), (100_000, 100_000), "root inside is nobody outside");
}

#[test]
fn a_limit_without_its_controller_is_refused_with_its_json_path() {
    common::require_root!();
    let scratch = Scratch::new("absent");
    let mut bundle = scratch.bundle(&["/bin/true"]);
    bundle.edit(|spec| spec["linux"]["resources"]["rdma"] = json!({"mlx5_1": {"hcaHandles": 3}}));
    if std::path::Path::new("/sys/fs/cgroup/rdma").exists() {
        common::skip("this host has the rdma controller");
        return;
    }
    let run = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("rdma")]);
    run.fails_with(&["linux.resources.rdma", "controller"]);
    assert_eq!(scratch.oci(["list", "-q"]).ok().stdout, "");
}
