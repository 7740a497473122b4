//! Images in the store as a user keeps them: names, history, details, the room they take, removal and checks.

mod common;

use common::layer::{Entry, layer};
use common::layout::{Layout, digest};
use common::{Call, Scratch};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("list").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn blobs(scratch: &Scratch) -> PathBuf {
    scratch.root().join("images/blobs/sha256")
}

fn layers(scratch: &Scratch) -> PathBuf {
    scratch.root().join("layers/sha256")
}

/// Loads an image of one layer that holds one file, and returns its digest.
fn load(scratch: &Scratch, name: &str, content: &str) -> String {
    let mut layout = Layout::new(scratch.path().join(format!("{name}-{}", content.len())));
    layout.layer(layer([Entry::file("file", content), Entry::directory("d").mode(0o750)]));
    layout.write(|_| ());
    scratch.wharf(["load", "--quiet", "--tag", name]).arg(layout.path()).ok().text().to_owned()
}

fn images(scratch: &Scratch) -> Vec<(String, bool)> {
    let listed = scratch.wharf(["images", "--json"]).ok().json();
    let text = |image: &Value| image["reference"].as_str().expect("a reference").to_owned();
    listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|image| (text(image), image["named"] == json!(true)))
        .collect()
}

#[test]
fn an_image_has_several_names_and_goes_with_the_last() {
    common::require_root!();
    let scratch = Scratch::new("names");
    load(&scratch, "one", "1");
    scratch.wharf(["tag", "one", "team/two:3"]).ok();
    assert_eq!(images(&scratch), [("one:latest".into(), true), ("team/two:3".into(), true)]);
    scratch.wharf(["rmi", "one"]).ok();
    assert_eq!(names(&layers(&scratch)).len(), 1);
    scratch.wharf(["unpack", "team/two:3"]).arg(scratch.path().join("bundle")).ok();
    scratch.wharf(["rmi", "team/two:3"]).ok();
    assert_eq!((names(&blobs(&scratch)), names(&layers(&scratch))), (vec![], vec![]));
    scratch.wharf(["tag", "one", "x"]).fails_with(&["no image one"]);
    scratch.assert_clean();
}

#[test]
fn a_digest_that_has_several_names_is_removed_by_name() {
    common::require_root!();
    let scratch = Scratch::new("bydigest");
    let digest = load(&scratch, "one", "1");
    scratch.wharf(["tag", &digest, "two"]).ok();
    scratch.wharf(["rmi", &digest]).fails_with(&["several", "one:latest", "two:latest"]);
    scratch.wharf(["rmi", "two"]).ok();
    scratch.wharf(["rmi", &digest]).ok();
    assert_eq!(images(&scratch), []);
    scratch.assert_clean();
}

#[test]
fn an_image_that_loses_its_name_stays_for_its_instances_until_it_is_pruned() {
    common::require_root!();
    let scratch = Scratch::new("nameless");
    scratch.load("shell");
    let name = scratch.name("user");
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sleep", "1000"]).ok();
    let digest = scratch.wharf(["inspect", &name]).ok().json()["image_digest"].clone();
    let digest = digest.as_str().expect("a digest").to_owned();
    load(&scratch, "shell", "another");
    load(&scratch, "other", "1");
    load(&scratch, "other", "22");
    assert_eq!(images(&scratch).iter().filter(|(_, named)| !named).count(), 2);
    let table = scratch.wharf(["images"]).ok().stdout;
    assert_eq!(table.matches("<none>").count(), 2, "{table}");
    // Read as a reference, its digest would be a tag of docker.io/library/sha256.
    scratch.wharf(["push", &digest]).fails_with(&["has no name", "wharf push IMAGE REFERENCE"]);

    let plan = scratch.wharf(["prune", "--dry-run", "--json"]).ok().json();
    assert_eq!(
        (plan["images"].as_array().map(Vec::len), plan["blobs"].as_u64()),
        (Some(1), Some(3)),
        "{plan}"
    );
    assert_eq!(images(&scratch).len(), 4);
    scratch.wharf(["prune"]).ok();
    assert_eq!(images(&scratch).iter().filter(|(_, named)| !named).count(), 1);
    // All that no instance needs.
    scratch.wharf(["prune", "--all"]).ok();
    assert_eq!(images(&scratch), [(digest.clone(), false)]);
    scratch.wharf(["rmi", &digest]).fails_with(&["used by instance", &name]);
    scratch.wharf(["exec", &name, "true"]).ok();
    scratch.wharf(["restart", "--time", "0", &name]).ok();
    scratch.wharf(["exec", &name, "true"]).ok();
    scratch.wharf(["rm", "-f", &name]).ok();
    scratch.wharf(["prune"]).ok();
    assert_eq!((images(&scratch), names(&blobs(&scratch))), (vec![], vec![]));
    assert_eq!(names(&layers(&scratch)), [""; 0]);
    scratch.assert_clean();
}

