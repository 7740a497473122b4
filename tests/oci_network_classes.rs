//! `linux.resources.network` on a host of cgroup2, where net_cls and net_prio have a v1 hierarchy of their
//! own beside it. scripts/vm boots such a machine.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{CgroupHost, Scratch, require, require_root};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::path::PathBuf;

/// The v1 hierarchy of both controllers, mounted for the time of a test.
struct Hierarchy(PathBuf);

impl Hierarchy {
    fn mount(directory: PathBuf) -> Self {
        std::fs::create_dir(&directory).unwrap();
        let none: Option<&str> = None;
        mount(none, &directory, Some("cgroup"), MsFlags::empty(), Some("net_cls,net_prio")).unwrap();
        Self(directory)
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Whether the kernel has both, and neither is in use.
fn are_free() -> bool {
    let table = std::fs::read_to_string("/proc/cgroups").unwrap();
    let free = |name: &str| {
        table.lines().any(|line| line.split_whitespace().take(2).eq([name, "0"]) && line.ends_with('1'))
    };
    CgroupHost::here() == CgroupHost::V2 && free("net_cls") && free("net_prio")
}

#[test]
fn network_classes_and_priorities_are_set_in_the_hierarchy_beside_cgroup2() {
    require_root!();
    require!(are_free(), "needs cgroup2 with net_cls and net_prio left to v1, unused");
    let scratch = Scratch::new("netcls");
    let id = scratch.name("netcls");
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        spec["linux"]["resources"]["network"] =
            json!({"classID": 0x0010_0001, "priorities": [{"name": "lo", "priority": 5}]});
    });
    let run = || scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]);
    run().fails_with(&["linux.resources.network.classID: the net_cls controller", "mount -t cgroup"]);
    assert_eq!(scratch.oci(["list", "--quiet"]).ok().stdout, "");

    let hierarchy = Hierarchy::mount(scratch.path().join("net"));
    run().ok();
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].to_string();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let place =
        |hierarchy: &str| groups.lines().find_map(|line| line.split_once(hierarchy)).map(|(_, path)| path);
    let (place, unified) = (place(":net_cls,net_prio:/").unwrap(), place("0::/").unwrap());
    assert_eq!(place, unified);
    assert!(place.ends_with(&id), "{groups}");
    let group = hierarchy.0.join(place);
    let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
    assert_eq!(read("net_cls.classid").trim(), "1048577");
    assert!(read("net_prio.ifpriomap").lines().any(|line| line == "lo 5"));
    // Whoever joins is classed too, and sees a host of cgroup2 as every other container does.
    let script = "cat /proc/self/cgroup; test -e /sys/fs/cgroup/memory.max && echo unified";
    let seen = scratch.oci(["exec", &id, "/bin/sh", "-c", script]).ok().stdout;
    assert!(seen.ends_with("0::/\nunified\n"), "{seen}");
    assert_eq!(read("cgroup.procs").trim(), pid, "the exec has ended");
    scratch.oci(["exec", "--detach", &id, "/bin/sleep", "1000"]).ok();
    assert_eq!(read("cgroup.procs").lines().count(), 2);

    let update = |class: u32| {
        let resources = json!({"network": {"classID": class}}).to_string();
        scratch.oci(["update", "-r", "-", &id]).stdin(resources)
    };
    update(2).ok();
    assert_eq!(read("net_cls.classid").trim(), "2");
    scratch.oci(["delete", "--force", &id]).ok();
    assert!(!group.exists());
    drop(hierarchy);
    scratch.assert_clean();
}
