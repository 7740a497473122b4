//! Manifests, configurations and the files of an image that we read ourselves.

use crate::common::layer::Entry;
use crate::common::{self, Outcome};
use crate::hostile_image::HostileImage;
use serde_json::json;
use std::time::Duration;

#[test]
fn cve_2021_41190_a_document_that_is_both_manifest_and_index_is_refused_on_load() {
    common::require_root!();
    let image = HostileImage::new("both").layer([Entry::file("file", "x")]);
    image.load_edited(|manifest| manifest["manifests"] = json!([])).fails_with(&["CVE-2021-41190"]);
    image
        .load_edited(|manifest| manifest["manifests"] = manifest["layers"].clone())
        .fails_with(&["CVE-2021-41190"]);
    image.sentinel.assert_untouched();
}

#[test]
fn cve_2024_3727_a_digest_that_is_a_path_is_refused() {
    common::require_root!();
    for digest in [
        "sha256:../../../outside/file",
        "sha256:/etc/passwd",
        "../../outside:file",
        "sha256:..",
        "sha256:",
        "",
        &format!("sha256:{}/../x", "a".repeat(60)),
        &format!("sha512:{}", "a".repeat(128)),
        &format!("sha256:{}", "A".repeat(64)),
    ] {
        let image = HostileImage::new("digest").layer([Entry::file("file", "x")]);
        image.load_edited(|manifest| manifest["layers"][0]["digest"] = json!(digest)).fails_with(&["digest"]);
        image.load_edited(|manifest| manifest["config"]["digest"] = json!(digest)).fails_with(&["digest"]);
        // A diff_id names the directory that a layer is unpacked into.
        let mut image = HostileImage::new("diffid");
        let blob = crate::common::layer::layer([Entry::file("file", "x")]);
        image.layout.compressed(digest.to_owned(), blob);
        image.assert_refused(&[], &["digest"]);
    }
}

/// Runs with this user in an image with this as /etc/passwd; nothing of the host may show.
#[track_caller]
fn run_with_passwd(entry: &Entry, user: &str) -> Outcome {
    let image = HostileImage::new("passwd").with_busybox().layer([Entry::directory("etc"), entry.clone()]);
    image.load().ok();
    let limit = Duration::from_secs(20);
    let outcome = image.run(&["-u", user], &["/bin/id", "-u"]).limit(limit).outcome();
    image.sentinel.assert_untouched();
    outcome
}

#[track_caller]
fn passwd_is_refused(entry: &Entry) {
    for user in ["nosuchuser", "1000"] {
        let outcome = run_with_passwd(entry, user);
        assert_eq!(outcome.code, Some(125), "{outcome}");
        assert!(outcome.stderr.contains("/etc/passwd"), "{outcome}");
    }
}

#[test]
fn cve_2024_9676_a_passwd_that_is_a_pipe_or_device_never_makes_a_run_wait() {
    common::require_root!();
    passwd_is_refused(&Entry::fifo("etc/passwd"));
    passwd_is_refused(&Entry::character("etc/passwd", 1, 5).mode(0o666));
    passwd_is_refused(&Entry::directory("etc/passwd"));
}

#[test]
fn cve_2024_9676_a_passwd_without_end_is_refused_and_not_read_whole() {
    common::require_root!();
    let size = (17_u64 << 30).to_string();
    let sparse = Entry::file("etc/passwd", "").pax("GNU.sparse.size", &size).pax("GNU.sparse.map", "0,0");
    // That is more than the limits on layers let through; 1 GiB of a hole is not.
    let image = HostileImage::new("hugepasswd").layer([sparse]);
    image.load().ok();
    image.run(&["-u", "x"], &["/bin/true"]).fails_with(&["--max-layer-size"]);
    let size = (1_u64 << 30).to_string();
    passwd_is_refused(
        &Entry::file("etc/passwd", "").pax("GNU.sparse.size", &size).pax("GNU.sparse.map", "0,0"),
    );
}

