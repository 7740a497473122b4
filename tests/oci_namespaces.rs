//! Namespaces that a config asks for beside the usual ones, through wharf-oci.

mod common;

use common::{Bundle, Call, Scratch};
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

const USUAL: [&str; 6] = ["pid", "network", "ipc", "uts", "mount", "cgroup"];

/// Gives a bundle these namespaces; what is in `joined` is joined at this process's.
fn set_namespaces(bundle: &mut Bundle, kinds: &[&str], joined: &[&str], pid: i64) {
    let namespace = |kind: &&str| match joined.contains(kind) {
        true => {
            json!({"type": kind, "path": format!("/proc/{pid}/ns/{}", if *kind == "network" { "net" } else { kind })})
        }
        false => json!({"type": kind}),
    };
    bundle.edit(|spec| spec["linux"]["namespaces"] = kinds.iter().map(namespace).collect());
}

fn map_ids(bundle: &mut Bundle, host: u32) {
    std::os::unix::fs::chown(bundle.rootfs(), Some(host), Some(host)).expect("chown");
    bundle.edit(|spec| {
        spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        spec["linux"]["gidMappings"] = spec["linux"]["uidMappings"].clone();
    });
}

/// A container that only holds namespaces, as the pause container of a pod; returns its pid.
fn hold(scratch: &Scratch, kinds: &[&str], host: Option<u32>, hostname: &str) -> i64 {
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    set_namespaces(&mut bundle, kinds, &[], 0);
    if let Some(host) = host {
        map_ids(&mut bundle, host);
    }
    bundle.edit(|spec| spec["hostname"] = json!(hostname));
    let id = scratch.name(&format!("pause-{hostname}"));
    scratch.oci(["run", "-d", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["state", &id]).ok().json()["pid"].as_i64().expect("a pid")
}

#[test]
fn a_container_of_a_pod_joins_its_user_namespace_with_all_that_belongs_to_it() {
    common::require_root!();
    let scratch = Scratch::new("pod");
    let with_user = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"];
    let pause = hold(&scratch, &with_user, Some(100_000), "pod");
    let script = "id -u; hostname; readlink /proc/self/ns/net; stat -c %u /proc/sys/net/ipv4/ip_forward; \
                  mount | grep -c -E 'mqueue|devpts|sysfs|cgroup'; touch /made; ip link | grep -c LOOPBACK; ls /proc | grep -c '^[0-9]'";
    let net = std::fs::read_link(format!("/proc/{pause}/ns/net")).expect("link");
    for joined in [&["user", "network", "ipc", "uts"][..], &["user", "network", "ipc", "uts", "pid"]] {
        let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
        set_namespaces(&mut bundle, &with_user, joined, pause);
        map_ids(&mut bundle, 100_000);
        bundle.edit(|spec| drop(spec.as_object_mut().expect("object").remove("hostname")));
        let outcome = scratch.run(&bundle);
        assert!(outcome.success(), "{outcome}");
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(lines[..4], ["0", "pod", net.to_str().expect("UTF-8"), "0"], "{joined:?}: {outcome}");
        assert_eq!(lines[5], "1", "{outcome}");
        let made = std::fs::metadata(bundle.rootfs().join("made")).expect("made inside");
        assert_eq!(made.uid(), 100_000);
        map_ids(&mut bundle, 200_000);
        let refused = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("other-map")]);
        refused.fails_with(&["linux.uidMappings", "maps ids otherwise"]);
    }
}

#[test]
fn namespaces_of_the_host_are_joined_by_a_container_with_a_user_namespace_of_its_own() {
    common::require_root!();
    let scratch = Scratch::new("host-owned");
    let pause = hold(&scratch, &USUAL, None, "shared");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "id -u; hostname; readlink /proc/self/ns/net"]);
    let kinds = ["pid", "network", "ipc", "uts", "mount", "user"];
    set_namespaces(&mut bundle, &kinds, &["network", "ipc", "uts"], pause);
    map_ids(&mut bundle, 100_000);
    // A sysfs belongs to who owns the network namespace, so engines bind the host's here, as runc needs too.
    bundle.edit(|spec| {
        drop(spec.as_object_mut().expect("object").remove("hostname"));
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| {
            mount["type"] != "sysfs" && mount["type"] != "mqueue" && mount["type"] != "cgroup"
        });
    });
    let outcome = scratch.run(&bundle);
    assert!(outcome.success(), "{outcome}");
    let net = std::fs::read_link(format!("/proc/{pause}/ns/net")).expect("link");
    assert_eq!(outcome.text(), format!("0\nshared\n{}", net.display()));
}

