//! Images from the outside: every form that loads, and every kind of damage that is told in one line.

mod common;

use common::cgroups::CGROUP2_ONLY;
use common::{Call, Scratch, image_archive};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Names below a directory of the store, its own locks left out.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("entry").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).filter(|name| name != ".lock").collect();
    names.sort();
    names
}

/// The shell image as a layout directory that a test may damage.
fn layout(scratch: &Scratch) -> PathBuf {
    let directory = scratch.path().join("damaged");
    fs::create_dir(&directory).expect("create");
    Call::new("tar").arg("-xf").arg(image_archive("shell.tar")).arg("-C").arg(&directory).ok();
    directory
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("digest");
    layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").expect("sha256"))
}

/// Rewrites a document of the layout and returns the descriptor that fits it.
fn rewrite(layout: &Path, descriptor: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut document = read_json(&blob(layout, descriptor));
    change(&mut document);
    let bytes = document.to_string().into_bytes();
    fs::write(layout.join("blobs/sha256").join(sha256(&bytes)), &bytes).expect("write");
    let mut descriptor = descriptor.clone();
    descriptor["digest"] = json!(format!("sha256:{}", sha256(&bytes)));
    descriptor["size"] = json!(bytes.len());
    descriptor
}

/// Changes the manifest of the layout's only image.
fn damage_manifest(layout: &Path, change: impl FnOnce(&mut Value)) {
    let path = layout.join("index.json");
    let mut index = read_json(&path);
    index["manifests"][0] = rewrite(layout, &index["manifests"][0], change);
    fs::write(path, index.to_string()).expect("write");
}

/// Loading fails with these texts, and the store is as empty as before.
fn refused(scratch: &Scratch, source: &Path, texts: &[&str]) {
    let outcome = scratch.wharf(["load".as_ref(), "--quiet".as_ref(), source.as_os_str()]).fails_with(texts);
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json(), json!([]));
    let images = scratch.root().join("images");
    assert_eq!(names(&images.join("blobs/sha256")), [""; 0]);
    assert!(names(&images).iter().all(|name| !name.starts_with(".staging")), "{:?}", names(&images));
}

#[test]
fn every_form_of_archive_loads_and_gives_the_same_image() {
    common::require_root!();
    for form in ["shell.tar", "shell.tar.gz", "shell.tar.zst", "shell.docker.tar"] {
        let scratch = Scratch::new("form");
        let archive = image_archive(form);
        scratch.wharf(["load".as_ref(), archive.as_os_str()]).ok();
        let run = scratch.wharf(["run", "--rm", "shell", "echo", "works"]).ok();
        assert_eq!(run.stdout, "works\n", "{form}");
        // A second load changes nothing.
        scratch.wharf(["load".as_ref(), archive.as_os_str()]).ok();
        let images = scratch.wharf(["images", "--json"]).ok().json();
        assert_eq!(images.as_array().expect("a list").len(), 1, "{form}");
        assert_eq!(images[0]["reference"], "shell:latest", "{form}");
    }
}

#[test]
fn a_layout_directory_and_standard_input_load_too_and_a_tag_names_the_image() {
    common::require_root!();
    let scratch = Scratch::new("source");
    let directory = layout(&scratch);
    scratch.wharf(["load", "--tag", "team/box:1", directory.to_str().expect("UTF-8")]).ok();
    let bytes = fs::read(image_archive("shell.tar.gz")).expect("read");
    scratch.wharf(["load", "-"]).stdin(bytes).ok();
    let images = scratch.wharf(["images", "--json"]).ok().json();
    let names: Vec<&str> =
        images.as_array().expect("a list").iter().filter_map(|i| i["reference"].as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&"team/box:1") && names.contains(&"shell:latest"), "{names:?}");
}

#[test]
fn removing_an_image_removes_what_only_it_used() {
    common::require_root!();
    let scratch = Scratch::new("rmi");
    scratch.load("shell");
    scratch.wharf(["run", "--rm", "shell", "true"]).ok();
    assert_ne!(names(&scratch.root().join("layers/sha256")), [""; 0]);
    scratch.wharf(["rmi", "shell"]).ok();
    assert_eq!(names(&scratch.root().join("images/blobs/sha256")), [""; 0]);
    assert_eq!(names(&scratch.root().join("layers/sha256")), [""; 0]);
}

