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

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})
}

#[test]
fn tmpcopyup_copies_what_the_tmpfs_covers_and_nothing_from_elsewhere() {
    common::require_root!();
    let scratch = Scratch::new("copyup");
    let script = "cd /data && stat -c '%a %u:%g %F %n' . dir dir/program fifo && readlink escape && readlink dangling \
                  && ./dir/program && ls escape; touch /data/new && grep -c ' /data tmpfs ' /proc/mounts";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    bundle.write("data/dir/program", "#!/bin/sh\necho runs\n");
    let data = bundle.rootfs().join("data");
    std::os::unix::fs::symlink("/etc", data.join("escape")).expect("symlink");
    std::os::unix::fs::symlink("nowhere", data.join("dangling")).expect("symlink");
    nix::unistd::mkfifo(&data.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o640)).expect("fifo");
    chown(data.join("dir/program"), Some(12), Some(34)).expect("chown");
    set_mode(&data.join("dir/program"), 0o4755);
    set_mode(&data, 0o1770);
    bundle.mount(tmpfs("/data", &["tmpcopyup", "nosuid"]));
    let seen = output(&scratch, &bundle);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "1770 0:0 directory .",
            "755 0:0 directory dir",
            "4755 12:34 regular file dir/program",
            "640 0:0 fifo fifo",
            "/etc",
            "nowhere"
        ],
        "{seen}"
    );
    assert_eq!(lines[6], "runs");
    assert_eq!(lines.last(), Some(&"1"));
    assert!(!data.join("new").exists(), "written to the tmpfs, not to the image");
}

#[test]
fn a_tmpfs_takes_the_mode_of_what_it_covers_unless_it_names_one() {
    common::require_root!();
    let scratch = Scratch::new("tmpfs-mode");
    let mut bundle = scratch.bundle(&["/bin/stat", "-c", "%a", "/a", "/b", "/c"]);
    for (name, mode) in [("a", 0o710), ("b", 0o710)] {
        std::fs::create_dir(bundle.rootfs().join(name)).expect("directory");
        set_mode(&bundle.rootfs().join(name), mode);
    }
    bundle.mount(tmpfs("/a", &[])).mount(tmpfs("/b", &["mode=700"])).mount(tmpfs("/c", &[]));
    assert_eq!(output(&scratch, &bundle), "710\n700\n1777");
}

#[test]
fn a_read_only_tmpfs_holds_its_copies_devices_and_mount_points() {
    common::require_root!();
    let scratch = Scratch::new("ro-tmpfs");
    let script =
        "cat /data/file; test -c /dev/null && test -d /dev/shm && echo devices; touch /data/x /dev/x";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    bundle.write("data/file", "kept\n");
    bundle.mount(tmpfs("/data", &["ro", "tmpcopyup"]));
    bundle.edit(|spec| spec["mounts"][1]["options"] = json!(["nosuid", "mode=755", "ro"]));
    let outcome = scratch.run(&bundle);
    assert_eq!(outcome.text(), "kept\ndevices");
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{outcome}");
}

#[test]
fn symlinks_are_bound_bound_over_and_copied_as_asked() {
    common::require_root!();
    let scratch = Scratch::new("nofollow");
    let script = "readlink /itself; cat /over; cat /real; readlink /copied; readlink /same; cat /plain";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    let source = owned_directory(&bundle, "data", 0);
    std::os::unix::fs::symlink("file", source.join("link")).expect("symlink");
    bundle.write("real", "image\n");
    std::os::unix::fs::symlink("real", bundle.rootfs().join("over")).expect("symlink");
    std::os::unix::fs::symlink("file", bundle.rootfs().join("same")).expect("symlink");
    let add = |bundle: &mut Bundle, source: &Path, destination: &str, options: &[&str]| {
        let mut mount = bind(source, options);
        mount["destination"] = json!(destination);
        bundle.mount(mount);
    };
    let link = source.join("link");
    add(&mut bundle, &link, "/itself", &["bind", "src-nofollow"]);
    add(&mut bundle, &source.join("file"), "/over", &["bind", "dest-nofollow"]);
    add(&mut bundle, &link, "/copied", &["bind", "copy-symlink"]);
    add(&mut bundle, &link, "/same", &["bind", "copy-symlink"]);
    add(&mut bundle, &source.join("file"), "/plain", &["bind", "copy-symlink"]);
    assert_eq!(output(&scratch, &bundle), "file\ncontent\nimage\nfile\nfile\ncontent");
    add(&mut bundle, &link, "/real", &["bind", "copy-symlink"]);
    scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("other")]).fails_with(&["/real", "exists"]);
}

