//! What umoci, another reader of the image specification, makes of the same images.

mod common;

use common::{Call, Scratch, image_archive, program_exists, require};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Unpacks an image, `LAYOUT:TAG`, with umoci.
fn umoci_unpack(scratch: &Scratch, layout: &Path, tag: &str) -> PathBuf {
    let bundle = scratch.path().join("by-umoci");
    let image = format!("{}:{tag}", layout.display());
    Call::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).ok();
    bundle
}

fn run_command(bundle: &Path, command: &[&str]) {
    let config = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).expect("read")).expect("JSON");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(command);
    std::fs::write(config, spec.to_string()).expect("write");
}

/// One line for each file: its path, kind, mode, owner, modification time, links, size and contents.
fn listing(rootfs: &Path) -> Vec<String> {
    let script = "find . -mindepth 1 \\( -type d -printf '%P %y %m %U:%G %T@\\n' \
        -o -printf '%P %y %m %U:%G %T@ %n %s %l\\n' \\); find . -type f -print0 | xargs -0 sha256sum";
    let listed = Call::new("sh").args(["-c", script]).env("LC_ALL", "C").current_dir(rootfs).ok();
    let mut lines: Vec<String> = listed.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn umoci_reads_the_store_and_unpacks_the_same_files() {
    common::require_root!();
    require!(program_exists("umoci"), "needs umoci");
    let scratch = Scratch::new("store");
    scratch.load("shell");
    scratch.load("web");
    let store = scratch.root().join("images");
    let tags = Call::new("umoci").args(["ls", "--layout"]).arg(&store).ok();
    let mut tags: Vec<&str> = tags.stdout.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["docker.io/library/shell:latest", "docker.io/library/web:latest"]);

    let theirs = umoci_unpack(&scratch, &store, "docker.io/library/shell:latest");
    let ours = scratch.path().join("by-wharf");
    scratch.wharf(["unpack".as_ref(), "shell".as_ref(), ours.as_os_str()]).ok();
    let (theirs, ours) = (listing(&theirs.join("rootfs")), listing(&ours.join("rootfs")));
    assert!(ours.len() > 250, "{} lines", ours.len());
    let differing: Vec<_> = ours
        .iter()
        .filter(|line| !theirs.contains(line))
        .map(|line| format!("ours   {line}"))
        .chain(theirs.iter().filter(|line| !ours.contains(line)).map(|line| format!("theirs {line}")))
        .collect();
    assert!(differing.is_empty(), "{} lines:\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn an_image_that_umoci_unpacked_runs() {
    common::require_root!();
    require!(program_exists("umoci"), "needs umoci");
    let scratch = Scratch::new("layout");
    let layout = scratch.path().join("layout");
    std::fs::create_dir(&layout).expect("create");
    Call::new("tar").arg("-xf").arg(image_archive("shell.tar")).arg("-C").arg(&layout).ok();
    let bundle = umoci_unpack(&scratch, &layout, "shell:latest");
    run_command(&bundle, &["sh", "-c", "echo $$ $(id -u) $(hostname); exit 6"]);
    let id = scratch.name("umoci");
    let outcome =
        scratch.oci(["run".as_ref(), "--bundle".as_ref(), bundle.as_os_str(), id.as_ref()]).exits(6);
    assert_eq!(outcome.text(), "1 0 umoci-default");
    scratch.assert_clean();
}