#[test]
fn a_truncated_or_foreign_archive_is_told() {
    common::require_root!();
    let scratch = Scratch::new("cut");
    let cut = scratch.path().join("cut.tar.gz");
    let bytes = fs::read(image_archive("shell.tar.gz")).expect("read");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("write");
    refused(&scratch, &cut, &["cut.tar.gz"]);
    fs::write(&cut, b"this is no archive").expect("write");
    refused(&scratch, &cut, &["cut.tar.gz"]);
    fs::write(&cut, b"").expect("write");
    refused(&scratch, &cut, &["cut.tar.gz"]);
}

#[test]
fn an_archive_that_breaks_off_leaves_the_store_as_it_was() {
    common::require_root!();
    let scratch = Scratch::new("beside");
    scratch.load("web");
    let listing = || scratch.wharf(["images", "--json"]).ok().json();
    let files = || Call::new("find").arg(scratch.root().join("images")).args(["-type", "f"]).ok().stdout;
    let before = (listing(), files());
    for form in ["shell.tar", "shell.tar.gz", "shell.tar.zst", "shell.docker.tar"] {
        let bytes = fs::read(image_archive(form)).expect("read");
        let cut = scratch.path().join(format!("cut-{form}"));
        for length in [700, bytes.len() / 3, bytes.len() - bytes.len() / 10] {
            fs::write(&cut, &bytes[..length]).expect("write");
            let load = scratch.wharf(["load".as_ref(), cut.as_os_str()]);
            let outcome = load.fails_with(&[&format!("cut-{form}")]);
            assert_eq!(outcome.code, Some(125), "{outcome}");
            assert_eq!((listing(), files()), before, "{length} bytes of {form}");
        }
        let piped = scratch.wharf(["load", "-"]).stdin(&bytes[..bytes.len() / 2]);
        piped.fails_with(&["standard input"]);
        assert_eq!((listing(), files()), before, "half of {form} from standard input");
    }
}

#[test]
fn content_that_is_not_what_its_digest_says_is_refused() {
    common::require_root!();
    let scratch = Scratch::new("forged");
    let layout = layout(&scratch);
    let manifest = read_json(&blob(&layout, &read_json(&layout.join("index.json"))["manifests"][0]));
    let layer = blob(&layout, &manifest["layers"][0]);
    let mut bytes = fs::read(&layer).expect("read");
    bytes[0] ^= 1;
    fs::write(&layer, bytes).expect("write");
    refused(&scratch, &layout, &["layer 0", "was promised"]);
}

#[test]
fn media_types_that_are_unknown_and_documents_of_two_kinds_are_refused() {
    common::require_root!();
    let scratch = Scratch::new("types");
    let directory = layout(&scratch);
    damage_manifest(&directory, |manifest| manifest["layers"][0]["mediaType"] = json!("application/x-odd"));
    refused(&scratch, &directory, &["layer 0", "application/x-odd", "does not support"]);
    let scratch = Scratch::new("both");
    let directory = layout(&scratch);
    damage_manifest(&directory, |manifest| manifest["manifests"] = json!([]));
    refused(&scratch, &directory, &["CVE-2021-41190"]);
    let scratch = Scratch::new("digest");
    let directory = layout(&scratch);
    damage_manifest(&directory, |manifest| {
        manifest["layers"][0]["digest"] = json!("sha256:../../../etc/passwd");
    });
    refused(&scratch, &directory, &["../../../etc/passwd"]);
}

#[test]
fn an_image_without_a_command_says_how_to_give_one() {
    common::require_root!();
    let scratch = Scratch::new("nocmd");
    let directory = layout(&scratch);
    damage_manifest(&directory, |manifest| {
        manifest["config"] = rewrite(&directory, &manifest["config"], |config| {
            config["config"]["Cmd"] = Value::Null;
            config["config"]["Entrypoint"] = Value::Null;
        });
    });
    scratch.wharf(["load", "--tag", "mute", directory.to_str().expect("UTF-8")]).ok();
    let outcome = scratch.wharf(["run", "mute"]).fails_with(&["entry point", "command"]);
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert_eq!(scratch.wharf(["ps", "-a", "--json"]).ok().json(), json!([]));
}