#[test]
fn flags_reach_the_mount_and_recursive_ones_the_mounts_below() {
    common::require_root!();
    let scratch = Scratch::new("flags");
    let mut bundle = scratch.bundle(&["/bin/grep", " /mnt", "/proc/self/mountinfo"]);
    let source = owned_directory(&bundle, "data", 0);
    let below = owned_directory(&bundle, "other", 0);
    std::fs::create_dir(source.join("below")).expect("mount point");
    let mounted = HostMount::bind(&below, &source.join("below"));
    let cases: [(&[&str], &[&str], &[&str]); 6] = [
        (&["rbind", "ro"], &["ro"], &["rw"]),
        (&["rbind", "rro"], &["ro"], &["ro"]),
        (
            &["rbind", "rnosuid", "rnodev", "rnoexec"],
            &["nosuid", "nodev", "noexec"],
            &["nosuid", "nodev", "noexec"],
        ),
        (&["rbind", "rnoatime", "rnodiratime"], &["noatime", "nodiratime"], &["noatime", "nodiratime"]),
        (&["rbind", "rnosymfollow", "sync"], &["nosymfollow"], &["nosymfollow"]),
        (&["rbind", "ro", "nosuid", "rrw", "rsuid"], &["rw"], &["rw"]),
    ];
    for (options, top, inner) in cases {
        bundle.mount(bind(&source, options));
        let seen = output(&scratch, &bundle);
        for (place, wanted) in [("/mnt", top), ("/mnt/below", inner)] {
            let flags = mount_flags(&seen, place);
            for flag in wanted {
                assert!(flags.contains(&(*flag).to_owned()), "{options:?}: {place} has {flags:?}");
            }
        }
        bundle.edit(|spec| drop(spec["mounts"].as_array_mut().expect("mounts").pop()));
    }
    drop(mounted);
}

/// The options of the mount at this place, from a mountinfo.
fn mount_flags(mountinfo: &str, place: &str) -> Vec<String> {
    let line = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some(place));
    let flags = line.and_then(|line| line.split(' ').nth(5)).unwrap_or_default();
    flags.split(',').map(str::to_owned).collect()
}

#[test]
fn relative_paths_are_taken_from_the_bundle_and_the_root_and_files_are_made_for_files() {
    common::require_root!();
    let scratch = Scratch::new("relative");
    let mut bundle = scratch.bundle(&["/bin/cat", "/deep/er/file"]);
    owned_directory(&bundle, "data", 0);
    let mut mount = bind("data/file".as_ref(), &["bind"]);
    mount["destination"] = json!("deep/er/file");
    bundle.mount(mount);
    assert_eq!(output(&scratch, &bundle), "content");
    assert!(bundle.rootfs().join("deep/er/file").is_file());
}

#[test]
fn options_that_contradict_or_cannot_act_are_refused_with_their_path() {
    common::require_root!();
    let scratch = Scratch::new("contradiction");
    let mut bundle = scratch.bundle(&["/bin/true"]);
    let source = owned_directory(&bundle, "data", 0);
    let long = format!("context={}", "x".repeat(300));
    let cases = [
        (bind(&source, &["bind", "copy-symlink", "src-nofollow"]), ["mounts[7].options", "excludes"]),
        (bind(&source, &["bind", "tmpcopyup"]), ["mounts[7].options", "new tmpfs"]),
        (tmpfs("/mnt", &["src-nofollow"]), ["mounts[7].options", "bind mount"]),
        (tmpfs("/dev", &["remount", "size=1k"]), ["mounts[7].options", "remount"]),
        (tmpfs("/mnt", &[&long]), ["mounts[7].options", "255 bytes"]),
        (tmpfs("/mnt", &["nosuch=1"]), ["/mnt", "nosuch"]),
    ];
    for (mount, words) in cases {
        bundle.edit(|spec| spec["mounts"].as_array_mut().expect("mounts").truncate(7));
        bundle.mount(mount);
        scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("refused")]).fails_with(&words);
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn a_mount_on_a_default_device_takes_its_place() {
    common::require_root!();
    let scratch = Scratch::new("overdev");
    let mut bundle = scratch.bundle(&["/bin/stat", "-c", "%t,%T", "/dev/random"]);
    bundle.mount(json!({
        "destination": "/dev/random", "type": "bind", "source": "/dev/urandom", "options": ["bind", "ro"]
    }));
    assert_eq!(output(&scratch, &bundle), "1,9");
}
