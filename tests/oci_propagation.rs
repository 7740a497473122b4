//! Propagation of mounts between host and container, and what covers paths, through wharf-oci.

mod common;

use common::{Bundle, Scratch};
use nix::mount::{MntFlags, MsFlags};
use serde_json::json;
use std::path::{Path, PathBuf};

/// A directory of the host that is a mount of its own, shared with every copy of it.
struct SharedMount(PathBuf);

impl SharedMount {
    fn on(path: &Path) -> Self {
        let nothing = None::<&str>;
        nix::mount::mount(Some(path), path, nothing, MsFlags::MS_BIND, nothing).expect("bind");
        let mount = Self(path.to_owned());
        for flag in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            nix::mount::mount(nothing, path, nothing, flag, nothing).expect("propagation");
        }
        mount
    }
}

impl Drop for SharedMount {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, MntFlags::MNT_DETACH).expect("unmount");
    }
}

/// The optional fields of a mount, without the numbers of peer groups: mountinfo, proc_pid_mountinfo(5).
fn propagation(mountinfo: &str, place: &str) -> String {
    let line = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some(place)).expect("the mount");
    let fields = line.split(' ').skip(6).take_while(|field| *field != "-");
    fields.map(|field| field.split(':').next().unwrap_or_default()).collect::<Vec<_>>().join(",")
}

fn mountinfo(scratch: &Scratch, bundle: &Bundle) -> String {
    let outcome = scratch.run(bundle);
    assert!(outcome.success(), "{outcome}");
    outcome.stdout
}

#[test]
fn rootfs_propagation_is_as_configured() {
    common::require_root!();
    let scratch = Scratch::new("rootprop");
    let mut bundle = scratch.bundle(&["/bin/cat", "/proc/self/mountinfo"]);
    let shared = SharedMount::on(&bundle.rootfs());
    let cases = [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master"),
        ("rslave", "master"),
        ("shared", "shared,master"),
        ("rshared", "shared,master"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ];
    for (word, wanted) in cases {
        bundle.edit(|spec| spec["linux"]["rootfsPropagation"] = json!(word));
        assert_eq!(propagation(&mountinfo(&scratch, &bundle), "/"), wanted, "{word}");
    }
    bundle.edit(|spec| spec["linux"]["rootfsPropagation"] = json!("public"));
    scratch
        .oci(["run", "--bundle", bundle.arg(), &scratch.name("public")])
        .fails_with(&["linux.rootfsPropagation", "[r]shared"]);
    drop(shared);
}

#[test]
fn bind_mounts_have_the_propagation_that_they_ask_for() {
    common::require_root!();
    let scratch = Scratch::new("bindprop");
    let mut bundle = scratch.bundle(&["/bin/cat", "/proc/self/mountinfo"]);
    let source = bundle.path.join("data");
    std::fs::create_dir(&source).expect("source");
    let shared = SharedMount::on(&source);
    for (words, wanted) in [
        (&["rbind"][..], "master"),
        (&["rbind", "rprivate"], ""),
        (&["rbind", "rslave"], "master"),
        (&["rbind", "rshared"], "shared"),
        (&["bind", "shared"], "shared"),
        (&["bind", "unbindable"], "unbindable"),
    ] {
        bundle.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": words}));
        assert_eq!(propagation(&mountinfo(&scratch, &bundle), "/mnt"), wanted, "{words:?}");
        bundle.edit(|spec| drop(spec["mounts"].as_array_mut().expect("mounts").pop()));
    }
    drop(shared);
}

#[test]
fn mounts_of_the_host_reach_a_slave_and_no_mount_of_the_container_reaches_the_host() {
    common::require_root!();
    let scratch = Scratch::new("slave");
    let script = "mount -t tmpfs inside /mnt/inside && until [ -e /mnt/outside/file ]; do sleep 0.02; done; cat /mnt/outside/file";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    let source = bundle.path.join("data");
    for name in ["inside", "outside"] {
        std::fs::create_dir_all(source.join(name)).expect("mount point");
    }
    let content = bundle.path.join("content");
    std::fs::create_dir(&content).expect("content");
    std::fs::write(content.join("file"), "came later\n").expect("file");
    let shared = SharedMount::on(&source);
    bundle.mount(
        json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", "rslave"]}),
    );
    bundle.edit(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        }
    });
    let running = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("slave")]).spawn();
    let nothing = None::<&str>;
    std::thread::sleep(std::time::Duration::from_millis(300));
    nix::mount::mount(Some(&content), &source.join("outside"), nothing, MsFlags::MS_BIND, nothing)
        .expect("bind");
    let outcome = running.wait();
    nix::mount::umount2(&source.join("outside"), MntFlags::MNT_DETACH).expect("unmount");
    assert_eq!(outcome.text(), "came later", "{outcome}");
    let host = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(
        !host.contains(&format!("{}/inside", source.display())),
        "a mount of the container reached the host"
    );
    drop(shared);
}