#[test]
fn namespaces_are_joined_by_path_one_and_all() {
    common::require_root!();
    let scratch = Scratch::new("joined");
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup", "time"];
    let pause = hold(&scratch, &kinds, None, "all");
    let joined = ["pid", "network", "ipc", "uts", "cgroup", "time"];
    let script = "for ns in pid net ipc uts cgroup time; do readlink /proc/self/ns/$ns; done";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    set_namespaces(&mut bundle, &kinds, &joined, pause);
    bundle.edit(|spec| drop(spec.as_object_mut().expect("object").remove("hostname")));
    let wanted: Vec<String> = ["pid", "net", "ipc", "uts", "cgroup", "time"]
        .iter()
        .map(|name| {
            std::fs::read_link(format!("/proc/{pause}/ns/{name}")).expect("link").display().to_string()
        })
        .collect();
    let outcome = scratch.run(&bundle);
    assert_eq!(outcome.text().lines().collect::<Vec<_>>(), wanted, "{outcome}");
}

#[test]
fn what_is_left_out_is_shared_with_the_host() {
    common::require_root!();
    let scratch = Scratch::new("host-namespaces");
    let script = "for ns in pid net ipc uts cgroup; do readlink /proc/self/ns/$ns; done";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    set_namespaces(&mut bundle, &["mount"], &[], 0);
    scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("named")]).fails_with(&["hostname", "uts"]);
    bundle.edit(|spec| drop(spec.as_object_mut().expect("object").remove("hostname")));
    let own: Vec<String> = ["pid", "net", "ipc", "uts", "cgroup"]
        .iter()
        .map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).expect("link").display().to_string())
        .collect();
    let outcome = scratch.run(&bundle);
    assert_eq!(outcome.text().lines().collect::<Vec<_>>(), own, "{outcome}");
}

#[test]
fn a_path_to_another_kind_of_namespace_is_refused_with_its_json_path() {
    common::require_root!();
    let scratch = Scratch::new("other-kind");
    let mut bundle = scratch.bundle(&["/bin/true"]);
    for (path, words) in [
        ("/proc/self/ns/net", ["linux.namespaces[3].path", "uts namespace"]),
        ("/proc/self/ns/absent", ["linux.namespaces[3].path", "No such file"]),
        ("ns/uts", ["linux.namespaces[3].path", "absolute"]),
    ] {
        bundle.edit(|spec| spec["linux"]["namespaces"][3] = json!({"type": "uts", "path": path}));
        scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("kind")]).fails_with(&words);
    }
}

#[test]
fn without_a_cgroup_namespace_a_container_sees_its_own_group_and_nothing_above() {
    common::require_root!();
    let scratch = Scratch::new("owncg");
    let script = "grep -e ' - cgroup' /proc/self/mountinfo | cut -d ' ' -f 4; echo > /sys/fs/cgroup/memory/memory.limit_in_bytes";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    bundle.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    });
    let outcome = scratch.run(&bundle);
    let roots: Vec<&str> = outcome.stdout.lines().collect();
    assert!(!roots.is_empty(), "{outcome}");
    for root in roots {
        assert!(root.starts_with("/wharf-run"), "{root} is not the container's own group: {outcome}");
    }
    assert_ne!(outcome.code, Some(0), "it is read-only: {outcome}");
}

/// A mount namespace that nobody lives in, held by a file alone.
struct Pinned {
    directory: std::path::PathBuf,
}

