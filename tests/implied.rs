//! Images whose upper layers have something in directories that they do not state: what instances of them see, and
//! what becomes of the layer that wharf makes for it.
#![allow(clippy::unwrap_used)]

mod common;

use common::layer::{Entry, layer};
use common::layout::{Layout, digest};
use common::{Scratch, busybox_rootfs, eventually};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

/// Has something in `d/sub`, and states no directory.
fn upper() -> Vec<u8> {
    layer([Entry::file("d/sub/new", "new")])
}

/// States `d/sub`, and has programs.
fn lower(owner: u64) -> Vec<u8> {
    let busybox = fs::read(busybox_rootfs().join("bin/busybox")).unwrap();
    let mut entries = vec![Entry::directory("bin"), Entry::file("bin/busybox", busybox).mode(0o755)];
    entries.extend(["sh", "stat", "touch"].map(|name| Entry::symlink(format!("bin/{name}"), "busybox")));
    // wharf mounts its files there.
    entries.push(Entry::directory("etc"));
    entries.extend([Entry::directory("d").mode(0o751), directory(owner), Entry::file("d/sub/old", "old")]);
    layer(entries)
}

fn directory(owner: u64) -> Entry {
    Entry::directory("d/sub").mode(0o1770).owner(owner, owner).mtime(77).xattr("user.note", "kept")
}

/// Loads an image of these layers.
fn load(scratch: &Scratch, name: &str, layers: &[Vec<u8>]) {
    let mut layout = Layout::new(scratch.path().join(name));
    for tar in layers {
        layout.layer(tar.clone());
    }
    layout.write(|_| ());
    scratch.wharf(["load", "--tag", name]).arg(layout.path()).ok();
}

const SHOW: [&str; 4] = ["stat", "-c", "%n %a %u %Y", "/d/sub"];

/// Mode, owner and time of the directory in a new instance.
#[track_caller]
fn shown(scratch: &Scratch, options: &[&str], image: &str) -> String {
    let name = scratch.name("show");
    let run = scratch.wharf(["run", "--rm", "--network", "none", "--name", &name]).args(options);
    run.arg(image).args(SHOW).ok().stdout
}