#[test]
fn an_image_shows_how_it_was_made_and_all_that_is_known_of_it() {
    common::require_root!();
    let scratch = Scratch::new("details");
    scratch.load("shell");
    let history = scratch.wharf(["history", "--json", "shell"]).ok().json();
    assert_eq!(history.as_array().map(Vec::len), Some(1), "{history}");
    assert_eq!(history[0]["created_by"], "rootfs-fixtures/build");
    let table = scratch.wharf(["history", "shell"]).ok().stdout;
    assert!(table.starts_with("CREATED") && table.contains("rootfs-fixtures/build"), "{table}");
    let details = scratch.wharf(["inspect", "shell"]).ok().json();
    assert_eq!((&details["reference"], &details["config"]["os"]), (&json!("shell:latest"), &json!("linux")));
    assert_eq!(details["config"]["config"]["Cmd"], json!(["/bin/sh"]));
    let unpacked = details["layers"][0]["unpacked"].as_str().expect("a directory");
    assert!(Path::new(unpacked).join("bin/busybox").exists());
    assert_eq!(details["layers"][0]["diff_id"], details["config"]["rootfs"]["diff_ids"][0]);
    // A name may be an instance's as well as an image's.
    scratch.wharf(["inspect", "--type", "instance", "shell"]).fails_with(&["shell"]);
    scratch.wharf(["inspect", "nothing"]).fails_with(&["nothing"]);
    scratch.assert_clean();
}

#[test]
fn the_room_that_everything_takes_is_told_with_what_can_be_made_free() {
    common::require_root!();
    let scratch = Scratch::new("room");
    let usage = || scratch.wharf(["df", "--json"]).ok().json();
    assert_eq!(usage()["images"]["count"], 0);
    scratch.load("shell");
    let loaded = usage();
    let size: u64 = names(&blobs(&scratch))
        .iter()
        .map(|name| fs::metadata(blobs(&scratch).join(name)).expect("a blob").len())
        .sum();
    assert_eq!(loaded["images"]["bytes"], size, "{loaded}");
    assert_eq!(loaded["images"]["reclaimable_bytes"], size);
    assert!(loaded["layers"]["bytes"].as_u64() > Some(1 << 20), "{loaded}");
    let name = scratch.name("user");
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sleep", "1000"]).ok();
    let used = usage();
    assert_eq!((&used["images"]["active"], &used["images"]["reclaimable_bytes"]), (&json!(1), &json!(0)));
    assert_eq!((&used["layers"]["active"], &used["layers"]["reclaimable_bytes"]), (&json!(1), &json!(0)));
    assert_eq!(used["instances"]["active"], 1, "{used}");
    let table = scratch.wharf(["df"]).ok().stdout;
    assert_eq!(table.lines().count(), 5, "{table}");
    scratch.wharf(["rm", "-f", &name]).ok();
    scratch.assert_clean();
}

/// A file of the one unpacked layer.
fn unpacked_file(scratch: &Scratch) -> PathBuf {
    let layer = names(&layers(scratch)).remove(0);
    layers(scratch).join(layer).join("file")
}

#[test]
fn fsck_finds_a_damaged_layer_and_unpacks_it_anew() {
    common::require_root!();
    let scratch = Scratch::new("fscklayer");
    load(&scratch, "one", "content");
    scratch.wharf(["fsck"]).ok();
    let time = fs::metadata(unpacked_file(&scratch)).and_then(|data| data.modified()).expect("a time");
    fs::write(unpacked_file(&scratch), "CONTENT").expect("write");
    fs::File::options()
        .write(true)
        .open(unpacked_file(&scratch))
        .and_then(|file| file.set_modified(time))
        .expect("set the time");
    let found = scratch.wharf(["fsck", "--json"]).exits(1).json();
    let problem = found["findings"][0]["problem"].as_str().expect("a problem");
    assert!(problem.contains("/file: content") && problem.contains("--repair"), "{found}");
    scratch.wharf(["fsck", "--quick"]).ok();
    let repaired = scratch.wharf(["fsck", "--repair"]).ok().stdout;
    assert!(repaired.contains("repaired: unpacked layer"), "{repaired}");
    assert_eq!(fs::read_to_string(unpacked_file(&scratch)).expect("read"), "content");
    scratch.wharf(["fsck"]).ok();
    scratch.assert_clean();
}

