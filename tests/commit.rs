//! `wharf diff` and `commit`: what an instance has changed, and an image of it.

mod common;

use common::{
    Call, Running, Scratch, assert_same_tree, eventually, mount_points, program_exists, require, tree,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Changes of every kind to the shell image.
const CHANGES: &str = r#"set -e
mkdir -p /a/b; echo one >/a/one; ln /a/one /a/b/linked; ln -s ../one /a/b/soft; ln /a/b/soft /a/b/soft-too
chmod 4711 /a/one; chown 1000:2000 /a/b; chmod 1775 /a/b
rm -r /home; mkdir /home; echo new >/home/new
rm /etc/passwd; rm -r /root
rm -r /var/tmp; echo file >/var/tmp
rm /bin/ash; mkdir /bin/ash; echo in >/bin/ash/in
mv /usr/bin /usr/nib
mkfifo /a/fifo
chmod 700 /usr
touch -d '2001-02-03 04:05:06' /etc/group; touch -h -d '1965-02-03 04:05:06' /a/b/soft
long=$(printf 'x%.0s' $(seq 120)); mkdir -p /$long/$long; echo long >/$long/$long/$long; ln /$long/$long/$long /$long/hard
ln -s /$long/$long/$long /a/far
echo odd >"/a/odd
name"; echo raw >"$(printf '/a/\377')"
dd if=/dev/zero of=/a/sparse bs=1 count=1 seek=1000000 2>/dev/null
echo ready
exec sleep 1000"#;

fn start(scratch: &Scratch, options: &[&str], image: &str, script: &str) -> String {
    let name = scratch.name("box");
    scratch.wharf(["run", "-d", "--name", &name]).args(options).args([image, "sh", "-c", script]).ok();
    eventually("it is ready", || scratch.wharf(["logs", &name]).ok().stdout.contains("ready\n"));
    name
}

fn root_of(scratch: &Scratch, name: &str) -> (PathBuf, Vec<PathBuf>) {
    let pid = scratch.inspect(name)["pid"].as_i64().expect("it runs");
    (PathBuf::from(format!("/proc/{pid}/root")), mount_points(pid))
}

/// Names in a store that a commit could leave half made.
fn store(scratch: &Scratch) -> (Vec<String>, serde_json::Value) {
    let names = |directory: PathBuf| {
        let entries = fs::read_dir(directory).expect("list");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    };
    let images = scratch.root().join("images");
    let all = [names(images.clone()), names(images.join("blobs/sha256"))].concat();
    (all, scratch.wharf(["images", "--json"]).ok().json())
}

#[test]
fn a_diff_names_every_change_once_and_in_order() {
    common::require_root!();
    let scratch = Scratch::new("diff");
    scratch.load("shell");
    let script = "rm -r /home; mkdir /home /new; touch /home/x /new/x; rm /etc/passwd /bin/ash; echo x >>/etc/group; \
        rm -r /var/tmp; touch /var/tmp; chmod 700 /run; touch /bin; ln -s / /out; touch \"/odd\nA forged\"; echo ready; exec sleep 1000";
    let name = start(&scratch, &["-v", "/tmp:/mounted/here"], "shell", script);
    let expected = "C /bin\nD /bin/ash\nC /etc\nC /etc/group\nD /etc/passwd\nC /home\nD /home/app\nA /home/x\nA /mounted\n\
        A /new\nA /new/x\nA /odd\\nA forged\nA /out\nC /run\nC /var\nC /var/tmp\n";
    assert_eq!(scratch.wharf(["diff", &name]).ok().stdout, expected);
    let listed = scratch.wharf(["diff", "--json", &name]).ok().json();
    assert_eq!(listed[0], json!({"kind": "changed", "path": "/bin"}));
    assert_eq!(listed.as_array().expect("a list").len(), expected.lines().count());
    // The same when it has stopped.
    scratch.wharf(["stop", "-t", "0", &name]).ok();
    assert_eq!(scratch.wharf(["diff", &name]).ok().stdout, expected);
    scratch.wharf(["diff", "nobody"]).fails_with(&["no instance nobody"]);
}

#[test]
fn an_instance_that_has_changed_nothing_has_no_diff() {
    common::require_root!();
    let scratch = Scratch::new("nodiff");
    scratch.load("shell");
    for options in [&[][..], &["--userns", "auto"], &["--read-only"]] {
        let name =
            start(&scratch, options, "shell", "touch /tmp/x; rm -f /tmp/x; echo ready; exec sleep 1000");
        assert_eq!(scratch.wharf(["diff", &name]).ok().stdout, "", "{options:?}");
        scratch.wharf(["rm", "-f", &name]).ok();
    }
}

#[test]
fn a_diff_is_never_led_out_by_what_a_running_instance_swaps() {
    common::require_root!();
    let scratch = Scratch::new("swap");
    scratch.load("shell");
    let script =
        "mkdir /d; echo ready; while :; do rm -rf /d; mkdir /d; touch /d/in; rm -r /d; ln -s /etc /d; done";
    let name = start(&scratch, &[], "shell", script);
    for _ in 0..100 {
        let lines = scratch.wharf(["diff", &name]).ok().stdout;
        assert!(lines.lines().all(|line| line == "A /d" || line == "A /d/in"), "{lines}");
    }
}

#[test]
fn a_committed_image_gives_exactly_the_instances_files() {
    common::require_root!();
    let scratch = Scratch::new("commit");
    scratch.load("shell");
    for (options, shift) in [(&["--cap-add", "SYS_ADMIN"][..], 0), (&["--userns", "200000:65536"], 200_000)] {
        let name = start(&scratch, options, "shell", CHANGES);
        let (root, mounts) = root_of(&scratch, &name);
        set_attributes(&root);
        if shift == 0 {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                root.join("a/null"),
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::Mode::from_raw_mode(0o640),
                rustix::fs::makedev(1, 3),
            )
            .expect("mknod");
            std::os::unix::net::UnixListener::bind(root.join("a/socket")).expect("a socket");
        }
        scratch.wharf(["commit", &name, "changed:1"]).ok();
        let seen = tree(&root, shift, &mounts);
        assert!(seen.len() > 250, "{}", seen.len());
        same_when_unpacked(&scratch, "changed:1", &seen, &mounts);
        // Once more, upon the image that was made, and from what has stopped.
        scratch.wharf(["rm", "-f", &name]).ok();
        let more = "set -e; rm -r /a/b; mkdir /a/b; echo 2 >/a/b/two; rm /a/one; rm -r /home; echo x >/home; rm -r /bin/ash; echo ready; exec sleep 1000";
        let name = start(&scratch, options, "changed:1", more);
        let (root, mounts) = root_of(&scratch, &name);
        let seen = tree(&root, shift, &mounts);
        scratch.wharf(["stop", "-t", "0", &name]).ok();
        scratch.wharf(["commit", &name, "changed:2"]).ok();
        same_when_unpacked(&scratch, "changed:2", &seen, &mounts);
        scratch.wharf(["rm", "-f", &name]).ok();
    }
}

