//! The cgroup file system inside a container.

use crate::common::{self, Scratch};

/// Tries every way to write: existing files, new groups, a writable remount, a mount of its own.
const ATTACK: &str = r#"
find /sys/fs/cgroup -type d | while read -r group; do
  mkdir "$group/evil" && echo "MADE $group/evil"
  for file in release_agent notify_on_release cgroup.procs devices.allow memory.max memory.limit_in_bytes; do
    [ -e "$group/$file" ] || continue
    echo tried
    echo 1 > "$group/$file" && echo "WROTE $group/$file"
  done
  mount -o remount,rw,bind "$group" && echo "REMOUNTED $group"
done 2>/dev/null
mkdir -p /own
mount -t cgroup2 cgroup2 /own 2>/dev/null && echo MOUNTED
mount -t cgroup -o memory cgroup /own 2>/dev/null && echo MOUNTED
true"#;

#[test]
fn cve_2022_0492_the_cgroup_mount_is_read_only() {
    common::require_root!();
    let scratch = Scratch::new("cgroup");
    let outcome = scratch.run(&scratch.bundle(&["/bin/sh", "-c", ATTACK]));
    assert!(outcome.success() && outcome.stdout.contains("tried"), "nothing was tried\n{outcome}");
    for word in ["MADE", "WROTE", "REMOUNTED", "MOUNTED"] {
        assert!(!outcome.stdout.contains(word), "{outcome}");
    }
}

#[test]
fn cve_2023_25809_the_cgroup_mount_is_read_only_in_a_user_namespace_too() {
    common::require_root!();
    let scratch = Scratch::new("cgroupu");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", ATTACK]);
    bundle.edit(|spec| {
        let map = serde_json::json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    });
    let outcome = scratch.run(&bundle);
    assert!(outcome.success() && outcome.stdout.contains("tried"), "nothing was tried\n{outcome}");
    for word in ["MADE", "WROTE", "REMOUNTED", "MOUNTED"] {
        assert!(!outcome.stdout.contains(word), "{outcome}");
    }
}

#[test]
fn a_container_sees_its_own_group_as_the_top() {
    common::require_root!();
    let scratch = Scratch::new("cgroupns");
    let outcome = scratch.run(&scratch.bundle(&["/bin/cat", "/proc/self/cgroup"]));
    assert!(outcome.success() && outcome.stdout.lines().count() > 0, "{outcome}");
    for line in outcome.stdout.lines() {
        assert!(line.ends_with(":/"), "a path of the host is seen\n{outcome}");
    }
}