#[test]
fn fsck_leaves_a_layer_alone_that_an_instance_uses() {
    common::require_root!();
    let scratch = Scratch::new("fsckused");
    scratch.load("shell");
    let name = scratch.name("user");
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sleep", "1000"]).ok();
    let layer = layers(&scratch).join(names(&layers(&scratch)).remove(0));
    fs::write(layer.join("etc/passwd"), "").expect("write");
    let found = scratch.wharf(["fsck", "--repair", "--json"]).exits(1).json();
    let problem = found["findings"][0]["problem"].as_str().expect("a problem");
    assert!(problem.contains("/etc/passwd") && problem.contains("remove the instances"), "{found}");
    scratch.wharf(["exec", &name, "true"]).ok();
    scratch.wharf(["rm", "-f", &name]).ok();
    scratch.wharf(["fsck", "--repair"]).ok();
    scratch.assert_clean();
}

#[test]
fn fsck_finds_a_damaged_blob_and_the_next_load_brings_it_again() {
    common::require_root!();
    let scratch = Scratch::new("fsckblob");
    load(&scratch, "one", "content");
    let largest = names(&blobs(&scratch))
        .into_iter()
        .max_by_key(|name| fs::metadata(blobs(&scratch).join(name)).map_or(0, |data| data.len()))
        .expect("blobs");
    let path = blobs(&scratch).join(&largest);
    let mut bytes = fs::read(&path).expect("read");
    bytes[0] ^= 1;
    fs::write(&path, bytes).expect("write");
    let found = scratch.wharf(["fsck", "--json"]).exits(1).json().to_string();
    assert!(found.contains("is damaged") && found.contains("lacks blob"), "{found}");
    // The blob goes; that the image lacks it stays true until it is loaded.
    let after = scratch.wharf(["fsck", "--repair"]).exits(1).stdout;
    assert!(
        after.contains(&format!("repaired: blob {largest}")) && after.contains("load it again"),
        "{after}"
    );
    load(&scratch, "one", "content");
    scratch.wharf(["fsck"]).ok();
    scratch.assert_clean();
}

#[test]
fn while_an_image_is_damaged_nothing_else_is_removed_and_it_itself_can_be() {
    common::require_root!();
    let scratch = Scratch::new("unknowable");
    let digest = load(&scratch, "broken", "1");
    load(&scratch, "other", "22");
    fs::write(blobs(&scratch).join(&digest["sha256:".len()..]), "{}").expect("write");
    scratch.wharf(["rmi", "other"]).fails_with(&["broken:latest", "damaged", "load it again"]);
    scratch.wharf(["rmi", "broken"]).ok();
    scratch.wharf(["fsck"]).outcome();
    scratch.wharf(["prune"]).ok();
    scratch.wharf(["fsck"]).ok();
    scratch.assert_clean();
}

#[test]
fn a_removal_beside_a_load_takes_nothing_that_the_load_needs() {
    common::require_root!();
    let scratch = Scratch::new("beside");
    load(&scratch, "other", "1");
    let archive = common::image_archive("shell.tar");
    for _ in 0..8 {
        let loading = scratch.wharf(["load", "--quiet"]).arg(&archive).spawn();
        let removing: Vec<_> = [&["rmi", "shell"][..], &["prune"]]
            .map(|args| scratch.wharf(args.iter().copied()).spawn())
            .into_iter()
            .collect();
        assert!(loading.wait().success());
        for removal in removing {
            removal.wait();
        }
        scratch.wharf(["load", "--quiet"]).arg(&archive).ok();
        scratch.wharf(["fsck"]).ok();
        scratch.wharf(["run", "--rm", "shell", "true"]).ok();
    }
    Call::new("true").ok();
    scratch.assert_clean();
}