/// User attributes, on what is new and on what the image has, and a directory.
fn set_attributes(root: &std::path::Path) {
    for path in ["a/odd\nname", "etc/shadow-of-nothing", "bin/busybox", "a/b"] {
        let path = root.join(path);
        if !path.exists() {
            fs::write(&path, "x").expect("write");
        }
        rustix::fs::setxattr(&path, "user.note", b"a\0b=\r\xff", rustix::fs::XattrFlags::empty())
            .expect("setxattr");
    }
    fs::remove_file(root.join("etc/shadow-of-nothing")).expect("remove");
}

fn same_when_unpacked(
    scratch: &Scratch,
    image: &str,
    seen: &std::collections::BTreeMap<String, String>,
    mounts: &[PathBuf],
) {
    let bundle = scratch.path().join("bundle");
    scratch.wharf(["unpack".as_ref(), image.as_ref(), bundle.as_os_str()]).ok();
    assert_same_tree(seen, &tree(&bundle.join("rootfs"), 0, mounts));
    fs::remove_dir_all(&bundle).expect("remove");
    if program_exists("umoci") {
        let store = scratch.root().join("images");
        let reference = format!("{}:docker.io/library/{image}", store.display());
        Call::new("umoci").args(["unpack", "--image", &reference]).arg(&bundle).ok();
        let mut theirs = tree(&bundle.join("rootfs"), 0, mounts);
        // umoci unpacks onto a root directory of its own time.
        theirs.insert(String::new(), seen[""].clone());
        assert_same_tree(seen, &theirs);
        fs::remove_dir_all(&bundle).expect("remove");
    }
}