impl Pinned {
    fn new(scratch: &Scratch) -> Self {
        let directory = scratch.path().join("pinned");
        std::fs::create_dir(&directory).expect("directory");
        let pinned = Self { directory };
        // The file has to be on a mount that is not shared, mount_namespaces(7).
        let at = pinned.directory.to_str().expect("UTF-8");
        Call::new("mount").args(["-t", "tmpfs", "pinned", at]).ok();
        Call::new("mount").args(["--make-private", at]).ok();
        std::fs::write(pinned.path(), "").expect("file");
        let script = "mount -t tmpfs theirs /mnt";
        let option = format!("--mount={}", pinned.path().display());
        Call::new("unshare").args([option.as_str(), "--propagation", "private", "sh", "-c", script]).ok();
        pinned
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.join("namespace")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for place in [self.path(), self.directory.clone()] {
            Call::new("umount").arg("--lazy").arg(place).outcome();
        }
    }
}

fn join_mounts(bundle: &mut Bundle, path: &std::path::Path) {
    bundle.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != "mount");
        namespaces.push(json!({"type": "mount", "path": path}));
    });
}

#[test]
fn a_mount_namespace_that_nobody_lives_in_is_joined_by_path_one_container_after_the_other() {
    common::require_root!();
    let scratch = Scratch::new("mountns");
    let pinned = Pinned::new(&scratch);
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    for stem in ["one", "two"] {
        let id = scratch.name(stem);
        let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
        std::fs::write(bundle.rootfs().join("mine"), &id).expect("write");
        join_mounts(&mut bundle, &pinned.path());
        scratch.oci(["run", "-d", "--bundle", bundle.arg(), &id]).ok();
        let number = std::fs::metadata(pinned.path()).expect("namespace").ino();
        let script = "cat /mine /../mine; readlink /proc/self/ns/mnt; grep -c theirs /proc/self/mountinfo; echo x > /proc/sys/kernel/domainname";
        let outcome = scratch.oci(["exec", &id, "/bin/sh", "-c", script]).outcome();
        assert_eq!(outcome.text(), format!("{id}{id}mnt:[{number}]\n0"), "{outcome}");
        let other = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("other")]);
        other.fails_with(&["linux.namespaces[5].path", "lives in the mount namespace"]);
        scratch.oci(["delete", "--force", &id]).ok();
    }
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"), before);
    drop(pinned);
    scratch.assert_clean();
}

#[test]
fn a_mount_namespace_that_processes_live_in_is_refused_with_its_path() {
    common::require_root!();
    let scratch = Scratch::new("mountlive");
    let pause = hold(&scratch, &USUAL, None, "lives");
    for path in ["/proc/self/ns/mnt".to_owned(), format!("/proc/{pause}/ns/mnt")] {
        let mut bundle = scratch.bundle(&["/bin/true"]);
        join_mounts(&mut bundle, path.as_ref());
        let run = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("lives")]);
        run.fails_with(&["linux.namespaces[5].path", "lives in the mount namespace", &path]);
    }
}

#[test]
fn a_new_user_namespace_with_a_joined_mount_namespace_is_refused_with_its_path() {
    common::require_root!();
    let scratch = Scratch::new("mountuser");
    let mut bundle = scratch.bundle(&["/bin/true"]);
    map_ids(&mut bundle, 100_000);
    join_mounts(&mut bundle, "/proc/self/ns/mnt".as_ref());
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    });
    let run = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("user")]);
    run.fails_with(&["linux.namespaces[5].path", "new user namespace"]);
}

#[test]
fn a_user_namespace_has_as_many_extents_as_the_kernel_takes() {
    common::require_root!();
    let scratch = Scratch::new("extents");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "wc -l < /proc/self/uid_map; id -u"]);
    std::os::unix::fs::chown(bundle.rootfs(), Some(1000), Some(1000)).expect("chown");
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        let extents = (0..340).map(|id| json!({"containerID": id, "hostID": 1000 + 2 * id, "size": 1}));
        spec["linux"]["uidMappings"] = extents.collect();
        spec["linux"]["gidMappings"] = spec["linux"]["uidMappings"].clone();
    });
    let outcome = scratch.run(&bundle);
    assert_eq!(outcome.text(), "340\n0", "{outcome}");
}