#[test]
fn a_bundle_written_by_unpack_runs_under_other_runtimes() {
    common::require_root!();
    let scratch = Scratch::new("bundle");
    scratch.load("shell");
    let bundle = scratch.path().join("bundle");
    scratch.wharf(["unpack", "shell", bundle.to_str().expect("UTF-8")]).ok();
    let config = bundle.join("config.json");
    let mut spec = read_json(&config);
    spec["process"]["args"] = json!(["/bin/sh", "-c", "echo from $(hostname -i 2>/dev/null || echo inside)"]);
    fs::write(&config, spec.to_string()).expect("write");
    let state = scratch.path().join("foreign");
    let crun = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/crun");
    let runc = PathBuf::from("runc");
    let mut ran = 0;
    for runtime in [&runc, &crun] {
        if runtime == &runc && !common::program_exists("runc") || runtime == &crun && !crun.exists() {
            common::skip(&format!("needs {} (scripts/bench.d/debian13 fetches crun)", runtime.display()));
            continue;
        }
        let id = scratch.name("foreign");
        // crun refuses hybrid hosts, so it gets a mount namespace in which cgroup2 is all there is.
        let call = match runtime == &crun {
            true => Call::new(CGROUP2_ONLY).arg(runtime).arg("--cgroup-manager=cgroupfs"),
            false => Call::new(runtime),
        };
        let call = call.arg("--root").arg(&state);
        let outcome = call.args(["run", "--bundle", bundle.to_str().expect("UTF-8"), &id]).ok();
        assert!(outcome.stdout.starts_with("from"), "{}: {outcome}", runtime.display());
        ran += 1;
    }
    let outcome =
        scratch.oci(["run", "--bundle", bundle.to_str().expect("UTF-8"), &scratch.name("own")]).ok();
    assert!(outcome.stdout.starts_with("from"), "after {ran} others: {outcome}");
    scratch.wharf(["unpack", "shell", bundle.to_str().expect("UTF-8")]).fails_with(&["not empty"]);
}

/// A small tmpfs, unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Self {
        fs::create_dir(&path).expect("create");
        Call::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path).ok();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Call::new("umount").arg(&self.0).outcome();
    }
}

#[test]
fn a_full_disk_is_told_with_what_to_do_and_nothing_half_made_is_left() {
    common::require_root!();
    let scratch = Scratch::new("full");
    // Room for the archive's blobs but not for the layer, and for neither.
    for (size, fails_at) in [("512k", "load"), ("2m", "load"), ("2m", "run")] {
        let disk = SmallDisk::mount(scratch.path().join(format!("disk-{size}-{fails_at}")), size);
        let root = disk.0.to_str().expect("UTF-8").to_owned();
        let wharf = |args: &[&str]| Call::new(env!("CARGO_BIN_EXE_wharf")).args(["--root", &root]).args(args);
        let archive = image_archive("shell.tar.gz");
        let load = ["load", "--quiet", archive.to_str().expect("UTF-8")];
        let outcome = if fails_at == "load" {
            wharf(&load).outcome()
        } else {
            wharf(&[&load[..], &["--no-unpack"]].concat()).ok();
            wharf(&["run", "--rm", "shell", "true"]).outcome()
        };
        assert_eq!(outcome.code, Some(125), "{size}: {outcome}");
        assert!(
            outcome.stderr.contains("No space left") && outcome.stderr.contains("--root"),
            "{size}: {outcome}"
        );
        assert_eq!(names(&disk.0.join("layers/sha256")), [""; 0]);
        let left: Vec<String> =
            ["images", "layers", "instances"].iter().flat_map(|part| names(&disk.0.join(part))).collect();
        let half = |name: &&String| {
            name.starts_with(".staging") || name.starts_with(".unpacking") || name.starts_with(".new")
        };
        assert_eq!(left.iter().find(half), None, "{size}: {left:?}");
    }
}

#[test]
fn what_makes_room_works_on_a_full_disk() {
    common::require_root!();
    let scratch = Scratch::new("brimful");
    for removal in [&["rmi", "shell"][..], &["prune", "--all"]] {
        let disk = SmallDisk::mount(scratch.path().join(removal[0]), "16m");
        let root = disk.0.to_str().expect("UTF-8").to_owned();
        let wharf = |args: &[&str]| Call::new(env!("CARGO_BIN_EXE_wharf")).args(["--root", &root]).args(args);
        let archive = image_archive("shell.tar");
        wharf(&["load", "--quiet", archive.to_str().expect("UTF-8")]).ok();
        let fill = format!("cat /dev/zero >{root}/filler; true");
        Call::new("sh").args(["-c", &fill]).ok();
        wharf(removal).ok();
        assert_eq!(names(&disk.0.join("images/blobs/sha256")), [""; 0]);
        assert_eq!(wharf(&["images", "--json"]).ok().json(), json!([]));
    }
}

#[test]
fn a_manifest_that_its_index_calls_an_index_is_refused() {
    common::require_root!();
    let scratch = Scratch::new("called");
    let directory = layout(&scratch);
    let path = directory.join("index.json");
    let mut index = read_json(&path);
    index["manifests"][0]["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    std::fs::write(&path, index.to_string()).expect("write");
    refused(&scratch, &directory, &["is the other kind", "CVE-2021-41190"]);
}