#[test]
fn capabilities_of_files_are_those_of_the_image_whatever_the_namespace() {
    common::require_root!();
    require!(program_exists("setcap"), "needs setcap");
    let scratch = Scratch::new("filecaps");
    scratch.load("shell");
    let name = start(
        &scratch,
        &["--userns", "300000:65536"],
        "shell",
        "cp /bin/busybox /tool; echo ready; exec sleep 1000",
    );
    let (root, _) = root_of(&scratch, &name);
    // As root of the instance would: version 3, with the id of its root.
    Call::new("setcap").args(["-n", "300000", "cap_net_raw+ep"]).arg(root.join("tool")).ok();
    scratch.wharf(["commit", &name, "capable"]).ok();
    let bundle = scratch.path().join("bundle");
    scratch.wharf(["unpack".as_ref(), "capable".as_ref(), bundle.as_os_str()]).ok();
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(bundle.join("rootfs/tool"), "security.capability", &mut value[..])
        .expect("a capability");
    assert_eq!(
        (length, value[3], value[5]),
        (20, 2, 1 << 5),
        "version 2, CAP_NET_RAW: {:?}",
        &value[..length]
    );
}

#[test]
fn the_configuration_is_the_images_with_the_changes_that_were_asked_for() {
    common::require_root!();
    let scratch = Scratch::new("config");
    scratch.load("shell");
    let name =
        start(&scratch, &["-e", "NOT=taken"], "shell", "echo hello >/greeting; echo ready; exec sleep 1000");
    let changes = [
        r#"CMD ["cat", "/greeting"]"#,
        "ENV A=1 B='2 3'",
        "LABEL org.example.x=y",
        "USER app",
        "WORKDIR /home/app",
        "EXPOSE 8080",
        "VOLUME /data",
        "STOPSIGNAL SIGINT",
    ];
    let mut call = scratch.wharf(["commit", "-m", "say hello", "--author", "me <me@example.org>"]);
    for change in changes {
        call = call.args(["--change", change]);
    }
    let digest = call.args([&name, "greeter:1.0"]).ok().stdout;
    let images = scratch.wharf(["images", "--json"]).ok().json();
    let made = images.as_array().expect("a list").iter().find(|image| image["reference"] == "greeter:1.0");
    assert_eq!(made.expect("it is listed")["digest"], digest.trim());
    assert_eq!(scratch.wharf(["run", "--rm", "greeter:1.0"]).ok().stdout, "hello\n");
    let seen = scratch.wharf(["run", "--rm", "greeter:1.0", "sh", "-c", "echo $A $B $NOT; id -un; pwd"]).ok();
    assert_eq!(seen.stdout, "1 2 3\napp\n/home/app\n");
    if program_exists("skopeo") {
        let store = format!("oci:{}:docker.io/library/greeter:1.0", scratch.root().join("images").display());
        let config = Call::new("skopeo").args(["inspect", "--config", &store]).ok().json();
        assert_eq!(config["author"], "me <me@example.org>");
        assert_eq!(config["config"]["ExposedPorts"], json!({"8080/tcp": {}}));
        assert_eq!(config["config"]["StopSignal"], "SIGINT");
        assert_eq!(config["history"][1]["comment"], "say hello");
        assert_eq!(config["rootfs"]["diff_ids"].as_array().expect("a list").len(), 2);
        let copy = format!("dir:{}", scratch.path().join("copy").display());
        Call::new("skopeo").args(["copy", "--quiet", &store, &copy]).ok();
    }
    scratch
        .wharf(["commit", &name, "x", "--change", "RUN make"])
        .fails_with(&["--change", "RUN make", "CMD"]);
    let digest = format!("x@sha256:{}", "0".repeat(64));
    scratch.wharf(["commit", &name, &digest]).fails_with(&["name a tag"]);
}