#[test]
fn cve_2026_47262_a_passwd_that_is_a_symlink_shows_nothing_of_the_host() {
    common::require_root!();
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("passwd");
    std::fs::write(&secret, "SECRET:x:1234:1::/:/\n").unwrap();
    for target in [secret.to_str().unwrap(), "/proc/self/root/etc/passwd", "../../../../etc/passwd", "passwd"]
    {
        let link = Entry::symlink("etc/passwd", target);
        assert_eq!(run_with_passwd(&link, "SECRET").code, Some(125));
        // A number needs no entry; a link that leads nowhere inside is no file.
        let outcome = run_with_passwd(&link, "1234");
        assert!(outcome.stdout == "1234\n" || outcome.code == Some(125), "{outcome}");
    }
}

#[test]
fn cve_2022_23648_volumes_and_working_directories_are_resolved_inside_the_root() {
    common::require_root!();
    let mut image = HostileImage::new("volume").with_busybox();
    let out = image.sentinel.arg().to_owned();
    let up = format!("{}{}", "../".repeat(20), out.trim_start_matches('/'));
    image.layout.config = json!({
        "Cmd": ["/bin/pwd"],
        "WorkingDir": "/way/d/new",
        "Volumes": { "/way/volume": {}, "/climb/volume": {}, "/../../outside/volume": {}, "relative": {}, "/": {}, "/way": {} },
    });
    let image = image.layer([Entry::symlink("way", &out), Entry::symlink("climb", up)]);
    image.load().ok();
    let outcome = image.run(&[], &[]).outcome();
    assert!(outcome.success() || outcome.code == Some(125), "{outcome}");
    image.sentinel.assert_untouched();
    for directory in ["/way/d", "/climb/d/deep", "/../../outside/attack", "/proc/self/root", "/proc/1/cwd/x"]
    {
        let outcome = image.run(&["-w", directory], &["/bin/pwd"]).outcome();
        assert!(outcome.code.is_some_and(|code| code != 101), "{outcome}");
        image.sentinel.assert_untouched();
    }
}

#[test]
fn cve_2026_57231_variables_of_the_host_are_not_given_to_an_image_that_names_them() {
    common::require_root!();
    let mut image = HostileImage::new("env").with_busybox();
    image.layout.config = json!({ "Cmd": ["/bin/env"],
        "Env": ["HOST_SECRET", "*", "HOST_*", "=x", "HOST_SECRET*", "GOOD=1", "COPY=$HOST_SECRET", "COPY2=${HOST_SECRET}"] });
    image.load().env("HOST_SECRET", "leaked").ok();
    let outcome = image.run(&[], &[]).env("HOST_SECRET", "leaked").ok();
    assert!(!outcome.stdout.contains("leaked"), "{outcome}");
    assert!(outcome.stdout.contains("GOOD=1\n"), "{outcome}");
    assert!(!outcome.stdout.contains("HOST_SECRET="), "{outcome}");
}

#[test]
fn cve_2026_53488_labels_of_an_image_are_no_input_to_engines_or_hooks() {
    common::require_root!();
    let mut image = HostileImage::new("labels").with_busybox();
    let labels = json!({
        "run.oci.keep_original_groups": "1",
        "run.oci.hooks.stdout": image.sentinel.path.join("file"),
        "io.podman.annotations.privileged": "TRUE",
        "io.kubernetes.cri-o.Devices": "/dev/sda",
        "module.wasm.image/variant": "compat",
        "org.systemd.property.DeviceAllow": "[('/dev/sda', 'rwm')]",
        "wharf.restart": "always",
        "org.opencontainers.image.title": "harmless",
    });
    image.layout.config = json!({ "Cmd": ["/bin/true"], "Labels": labels });
    image.load().ok();
    image.unpack(&[]).ok();
    let spec = std::fs::read(image.scratch.path().join("bundle/config.json")).unwrap();
    let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
    let keys: Vec<&String> = spec["annotations"].as_object().unwrap().keys().collect();
    assert!(keys.iter().all(|key| key.starts_with("org.opencontainers.image.")), "{keys:?}");
    assert_eq!(spec["annotations"]["org.opencontainers.image.title"], "harmless");
    // Nor are they the user's labels, by which instances are found.
    let name = image.scratch.name("labelled");
    image.scratch.wharf(["run", "-d", "--network", "none", "--name", &name, "evil"]).ok();
    let labels = &image.scratch.inspect(&name)["labels"];
    assert!(labels.is_null() || labels.as_object().is_some_and(serde_json::Map::is_empty), "{labels}");
    image.sentinel.assert_untouched();
}
