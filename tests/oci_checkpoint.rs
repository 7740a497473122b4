//! `checkpoint` and `restore`, by a CRIU that knows this kernel.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::criu::{self, require_criu};
use common::{Bundle, Scratch, eventually};
use serde_json::json;
use std::path::PathBuf;

/// Counts on a file of the host, bound into the container, a line every tenth of a second.
fn counting(scratch: &Scratch) -> (Bundle, PathBuf) {
    let count = scratch.path().join("count");
    std::fs::write(&count, "").unwrap();
    let script = "i=0; while true; do i=$((i+1)); echo $i >> /count; sleep 0.1; done";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    let mount = json!({"destination": "/count", "source": count, "type": "bind", "options": ["bind"]});
    bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().push(mount));
    (bundle, count)
}

fn lines(path: &PathBuf) -> Vec<u32> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_container_goes_on_where_it_was_after_checkpoint_and_restore() {
    common::require_root!();
    let found = require_criu!();
    let scratch = Scratch::new("criu");
    let (bundle, count) = counting(&scratch);
    let (id, image) = (scratch.name("criu"), scratch.path().join("image"));
    let image = image.to_str().unwrap();
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    eventually("it counts", || lines(&count).len() > 5);
    let before = scratch.oci(["state", &id]).ok().json();
    let checkpoint = scratch.oci(["checkpoint", "--leave-running", "--image-path", image, &id]);
    criu::with(checkpoint, &found).ok();
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "running");
    let checkpoint = scratch.oci(["checkpoint", "--image-path", image, &id]);
    criu::with(checkpoint, &found).ok();
    scratch.oci(["state", &id]).fails_with(&["does not exist"]);
    let reached = *lines(&count).last().unwrap();
    let pid_file = scratch.path().join("pid");
    let restore = scratch.oci(["restore", "--detach", "--image-path", image, "--bundle", bundle.arg()]);
    criu::with(restore, &found).args(["--pid-file", pid_file.to_str().unwrap(), &id]).ok();
    let state = scratch.oci(["state", &id]).ok().json();
    assert_eq!(state["status"], "running");
    assert_eq!(state["pid"].to_string(), std::fs::read_to_string(&pid_file).unwrap());
    assert_ne!(state["pid"], before["pid"]);
    eventually("it goes on", || *lines(&count).last().unwrap() > reached + 3);
    let counted = lines(&count);
    assert!(counted.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counted:?}");
    assert_eq!(scratch.oci(["exec", &id, "/bin/cat", "/proc/1/comm"]).ok().stdout, "sh\n");
    scratch.oci(["pause", &id]).ok();
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "paused");
    scratch.oci(["resume", &id]).ok();
    scratch.oci(["kill", &id, "KILL"]).ok();
    eventually("it ends", || scratch.oci(["state", &id]).ok().json()["status"] == "stopped");
    scratch.oci(["delete", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn a_restore_in_the_foreground_gets_new_streams_and_exits_with_the_status() {
    common::require_root!();
    let found = require_criu!();
    let scratch = Scratch::new("criufg");
    let (mut bundle, _) = counting(&scratch);
    let script = "until test -e /go; do sleep 0.1; done; echo restored; exit 9";
    bundle.edit(|spec| spec["process"]["args"] = json!(["/bin/sh", "-c", script]));
    let (id, image) = (scratch.name("criufg"), scratch.path().join("image"));
    let image = image.to_str().unwrap();
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    criu::with(scratch.oci(["checkpoint", "--image-path", image, &id]), &found).ok();
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    let other = scratch.name("other");
    let restore = scratch.oci(["restore", "--image-path", image, "--bundle", bundle.arg(), &other]);
    let outcome = criu::with(restore, &found).exits(9);
    assert_eq!(outcome.stdout, "restored\n", "{outcome}");
    scratch.assert_clean();
}

#[test]
fn what_cannot_be_saved_or_restored_is_told() {
    common::require_root!();
    let scratch = Scratch::new("criuerr");
    let (bundle, _) = counting(&scratch);
    let (id, image) = (scratch.name("criuerr"), scratch.path().join("image"));
    let image = image.to_str().unwrap();
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["checkpoint", "--image-path", image, &id]).fails_with(&["cannot checkpoint", "created"]);
    scratch.oci(["start", &id]).ok();
    let nowhere = scratch.path().join("empty");
    std::fs::create_dir(&nowhere).unwrap();
    let restored = scratch.name("restored");
    let restore = scratch.oci([
        "restore",
        "--image-path",
        nowhere.to_str().unwrap(),
        "--bundle",
        bundle.arg(),
        &restored,
    ]);
    restore.fails_with(&["descriptors.json", "No such file"]);
    scratch.oci(["state", &restored]).fails_with(&["does not exist"]);
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}