#[test]
fn a_running_instance_stands_still_while_it_is_committed_and_then_goes_on() {
    common::require_root!();
    let scratch = Scratch::new("still");
    scratch.load("shell");
    // Two counters that are never more than one apart, and between them what takes long to read.
    let script = "dd if=/dev/urandom of=/middle bs=1M count=24 2>/dev/null; echo ready; i=1; \
        while :; do echo $i >/.first; mv /.first /first; echo $i >/.zecond; mv /.zecond /zecond; i=$((i+1)); done";
    let name = start(&scratch, &[], "shell", script);
    let apart = |image: &str| {
        let read = scratch.wharf(["run", "--rm", image, "cat", "/first", "/zecond"]).ok().stdout;
        let numbers: Vec<i64> = read.lines().map(|line| line.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), 2, "{read}");
        (numbers[0] - numbers[1]).abs()
    };
    let now = || scratch.wharf(["exec", &name, "cat", "/first"]).ok().stdout;
    eventually("both are there", || {
        scratch.wharf(["exec", &name, "test", "-e", "/zecond"]).outcome().success()
    });
    scratch.wharf(["commit", &name, "still"]).ok();
    assert!(apart("still") <= 1);
    let before = now();
    eventually("it goes on", || now() != before);
    // Without a pause it runs on meanwhile; a counter that is just being replaced may be missing.
    scratch.wharf(["commit", "--pause=false", &name, "moving"]).ok();
    let before = now();
    eventually("it goes on", || now() != before);
}

#[test]
fn marks_of_overlayfs_count_in_each_of_their_forms() {
    common::require_root!();
    use wharf::image::{DifferenceKind, UpperDirectory, differences};
    let scratch = Scratch::new("marks");
    let (upper, lower) = (scratch.path().join("upper"), scratch.path().join("lower"));
    let mark = |path: &std::path::Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).expect("setxattr");
    };
    for directory in ["plain", "marked", "opaque/sub"] {
        fs::create_dir_all(lower.join(directory)).expect("create");
        fs::create_dir_all(upper.join(directory)).expect("create");
    }
    for file in
        ["plain/gone", "marked/gone", "marked/kept", "opaque/gone", "opaque/sub/gone", "opaque/sub/new"]
    {
        fs::write(lower.join(file), "of the image").expect("write");
    }
    let device = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::from_raw_mode(0);
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("plain/gone"), device, mode, 0).expect("mknod");
    mark(&upper.join("marked"), "trusted.overlay.opaque", b"x");
    fs::write(upper.join("marked/gone"), "").expect("write");
    mark(&upper.join("marked/gone"), "trusted.overlay.whiteout", b"y");
    mark(&upper.join("opaque"), "trusted.overlay.opaque", b"y");
    fs::write(upper.join("opaque/sub/new"), "").expect("write");
    let found = || {
        let image = fs::File::open(&lower).expect("open").into();
        differences(&UpperDirectory::open(&upper, None, &[]).expect("open"), image)
    };
    let lines: Vec<String> = found()
        .expect("differences")
        .iter()
        .map(|difference| format!("{} {}", difference.kind, difference.path))
        .collect();
    let expected = [
        "C /marked",
        "D /marked/gone",
        "C /opaque",
        "D /opaque/gone",
        "C /opaque/sub",
        "D /opaque/sub/gone",
        "C /opaque/sub/new",
        "C /plain",
        "D /plain/gone",
    ];
    assert_eq!(lines, expected);
    assert_eq!(found().expect("differences")[0].kind, DifferenceKind::Changed);
    // A directory that lies elsewhere in the image cannot be told from the upper alone.
    mark(&upper.join("plain"), "trusted.overlay.redirect", b"/elsewhere");
    let refused = found().expect_err("it is not whole").to_string();
    assert!(refused.contains("/plain") && refused.contains("redirect"), "{refused}");
}

#[test]
fn an_image_of_docker_save_becomes_one_of_oci() {
    common::require_root!();
    require!(program_exists("skopeo"), "needs skopeo");
    let scratch = Scratch::new("docker");
    scratch.wharf(["load".as_ref(), common::image_archive("shell.docker.tar").as_os_str()]).ok();
    let name = start(&scratch, &[], "shell", "echo hello >/new; echo ready; exec sleep 1000");
    scratch.wharf(["commit", &name, "made"]).ok();
    let store = format!("oci:{}:docker.io/library/made:latest", scratch.root().join("images").display());
    let manifest = Call::new("skopeo").args(["inspect", "--raw", &store]).ok().json();
    for layer in manifest["layers"].as_array().expect("a list") {
        assert!(
            layer["mediaType"].as_str().is_some_and(|kind| kind.contains("vnd.oci.image.layer")),
            "{layer}"
        );
    }
    let archive = format!("docker-archive:{}:made:latest", scratch.path().join("made.tar").display());
    Call::new("skopeo").args(["copy", "--quiet", &store, &archive]).ok();
    assert_eq!(scratch.wharf(["run", "--rm", "made", "cat", "/new"]).ok().stdout, "hello\n");
}

