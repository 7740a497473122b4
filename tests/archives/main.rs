//! Archives and layouts: what other tools write loads here, what `wharf save` writes loads there, and a root
//! file system becomes an image.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../engines/engine.rs"]
mod engine;

mod daemons;
mod import;
mod load;
mod podman;
mod save;
mod skopeo;

use common::{Call, Scratch, image_archive};
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::Path;

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// What `wharf images` lists, sorted.
#[track_caller]
fn references(scratch: &Scratch) -> Vec<String> {
    let images = scratch.wharf(["images", "--json"]).ok().json();
    let mut names: Vec<String> = images
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["reference"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Digest of the manifest.
#[track_caller]
fn digest(scratch: &Scratch, reference: &str) -> String {
    let images = scratch.wharf(["images", "--json"]).ok().json();
    let found = images.as_array().unwrap().iter().find(|image| image["reference"] == reference);
    found.unwrap_or_else(|| panic!("no {reference} in {images}"))["digest"].as_str().unwrap().to_owned()
}

/// The image runs.
#[track_caller]
fn runs(scratch: &Scratch, image: &str) {
    let run = scratch.wharf(["run", "--rm", "--network", "none", "--pull", "never", image, "echo", "works"]);
    assert_eq!(run.ok().stdout, "works\n", "{image}");
}

/// Loads a file or directory, and returns what the command says.
#[track_caller]
fn load(scratch: &Scratch, path: &Path) -> String {
    scratch.wharf(["load".as_ref(), path.as_os_str()]).ok().stdout
}

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A tar with these files.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The uncompressed layer of the shell image.
fn shell_layer() -> Vec<u8> {
    let file = std::fs::File::open(image_archive("shell.docker.tar")).unwrap();
    for entry in tar::Archive::new(file).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().extension().is_some_and(|extension| extension == "tar") {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            return bytes;
        }
    }
    panic!("shell.docker.tar has a layer")
}

/// The config of an image with these uncompressed layers.
fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    filtered("gzip", bytes)
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    filtered("zstd", bytes)
}

/// What a program makes of bytes on its standard input.
fn filtered(program: &str, bytes: &[u8]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    std::fs::write(&from, bytes).unwrap();
    let script = format!("{program} <'{}' >'{}'", from.display(), to.display());
    Call::new("/bin/sh").args(["-c", &script]).ok();
    std::fs::read(to).unwrap()
}