#[test]
fn a_read_only_root_leaves_its_mounts_writable_and_covers_may_have_nothing_to_cover() {
    common::require_root!();
    let scratch = Scratch::new("covers");
    let script = "touch /x; touch /mnt/x && echo mounted; wc -c < /secret; ls /hidden | wc -l; touch /fixed/x; readlink /link; cat /secret2";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    bundle.write("secret", "hush");
    bundle.write("hidden/file", "hush");
    bundle.write("fixed/file", "");
    bundle.write("secret2", "hush");
    std::os::unix::fs::symlink("secret2", bundle.rootfs().join("link")).expect("symlink");
    bundle.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
    bundle.edit(|spec| {
        spec["root"]["readonly"] = json!(true);
        spec["linux"]["maskedPaths"] = json!(["/absent/path", "/secret", "/hidden", "/link"]);
        spec["linux"]["readonlyPaths"] = json!(["/absent", "/fixed"]);
    });
    let outcome = scratch.run(&bundle);
    // The link is masked where it points to, so its target shows nothing either.
    assert_eq!(outcome.text(), "mounted\n0\n0\nsecret2", "{outcome}");
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{outcome}");
}

#[test]
fn devices_have_their_type_mode_and_owner_and_a_user_namespace_has_the_hosts() {
    common::require_root!();
    let scratch = Scratch::new("devices");
    let script = "stat -c '%F %a %u:%g %t:%T' /dev/one /dev/two /dev/pipe /dev/null; stat -c %g /dev/pts/ptmx >/dev/null;                   echo x > /dev/null && echo writable; grep devpts /proc/mounts | grep -o 'gid=[0-9]*'";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    bundle.edit(|spec| {
        spec["linux"]["devices"] = json!([
            {"path": "/dev/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/two", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 5}
        ]);
    });
    let outcome = scratch.run(&bundle);
    let wanted = "character special file 640 3:4 1:5\nblock special file 600 0:0 7:c8\nfifo 622 5:0 0:0\n\
                  character special file 666 0:0 1:3\nwritable\ngid=5";
    assert_eq!(outcome.text(), wanted, "{outcome}");

    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(100_000)).expect("chown");
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        spec["linux"]["gidMappings"] = spec["linux"]["uidMappings"].clone();
        spec["linux"]["devices"] = json!([
            {"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622}
        ]);
        let script = "stat -c '%F %t:%T' /dev/null /dev/loop-control /dev/pipe; echo x > /dev/null && echo writable; grep devpts /proc/mounts | grep -o 'gid=[0-9]*'";
        spec["process"]["args"][2] = json!(script);
    });
    if !Path::new("/dev/loop-control").exists() {
        bundle.edit(|spec| drop(spec["linux"]["devices"].as_array_mut().expect("devices").remove(0)));
    }
    let outcome = scratch.run(&bundle);
    let seen = outcome.text();
    assert!(seen.starts_with("character special file 1:3\n"), "{outcome}");
    assert!(
        seen.ends_with("fifo 0:0\nwritable\ngid=100005") || seen.ends_with("fifo 0:0\nwritable\ngid=5"),
        "{outcome}"
    );
}
