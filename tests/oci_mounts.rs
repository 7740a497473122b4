//! `mounts` of a config, through wharf-oci: what the container sees, and what it is refused with.

mod common;

use common::{Bundle, Scratch};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

/// A directory beside the root, of this owner, with a file in it.
fn owned_directory(bundle: &Bundle, name: &str, owner: u32) -> PathBuf {
    let path = bundle.path.join(name);
    std::fs::create_dir(&path).expect("source directory");
    std::fs::write(path.join("file"), "content\n").expect("file");
    for path in [path.clone(), path.join("file")] {
        chown(path, Some(owner), Some(owner)).expect("chown");
    }
    path
}

fn user_namespace(bundle: &mut Bundle, host: u32) {
    chown(bundle.rootfs(), Some(host), Some(host)).expect("chown");
    bundle.edit(|spec| {
        let map = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    });
}

fn bind(source: &Path, options: &[&str]) -> Value {
    json!({"destination": "/mnt", "type": "bind", "source": source, "options": options})
}

/// A bind mount on the host, for as long as it is kept.
struct HostMount(PathBuf);

impl HostMount {
    fn bind(source: &Path, target: &Path) -> Self {
        let nothing = None::<&str>;
        nix::mount::mount(Some(source), target, nothing, nix::mount::MsFlags::MS_BIND, nothing)
            .expect("bind");
        Self(target.to_owned())
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    }
}

/// What a run prints, which must succeed.
#[track_caller]
fn output(scratch: &Scratch, bundle: &Bundle) -> String {
    let outcome = scratch.run(bundle);
    assert!(outcome.success(), "{outcome}");
    outcome.text().to_owned()
}

#[test]
fn an_idmapped_mount_shows_its_files_as_the_containers_own() {
    common::require_root!();
    let scratch = Scratch::new("idmap");
    let script = "stat -c %u:%g /mnt/file; echo made > /mnt/made && stat -c %u:%g /mnt/made";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    let source = owned_directory(&bundle, "data", 0);
    user_namespace(&mut bundle, 100_000);
    bundle.mount(bind(&source, &["rbind", "idmap"]));
    assert_eq!(output(&scratch, &bundle), "0:0\n0:0");
    let made = std::fs::metadata(source.join("made")).expect("made inside");
    assert_eq!((made.uid(), made.gid()), (0, 0), "written to disk through the map");
}

#[test]
fn a_mount_has_id_maps_of_its_own_without_a_user_namespace() {
    common::require_root!();
    let scratch = Scratch::new("own-map");
    let mut bundle = scratch.bundle(&["/bin/stat", "-c", "%u:%g", "/mnt/file"]);
    let source = owned_directory(&bundle, "data", 1000);
    let mut mount = bind(&source, &["bind"]);
    mount["uidMappings"] = json!([{"containerID": 1000, "hostID": 7, "size": 1}]);
    mount["gidMappings"] = json!([{"containerID": 1000, "hostID": 8, "size": 1}]);
    bundle.mount(mount);
    assert_eq!(output(&scratch, &bundle), "7:8");
    bundle.edit(|spec| {
        let mount = spec["mounts"].as_array_mut().expect("mounts").last_mut().expect("a mount");
        *mount = bind(&source, &["bind", "idmap=uids=1000-70-1;gids=1000-80-1"]);
    });
    assert_eq!(output(&scratch, &bundle), "70:80");
}

#[test]
fn a_recursive_id_map_reaches_the_mounts_below() {
    common::require_root!();
    let scratch = Scratch::new("ridmap");
    let script = "stat -c %u /mnt/file /mnt/below/file";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    let source = owned_directory(&bundle, "data", 1000);
    let below = owned_directory(&bundle, "other", 1000);
    std::fs::create_dir(source.join("below")).expect("mount point");
    let mounted = HostMount::bind(&below, &source.join("below"));
    for (word, seen) in [("ridmap", "7\n7"), ("idmap", "7\n1000")] {
        let mut mount = bind(&source, &["rbind", word]);
        mount["uidMappings"] = json!([{"containerID": 1000, "hostID": 7, "size": 1}]);
        mount["gidMappings"] = mount["uidMappings"].clone();
        bundle.mount(mount);
        assert_eq!(output(&scratch, &bundle), seen, "{word}");
        bundle.edit(|spec| drop(spec["mounts"].as_array_mut().expect("mounts").pop()));
    }
    drop(mounted);
}

#[test]
fn an_id_map_that_cannot_be_is_refused_with_its_path_and_never_left_out() {
    common::require_root!();
    let scratch = Scratch::new("idmap-refused");
    let bundle = scratch.bundle(&["/bin/true"]);
    let source = owned_directory(&bundle, "data", 0);
    let map = json!([{"containerID": 0, "hostID": 7, "size": 1}]);
    let mut half = bind(&source, &["bind"]);
    half["uidMappings"] = map.clone();
    let mut fresh = json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"});
    (fresh["uidMappings"], fresh["gidMappings"]) = (map.clone(), map.clone());
    let mut proc = bind("/proc/sys".as_ref(), &["bind"]);
    (proc["uidMappings"], proc["gidMappings"]) = (map.clone(), map);
    let cases = [
        (bind(&source, &["bind", "idmap"]), ["mounts[7].options", "user namespace"]),
        (half, ["mounts[7].gidMappings", "both"]),
        (fresh, ["mounts[7].options", "only bind mounts"]),
        (proc, ["mounts[7].uidMappings", "file system cannot be idmapped"]),
    ];
    let mut bundle = bundle;
    for (mount, words) in cases {
        bundle.edit(|spec| spec["mounts"].as_array_mut().expect("mounts").truncate(7));
        bundle.mount(mount);
        scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("refused")]).fails_with(&words);
    }
}
