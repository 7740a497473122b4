//! State on disk that only root may look into.

use crate::common::{self, Scratch};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

/// Everything another user could enter, read or connect to, by mode alone.
fn open_to_others(top: &Path, depth: u32, found: &mut Vec<String>) {
    let metadata = std::fs::symlink_metadata(top).unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    let kind = metadata.file_type();
    if (kind.is_dir() || kind.is_socket()) && mode & 0o077 != 0 {
        found.push(format!("{} {mode:o}", top.display()));
    }
    // Below a closed directory, the modes of layers and roots are the image's.
    if kind.is_dir() && depth < 2 {
        for entry in std::fs::read_dir(top).unwrap() {
            open_to_others(&entry.unwrap().path(), depth + 1, found);
        }
    }
}

#[test]
fn cve_2021_41091_state_of_instances_and_images_is_closed_to_others() {
    common::require_root!();
    let scratch = Scratch::new("modes");
    scratch.load("shell");
    let name = scratch.name("web");
    scratch.wharf(["run", "-d", "--name", &name, "--network", "none", "shell", "/bin/sleep", "1000"]).ok();
    let mut found = Vec::new();
    open_to_others(&scratch.root(), 0, &mut found);
    assert!(found.is_empty(), "open to others: {found:#?}");
}

#[test]
fn cve_2021_41103_state_of_containers_is_closed_to_others() {
    common::require_root!();
    let scratch = Scratch::new("modesoci");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("modes");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    let mut found = Vec::new();
    open_to_others(&scratch.oci_root(), 0, &mut found);
    assert!(found.is_empty(), "open to others: {found:#?}");
}

#[test]
fn an_id_is_never_a_path() {
    common::require_root!();
    let scratch = Scratch::new("ids");
    let bundle = scratch.bundle(&["/bin/true"]);
    let outside = scratch.path().join("outside");
    for id in ["../outside", "..", ".", "", "a/b", "/tmp/x", "a\nb", &"x".repeat(2000)] {
        for call in [
            scratch.oci(["run", "--bundle", bundle.arg(), "--", id]),
            scratch.oci(["delete", "--force", "--", id]),
            scratch.oci(["state", "--", id]),
            scratch.wharf(["run", "--name", id, "shell"]),
            scratch.wharf(["rm", "-f", "--", id]),
        ] {
            let outcome = call.outcome();
            assert!(outcome.code.is_some_and(|code| code != 0 && code != 101), "{id:?}\n{outcome}");
        }
    }
    assert!(!outside.exists() && scratch.path().is_dir());
}