/// Unpacked layers, those made over others among them.
fn unpacked(scratch: &Scratch) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(scratch.root().join("layers/sha256")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The one that has been made over these.
fn made(scratch: &Scratch, layers: &[Vec<u8>]) -> PathBuf {
    let of_images: Vec<String> = layers.iter().map(|tar| digest(tar)["sha256:".len()..].to_owned()).collect();
    let is_made =
        |path: &PathBuf| !of_images.contains(&path.file_name().unwrap().to_str().unwrap().to_owned());
    let made: Vec<PathBuf> = unpacked(scratch).into_iter().filter(is_made).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    made.into_iter().next().unwrap()
}

fn fsck(scratch: &Scratch) -> String {
    scratch.wharf(["fsck"]).ok().stdout
}

#[test]
fn images_that_share_an_upper_layer_show_the_directories_of_their_own_lower_ones() {
    common::require_root!();
    let scratch = Scratch::new("implied");
    load(&scratch, "one", &[lower(1), upper()]);
    load(&scratch, "two", &[lower(2), upper()]);
    load(&scratch, "base", &[lower(3)]);
    assert_eq!(shown(&scratch, &[], "one"), "/d/sub 1770 1 77\n");
    assert_eq!(shown(&scratch, &[], "two"), "/d/sub 1770 2 77\n");
    assert_eq!(shown(&scratch, &["--userns", "auto"], "two"), "/d/sub 1770 2 77\n");
    assert_eq!(shown(&scratch, &["--read-only"], "two"), "/d/sub 1770 2 77\n");
    assert!(fsck(&scratch).contains("3 images"), "{}", fsck(&scratch));
    // One of them goes with what was made for it alone.
    let before = unpacked(&scratch);
    scratch.wharf(["rmi", "one"]).ok();
    assert_eq!(before.difference(&unpacked(&scratch)).count(), 2);
    assert_eq!(shown(&scratch, &[], "two"), "/d/sub 1770 2 77\n");
    scratch.wharf(["prune"]).ok();
    assert_eq!(shown(&scratch, &[], "two"), "/d/sub 1770 2 77\n");
    // Nothing was made for an image that implies nothing.
    assert_eq!(shown(&scratch, &[], "base"), "/d/sub 1770 3 77\n");
    assert_eq!(unpacked(&scratch).len(), 4);
    scratch.wharf(["rmi", "two"]).ok();
    assert_eq!(unpacked(&scratch).len(), 1);
    scratch.wharf(["rmi", "base"]).ok();
    assert!(unpacked(&scratch).is_empty());
}

#[test]
fn an_instance_keeps_them_over_a_restart_and_a_commit() {
    common::require_root!();
    let scratch = Scratch::new("implied2");
    let layers = [lower(1), upper()];
    load(&scratch, "one", &layers);
    let name = scratch.name("kept");
    let script = "stat -c '%a %u %Y' /d/sub; touch /d/sub/own; echo ready; exec busybox sleep 1000";
    let options = ["run", "-d", "--network", "none", "--name", &name, "one", "sh", "-c", script];
    scratch.wharf(options).ok();
    let lines = |count: usize| {
        let logged = scratch.wharf(["logs", &name]).ok().stdout;
        logged.lines().filter(|line| *line == "ready").count() == count
    };
    eventually("it is ready", || lines(1));
    let changes: serde_json::Value = scratch.wharf(["diff", "--json", &name]).ok().json();
    let paths: Vec<&str> =
        changes.as_array().unwrap().iter().map(|change| change["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/d", "/d/sub", "/d/sub/own"]);
    // It holds what it is made of.
    scratch.wharf(["rmi", "one"]).fails_with(&[&name]);
    scratch.wharf(["prune", "--all"]).ok();
    scratch.wharf(["restart", &name]).ok();
    eventually("it is ready again", || lines(2));
    let logged = scratch.wharf(["logs", &name]).ok().stdout;
    assert!(logged.starts_with("1770 1 77\nready\n1770 1 "), "{logged}");
    scratch.wharf(["commit", &name, "committed"]).ok();
    let shown = shown(&scratch, &[], "committed");
    assert!(shown.starts_with("/d/sub 1770 1 "), "{shown}");
    assert!(scratch.wharf(["df"]).ok().stdout.contains("unpacked layers"));
    fsck(&scratch);
}

#[test]
fn a_killed_or_damaged_making_is_made_good() {
    common::require_root!();
    let scratch = Scratch::new("implied3");
    let layers = [lower(1), upper()];
    load(&scratch, "one", &layers);
    assert_eq!(shown(&scratch, &[], "one"), "/d/sub 1770 1 77\n");
    let made = made(&scratch, &layers);
    let sub = made.join("d/sub");
    let data = fs::symlink_metadata(&sub).unwrap();
    assert_eq!((data.mode() & 0o7777, data.uid(), data.mtime()), (0o1770, 1, 77));
    assert_eq!(fs::read_dir(&sub).unwrap().count(), 0);
    // A killed one has made some directories, and not said how they are.
    fs::set_permissions(&sub, fs::Permissions::from_mode(0o700)).unwrap();
    let name = made.file_name().unwrap().to_str().unwrap();
    fs::rename(&made, scratch.root().join(format!("layers/.unpacking-{name}"))).unwrap();
    assert_eq!(shown(&scratch, &[], "one"), "/d/sub 1770 1 77\n");
    // One that was changed afterwards is found.
    fs::set_permissions(&sub, fs::Permissions::from_mode(0o700)).unwrap();
    let found = scratch.wharf(["fsck"]).outcome();
    assert_eq!(found.code, Some(1), "{found}");
    assert!(found.stdout.contains(name) && found.stdout.contains("kind or mode"), "{found}");
    scratch.wharf(["fsck", "--repair"]).ok();
    assert_eq!(shown(&scratch, &[], "one"), "/d/sub 1770 1 77\n");
    fsck(&scratch);
    // One that is missing is made again, for an instance that has it too.
    let instance = scratch.name("made");
    scratch.wharf(["run", "--network", "none", "--name", &instance, "one"]).args(SHOW).ok();
    fs::rename(&made, scratch.path().join("away")).unwrap();
    assert_eq!(scratch.wharf(["fsck"]).outcome().code, Some(1));
    scratch.wharf(["fsck", "--repair"]).ok();
    assert!(sub.exists());
    fsck(&scratch);
}

#[test]
fn implied_directories_without_lower_ones_cost_an_image_no_layer() {
    common::require_root!();
    let scratch = Scratch::new("implied4");
    load(&scratch, "one", &[lower(1), layer([Entry::file("other/sub/new", "new")])]);
    let name = scratch.name("none");
    scratch.wharf(["run", "--network", "none", "--name", &name, "one"]).args(SHOW).ok();
    let wish = fs::read(scratch.root().join(format!("instances/{name}/instance.json"))).unwrap();
    let wish: serde_json::Value = serde_json::from_slice(&wish).unwrap();
    assert_eq!(wish["layers"].as_array().unwrap().len(), 2, "{wish}");
    fsck(&scratch);
}

#[test]
fn layers_that_state_nothing_are_sound_to_fsck() {
    common::require_root!();
    let scratch = Scratch::new("implied5");
    let hidden =
        [Entry::whiteout("a/b"), Entry::file("a/b/c", "3"), Entry::opaque("d"), Entry::file("d/e/f", "4")];
    load(&scratch, "one", &[layer([Entry::file("a/b/file", "1")]), layer([Entry::file("a/c", "2")])]);
    load(&scratch, "two", &[layer([Entry::file("a/b/file", "1")]), layer(hidden)]);
    assert!(fsck(&scratch).contains("3 unpacked layers"));
}
