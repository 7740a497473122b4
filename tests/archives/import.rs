//! `wharf import`: a root file system becomes an image.
use crate::common::{self, Call, Scratch, busybox_rootfs};
use crate::{digest, gzip, references, runs, tar_of, zstd};
use serde_json::{Value, json};

/// A root file system that runs programs, as tar writes it.
fn root_tar() -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("root.tar");
    Call::new("tar").arg("-cf").arg(&path).arg("-C").arg(busybox_rootfs()).arg(".").ok();
    std::fs::read(path).unwrap()
}

/// A blob that a descriptor names.
fn blob(scratch: &Scratch, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor.as_str().or_else(|| descriptor["digest"].as_str()).unwrap();
    std::fs::read(scratch.root().join("images/blobs/sha256").join(&digest[7..])).unwrap()
}

/// Manifest and config of an image.
fn documents(scratch: &Scratch, reference: &str) -> (Value, Value) {
    let manifest: Value = serde_json::from_slice(&blob(scratch, &json!(digest(scratch, reference)))).unwrap();
    let config = serde_json::from_slice(&blob(scratch, &manifest["config"])).unwrap();
    (manifest, config)
}

#[test]
fn a_root_file_system_becomes_an_image_of_one_layer_whatever_compresses_it() {
    common::require_root!();
    let plain = root_tar();
    let scratch = Scratch::new("forms");
    let forms =
        [("plain", plain.clone(), "gzip"), ("gzip", gzip(&plain), "gzip"), ("zstd", zstd(&plain), "zstd")];
    let mut diff_ids = Vec::new();
    for (form, bytes, stored) in forms {
        let name = format!("{form}:1");
        let told = scratch.wharf(["import", "-", &name]).stdin(bytes.clone()).ok().stdout;
        assert!(told.starts_with(&format!("imported {name} (sha256:")) && told.contains(stored), "{told}");
        let (manifest, config) = documents(&scratch, &name);
        let layer = &manifest["layers"][0];
        assert!(layer["mediaType"].as_str().unwrap().ends_with(&format!("tar+{stored}")), "{manifest}");
        if form != "plain" {
            assert_eq!(blob(&scratch, layer), bytes, "{form} is kept as it came");
        }
        assert_eq!(config["os"], "linux");
        diff_ids.push(config["rootfs"]["diff_ids"].clone());
        runs(&scratch, &name);
    }
    assert!(diff_ids.iter().all(|ids| *ids == json!([crate::sha256(&plain)])), "{diff_ids:?}");
}

#[test]
fn changes_become_the_images_configuration() {
    common::require_root!();
    let scratch = Scratch::new("change");
    let path = scratch.path().join("root.tar");
    std::fs::write(&path, root_tar()).unwrap();
    let changes = [
        r#"ENTRYPOINT ["/bin/sh", "-c"]"#,
        r#"CMD ["echo $GREETING $(id -u) $(pwd)"]"#,
        "ENV GREETING=\"good morning\" PATH=/bin",
        "USER 1000:1000",
        "WORKDIR /home/app",
        "EXPOSE 8080",
        "LABEL org.opencontainers.image.title=\"A title\"",
        "VOLUME /data",
        "STOPSIGNAL SIGQUIT",
    ];
    let call = scratch.wharf(["import", "--message", "made by hand"]);
    let call = changes.iter().fold(call, |call, change| call.args(["--change", change]));
    call.arg(&path).arg("team/changed:2").env("SOURCE_DATE_EPOCH", "1700000000").ok();
    let run = scratch.wharf(["run", "--rm", "--network", "none", "team/changed:2"]).ok();
    assert_eq!(run.stdout, "good morning 1000 /home/app\n");
    let (_, config) = documents(&scratch, "team/changed:2");
    let expected = json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $GREETING $(id -u) $(pwd)"],
        "Env": ["GREETING=good morning", "PATH=/bin"], "User": "1000:1000", "WorkingDir": "/home/app",
        "ExposedPorts": {"8080/tcp": {}}, "Labels": {"org.opencontainers.image.title": "A title"},
        "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT",
    });
    assert_eq!(config["config"], expected);
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(config["history"][0]["comment"], "made by hand");
}

#[test]
fn the_same_stream_at_the_same_time_gives_the_same_image() {
    common::require_root!();
    let root = tar_of(&[("a", b"1")]);
    let digests = ["here", "there"].map(|name| {
        let scratch = Scratch::new(name);
        let call = scratch.wharf(["import", "-c", "LABEL a=1 b=2 c=3 d=4", "-", "same"]);
        call.env("SOURCE_DATE_EPOCH", "1").stdin(root.clone()).ok();
        digest(&scratch, "same:latest")
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_stream_that_is_cut_or_no_tar_is_refused_and_the_store_is_as_it_was() {
    common::require_root!();
    let scratch = Scratch::new("cut");
    scratch.load("web");
    let files = || Call::new("find").arg(scratch.root().join("images")).args(["-type", "f"]).ok().stdout;
    let before = files();
    let plain = tar_of(&[("a", &[b'a'; 3000]), ("b", &[b'b'; 100])]);
    // Within a header, within content, between entries, and without the end-of-archive marker.
    let mut cases: Vec<Vec<u8>> =
        [0, 100, 512, 1000, 3584, 4096, 4608, 5119].iter().map(|at| plain[..*at].to_vec()).collect();
    let (gzip, zstd) = (gzip(&plain), zstd(&plain));
    cases.extend([gzip[..gzip.len() / 2].to_vec(), gzip[..gzip.len() - 4].to_vec()]);
    cases.extend([zstd[..zstd.len() / 2].to_vec(), zstd[..zstd.len() - 1].to_vec()]);
    cases.extend([b"this is no archive".to_vec(), vec![b'x'; 5000]]);
    let mut forged = gzip.clone();
    let end = forged.len() - 6;
    forged[end] ^= 1;
    cases.push(forged);
    for bytes in cases {
        let length = bytes.len();
        let outcome = scratch.wharf(["import", "-", "cut"]).stdin(bytes).fails_with(&["standard input"]);
        assert_eq!(outcome.code, Some(125), "{length} bytes: {outcome}");
        assert_eq!(files(), before, "{length} bytes");
    }
    assert_eq!(references(&scratch), ["web:latest"]);
    scratch.wharf(["import", "-", "whole"]).stdin(plain).ok();
}

#[test]
fn what_is_wrong_with_a_change_is_told_before_the_stream_is_read() {
    common::require_root!();
    let scratch = Scratch::new("wrong");
    for (change, reason) in [("RUN make", "is not CMD"), ("EXPOSE http", "http"), ("ENV A", "KEY=VALUE")] {
        let call = scratch.wharf(["import", "--change", change, "/nonexistent/root.tar", "x"]);
        let outcome = call.fails_with(&[change, reason]);
        assert!(!outcome.stderr.contains("nonexistent"), "{outcome}");
    }
    scratch.wharf(["import", "/nonexistent/root.tar", "x"]).fails_with(&["/nonexistent/root.tar"]);
    scratch.wharf(["import", "-", "Not A Name"]).fails_with(&["Not A Name"]);
}

#[test]
fn an_image_for_other_machines_is_imported_as_such_and_not_run() {
    common::require_root!();
    let scratch = Scratch::new("foreign");
    let call =
        scratch.wharf(["import", "--platform", "linux/riscv64", "--change", "CMD [\"/a\"]", "-", "far"]);
    call.stdin(tar_of(&[("a", b"1")])).ok();
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json()[0]["platform"], "linux/riscv64");
    scratch.wharf(["run", "--rm", "far"]).fails_with(&["linux/riscv64"]);
}