#[test]
fn a_blob_that_is_not_what_its_config_says_is_refused_even_where_the_layer_is_unpacked() {
    common::require_root!();
    let scratch = Scratch::new("lie");
    load(&scratch, "true", "content");
    let honest = layer([Entry::file("file", "content"), Entry::directory("d").mode(0o750)]);
    let mut layout = Layout::new(scratch.path().join("lie"));
    layout.compressed(digest(&honest), layer([Entry::file("file", "another content")]));
    layout.write(|_| ());
    for unpack in [&["load", "--quiet"][..], &["load", "--quiet", "--no-unpack"]] {
        let load = scratch.wharf(unpack.iter().copied()).arg(layout.path());
        load.fails_with(&["layer", "was promised"]);
    }
    assert_eq!(images(&scratch), [("true:latest".into(), true)]);
    // Loaded before there was such a layer, it is told by fsck, and the layer is not blamed.
    scratch.wharf(["rmi", "true"]).ok();
    scratch.wharf(["load", "--quiet", "--no-unpack"]).arg(layout.path()).ok();
    load(&scratch, "true", "content");
    let report = scratch.wharf(["fsck", "--json"]).exits(1).json();
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(1), "{report}");
    let text = report.to_string();
    assert!(text.contains("image lie:latest") && text.contains("is not what its config says"), "{text}");
    scratch.wharf(["rmi", "lie"]).ok();
    scratch.wharf(["fsck"]).ok();
    scratch.assert_clean();
}

#[test]
fn nothing_is_left_of_images_that_are_gone() {
    common::require_root!();
    let scratch = Scratch::new("gone");
    load(&scratch, "one", "1");
    let provenance = scratch.root().join("images/.provenance");
    assert_eq!(names(&provenance).len(), 1);
    scratch.wharf(["rmi", "one"]).ok();
    assert_eq!(names(&provenance), [""; 0]);
    assert_eq!(names(&scratch.root().join("images/blobs/sha256")), [""; 0]);
    scratch.assert_clean();
}

#[test]
fn words_of_an_image_do_not_steer_the_terminal() {
    common::require_root!();
    let scratch = Scratch::new("words");
    let steers = |text: &str| text.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']);
    let mut layout = Layout::new(scratch.path().join("evil"));
    layout.layer(layer([Entry::hard_link("\u{1b}]0;owned\u{7}", "missing\u{1b}[31m")]));
    layout.write(|_| ());
    let refused = scratch.wharf(["load", "--quiet"]).arg(layout.path()).fails_with(&["hard link", "owned"]);
    assert!(!steers(&refused.stderr), "{refused}");

    let mut layout = Layout::new(scratch.path().join("words"));
    layout.layer(layer([Entry::file("file", "x")]));
    layout.config = json!({ "Cmd": ["/bin/true"], "Labels": { "note": "\u{9b}31m\u{202e}red" } });
    layout.write(|_| ());
    scratch.wharf(["load", "--quiet"]).arg(layout.path()).ok();
    let shown = scratch.wharf(["inspect", "words"]).ok();
    assert!(!steers(&shown.stdout), "{shown}");
    assert_eq!(shown.json()["config"]["config"]["Labels"]["note"], "\u{9b}31m\u{202e}red");
    scratch.assert_clean();
}

#[test]
fn names_that_mislead_are_refused() {
    common::require_root!();
    let scratch = Scratch::new("misleading");
    load(&scratch, "one", "1");
    scratch.wharf(["tag", "one", "sha256:abc"]).fails_with(&["looks like a digest"]);
    scratch.wharf(["rmi", ""]).fails_with(&["empty"]);
    scratch.wharf(["history", ""]).fails_with(&["empty"]);
    scratch.assert_clean();
}

#[test]
fn an_index_that_is_damaged_is_made_again_of_the_images_that_are_there() {
    common::require_root!();
    let scratch = Scratch::new("index");
    load(&scratch, "one", "1");
    load(&scratch, "team/two", "22");
    let index = scratch.root().join("images/index.json");
    for damage in ["", "{", "{\"schemaVersion\": 2}"] {
        fs::write(&index, damage).expect("write");
        scratch.wharf(["images"]).fails_with(&["index.json", "fsck --repair"]);
        scratch.wharf(["fsck"]).exits(1);
        scratch.wharf(["fsck", "--repair"]).ok();
        let mut found = images(&scratch);
        found.sort();
        assert_eq!(found, [("one:latest".into(), true), ("team/two:latest".into(), true)]);
        scratch.wharf(["fsck"]).ok();
    }
    scratch.assert_clean();
}