/// A commit that has begun to write.
fn half_done(scratch: &Scratch, name: &str) -> Running {
    let commit = scratch.wharf(["commit", name, "half"]).spawn();
    let staging = || {
        fs::read_dir(scratch.root().join("images"))
            .expect("list")
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(".staging-"))
    };
    eventually("it is being written", staging);
    commit
}

#[test]
fn a_commit_that_is_killed_leaves_no_image_and_no_frozen_instance() {
    common::require_root!();
    let scratch = Scratch::new("killed");
    scratch.load("shell");
    let script = "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null; echo ready; exec sleep 1000";
    let name = start(&scratch, &[], "shell", script);
    let before = store(&scratch);
    let commit = half_done(&scratch, &name);
    commit.signal(Signal::SIGKILL);
    assert_eq!(commit.wait().signal, Some(9), "it was at work");
    scratch.wharf(["exec", &name, "true"]).ok();
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json(), before.1);
    // What it had written is swept by the next that writes.
    scratch.load("shell");
    assert_eq!(store(&scratch), before);
    // The supervisor too, by which the instance is frozen.
    let supervisor = i32::try_from(scratch.inspect(&name)["supervisor_pid"].as_i64().expect("a supervisor"));
    let commit = half_done(&scratch, &name);
    commit.signal(Signal::SIGKILL);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor.expect("a pid")), Signal::SIGKILL)
        .expect("kill");
    commit.wait();
    scratch.wharf(["exec", &name, "true"]).ok();
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json(), before.1);
}

#[test]
fn a_commit_of_what_is_stopped_or_removed_meanwhile_makes_no_image() {
    common::require_root!();
    let scratch = Scratch::new("meanwhile");
    scratch.load("shell");
    let script = "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null; echo ready; exec sleep 1000";
    let name = start(&scratch, &[], "shell", script);
    let before = store(&scratch);
    let commit = half_done(&scratch, &name);
    scratch.wharf(["rm", "-f", &name]).ok();
    let outcome = commit.wait();
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert_eq!(store(&scratch), before);
}

#[test]
fn what_no_layer_can_hold_is_refused_by_name_and_leaves_nothing() {
    common::require_root!();
    let scratch = Scratch::new("refused");
    scratch.load("shell");
    let name = start(&scratch, &[], "shell", "mkdir /d; touch /d/.wh.x; echo ready; exec sleep 1000");
    let before = store(&scratch);
    scratch.wharf(["commit", &name, "x"]).fails_with(&["/d/.wh.x", "rename or remove"]);
    assert_eq!(store(&scratch), before);
    scratch
        .wharf(["exec", &name, "sh", "-c", "rm -r /d; cd /; for i in $(seq 300); do mkdir d; cd d; done"])
        .ok();
    scratch.wharf(["commit", &name, "x"]).fails_with(&["/d/d/d/", "256"]);
    assert_eq!(store(&scratch), before);
    scratch.wharf(["exec", &name, "rm", "-r", "/d"]).ok();
    let (root, _) = root_of(&scratch, &name);
    rustix::fs::setxattr(root.join("etc/group"), "user.note", b"a\nb", rustix::fs::XattrFlags::empty())
        .expect("setxattr");
    // A record of a layer ends where its length says, so a line feed in it is nothing special.
    scratch.wharf(["commit", &name, "x"]).ok();
    let bundle = scratch.path().join("bundle");
    scratch.wharf(["unpack", "x"]).arg(&bundle).ok();
    let mut value = [0; 8];
    let read = rustix::fs::getxattr(bundle.join("rootfs/etc/group"), "user.note", &mut value[..]);
    assert_eq!((read, &value[..3]), (Ok(3), &b"a\nb"[..]));
    // The image's own blobs are needed for one that is made of it.
    let layers = scratch.root().join("images/blobs/sha256");
    let moved = scratch.path().join("moved");
    fs::rename(&layers, &moved).expect("rename");
    fs::create_dir(&layers).expect("create");
    fs::set_permissions(&layers, fs::Permissions::from_mode(0o700)).expect("chmod");
    scratch.wharf(["commit", &name, "y"]).fails_with(&["no longer whole", "load or pull"]);
    fs::remove_dir(&layers).expect("remove");
    fs::rename(&moved, &layers).expect("rename");
}
