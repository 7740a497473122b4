//! The same image by way of every tool and transport that moves images.
use crate::common::Call;
use crate::common::layer::Entry;
use crate::image::{Image, require_tools, tagged, umoci};
use crate::tree::Tree;
use std::fs;
use std::path::Path;

/// Two layers that use what layers have.
fn image(name: &str) -> Image {
    Image::new(name)
        .layer([
            Entry::directory("./").mode(0o755),
            Entry::directory("d").mode(0o2750).owner(5, 6),
            Entry::file("d/file", "lower").mode(0o4755),
            Entry::hard_link("hard", "d/file"),
            Entry::symlink("soft", "/d/file"),
            Entry::file("gone", "1"),
            Entry::file("capable", "2").xattr("user.note", "kept").pax("mtime", "12.5"),
        ])
        .layer([
            Entry::directory("d").mode(0o700).owner(7, 8),
            Entry::whiteout("gone"),
            Entry::opaque("d"),
            Entry::file("d/new", "3"),
        ])
}

fn skopeo(image: &Image, options: &[&str], target: &str, path: &Path) {
    let from = format!("oci:{}", tagged(&image.layout()).display());
    let to = format!("{target}:{}", path.display());
    Call::new("skopeo").args(["--insecure-policy", "copy", "--quiet"]).args(options).arg(from).arg(to).ok();
}

#[test]
fn every_transport_of_skopeo_carries_the_same_tree() {
    require_tools!("umoci", "skopeo");
    let image = image("transports");
    let tree = image.by_umoci();
    for (transport, file, suffix) in [
        ("oci", "copied", ":case"),
        ("oci-archive", "oci.tar", ":case"),
        ("docker-archive", "docker.tar", ":case:1"),
    ] {
        let path = image.scratch().path().join(file);
        skopeo(&image, &[], transport, Path::new(&format!("{}{suffix}", path.display())));
        image.bundle_of(&path).assert_same(transport, &tree, "umoci");
    }
}

#[test]
fn layers_of_every_compression_unpack_alike() {
    require_tools!("umoci", "skopeo");
    let image = image("compressions");
    let tree = image.by_umoci();
    for format in ["gzip", "zstd"] {
        let path = image.scratch().path().join(format);
        let options = ["--dest-compress", "--dest-compress-format", format, "--dest-compress-level", "9"];
        skopeo(&image, &options, "oci", Path::new(&format!("{}:case", path.display())));
        image.bundle_of(&path).assert_same(format, &tree, "umoci");
    }
    let path = image.scratch().path().join("plain");
    skopeo(&image, &["--dest-decompress"], "dir", &path);
    let plain = image.scratch().path().join("again");
    Call::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("dir:{}", path.display()))
        .arg(format!("oci:{}:case", plain.display()))
        .ok();
    image.bundle_of(&plain).assert_same("dir and back", &tree, "umoci");
}

#[test]
fn a_docker_archive_and_an_oci_archive_that_are_compressed_whole_unpack_alike() {
    require_tools!("umoci", "skopeo", "zstd", "gzip");
    let image = image("whole");
    let tree = image.by_umoci();
    let path = image.scratch().path().join("docker.tar");
    skopeo(&image, &[], "docker-archive", Path::new(&format!("{}:case:1", path.display())));
    Call::new("gzip").arg("--keep").arg(&path).ok();
    Call::new("zstd").arg("--quiet").arg(&path).ok();
    for suffix in ["gz", "zst"] {
        image.bundle_of(&path.with_extension(format!("tar.{suffix}"))).assert_same(suffix, &tree, "umoci");
    }
}

#[test]
fn a_layer_that_umoci_packed_from_a_changed_tree_brings_the_change_back() {
    require_tools!("umoci");
    let image = image("repack");
    let bundle = image.scratch().path().join("changed");
    umoci(["unpack", "--image"], &tagged(&image.layout())).arg(&bundle).ok();
    let rootfs = bundle.join("rootfs");
    fs::remove_file(rootfs.join("d/new")).unwrap();
    fs::remove_file(rootfs.join("soft")).unwrap();
    fs::create_dir(rootfs.join("soft")).unwrap();
    fs::write(rootfs.join("soft/in"), "4").unwrap();
    fs::hard_link(rootfs.join("soft/in"), rootfs.join("again")).unwrap();
    fs::write(rootfs.join("capable"), "changed").unwrap();
    umoci(["repack", "--image"], &tagged(&image.layout())).arg(&bundle).ok();
    let tree = image.assert_as_umoci();
    assert_eq!(tree.names(), ["again", "capable", "d", "hard", "soft", "soft/in"]);
    assert_eq!(tree.get("again").first_name, Path::new("again"));
}

#[test]
fn many_layers_over_one_another_unpack_alike() {
    require_tools!("umoci");
    let mut image = Image::new("many");
    for count in 0..12 {
        let name = |count: i32| format!("d/{}", count % 5);
        let mut entries = vec![
            Entry::directory("d").mode(0o700 + count),
            Entry::file(name(count as i32), name(count as i32)),
        ];
        if count % 3 == 2 {
            entries.push(Entry::whiteout(&name(count as i32 + 3)));
        }
        if count == 7 {
            entries.insert(1, Entry::opaque("d"));
        }
        image = image.layer(entries);
    }
    image.assert_as_umoci();
}

#[test]
fn an_image_that_wharf_stores_is_the_same_image_to_umoci() {
    require_tools!("umoci");
    let image = image("stored");
    let tree = image.by_umoci();
    image.by_wharf();
    let store = image.scratch().root().join("images");
    let bundle = image.scratch().path().join("from-store");
    let name = format!("{}:docker.io/library/case:latest", store.display());
    umoci(["unpack", "--image"], Path::new(&name)).arg(&bundle).ok();
    Tree::read(&bundle.join("rootfs")).assert_same("umoci, from the store", &tree, "umoci");
}
