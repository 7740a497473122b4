//! Images through the library: what becomes of every kind of layer entry, and of hostile ones.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};
use wharf::image::{Image, LoadOptions, Overlay, Source, Store, Upper};

/// Layers under construction.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, name: &str, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_mtime(1_000_000_000);
        header.set_uid(0);
        header.set_gid(0);
        // set_path refuses what an attacker would write, so the field is filled by hand.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header
    }

    fn add(mut self, mut header: Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.add(Self::header(EntryType::Regular, name, content.len() as u64), content.as_bytes())
    }

    fn directory(self, name: &str) -> Self {
        self.add(Self::header(EntryType::Directory, name, 0), b"")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, name, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.add(header, b"")
    }

    fn pax(mut self, records: &[(&str, &str)]) -> Self {
        self.0.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes()))).unwrap();
        self
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An OCI image layout in a directory of its own, and a store to load it into.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn layout(&self) -> PathBuf {
        self.directory.path().join("web")
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn blob(&self, bytes: &[u8]) -> serde_json::Value {
        let hex = hex::encode(Sha256::digest(bytes));
        let blobs = self.layout().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&hex), bytes).unwrap();
        json!({ "digest": format!("sha256:{hex}"), "size": bytes.len() })
    }

    /// Writes the layout; layers are stored as they come out of `store_as`.
    fn write(&self, layers: &[Vec<u8>], store_as: impl Fn(&[u8]) -> Vec<u8>) {
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| format!("sha256:{}", hex::encode(Sha256::digest(layer)))).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({ "os": "linux", "architecture": architecture, "config": { "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let typed = |mut blob: serde_json::Value, kind: &str| {
            blob["mediaType"] = json!(format!("application/vnd.oci.image.{kind}"));
            blob
        };
        let config = typed(self.blob(config.to_string().as_bytes()), "config.v1+json");
        let layers: Vec<_> =
            layers.iter().map(|layer| typed(self.blob(&store_as(layer)), "layer.v1.tar")).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers });
        let manifest = typed(self.blob(manifest.to_string().as_bytes()), "manifest.v1+json");
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.layout().join("index.json"), index.to_string()).unwrap();
        fs::write(self.layout().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    fn load(&self) -> Result<(Store, Image), String> {
        let store = Store::open(&self.root()).map_err(|error| error.to_string())?;
        store
            .load(&Source::Path(self.layout()), &LoadOptions { unpack: false, ..LoadOptions::default() }, &())
            .map_err(|error| error.to_string())?;
        let image = store.find("web").map_err(|error| error.to_string())?;
        Ok((store, image))
    }

    /// The one layer's directory.
    fn unpacked(&self, layer: Layer) -> Result<PathBuf, String> {
        self.write(&[layer.finish()], <[u8]>::to_vec);
        let (store, image) = self.load()?;
        let layers = store.layers(&image, &()).map_err(|error| error.to_string())?;
        Ok(layers[0].clone())
    }

    fn refused(&self, layer: Layer) -> String {
        let error = self.unpacked(layer).unwrap_err();
        let left: Vec<_> = fs::read_dir(self.root().join("layers")).unwrap().flatten().collect();
        let names: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
        assert!(left.len() <= 2, "{names:?}");
        assert_eq!(fs::read_dir(self.root().join("layers/sha256")).unwrap().count(), 0);
        error
    }
}

#[test]
fn every_kind_of_entry_arrives_as_it_was() {
    common::require_root!();
    let bench = Bench::new();
    let mut device = Layer::header(EntryType::Char, "null", 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    let mut setuid = Layer::header(EntryType::Regular, "su", 2);
    setuid.set_mode(0o4755);
    setuid.set_uid(70_000_000);
    setuid.set_gid(5);
    let layer = Layer::new()
        .directory("d")
        .file("d/file", "hello")
        .link(EntryType::Link, "hard", "d/file")
        .link(EntryType::Symlink, "soft", "/d/file")
        .add(Layer::header(EntryType::Fifo, "fifo", 0), b"")
        .add(device, b"")
        .add(setuid, b"su")
        .pax(&[
            ("mtime", "1234.567890123"),
            ("SCHILY.xattr.user.note", "kept"),
            ("SCHILY.xattr.trusted.overlay.redirect", "/etc"),
        ])
        .file("stamped", "x");
    let tree = bench.unpacked(layer).unwrap();
    let stat = |name: &str| fs::symlink_metadata(tree.join(name)).unwrap();
    assert_eq!(fs::read_to_string(tree.join("d/file")).unwrap(), "hello");
    assert_eq!(stat("hard").ino(), stat("d/file").ino());
    assert_eq!(fs::read_link(tree.join("soft")).unwrap(), Path::new("/d/file"));
    assert!(stat("fifo").file_type().is_fifo());
    assert_eq!(stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!((stat("su").mode() & 0o7777, stat("su").uid(), stat("su").gid()), (0o4755, 70_000_000, 5));
    assert_eq!((stat("stamped").mtime(), stat("stamped").mtime_nsec()), (1234, 567_890_123));
    assert_eq!(stat("d").mtime(), 1_000_000_000);
    let mut names = [0u8; 256];
    let length = rustix::fs::listxattr(tree.join("stamped"), &mut names[..]).unwrap();
    let names = String::from_utf8_lossy(&names[..length]).into_owned();
    assert!(!names.contains("overlay"), "{names}");
}

#[test]
fn whiteouts_take_overlays_form_and_really_remove_in_a_bundle() {
    common::require_root!();
    let bench = Bench::new();
    let below = Layer::new()
        .directory("d")
        .file("d/old", "1")
        .file("gone", "2")
        .file("kept", "3")
        .directory("e")
        .file("e/old", "4");
    let above = Layer::new()
        .file(".wh.gone", "")
        .directory("d")
        .file("d/new", "5")
        .file("d/.wh..wh..opq", "")
        .file("e/.wh.old", "");
    bench.write(&[below.finish(), above.finish()], <[u8]>::to_vec);
    let (store, image) = bench.load().unwrap();
    let top = store.layers(&image, &()).unwrap()[1].clone();
    let gone = fs::symlink_metadata(top.join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0u8; 8];
    assert_eq!(rustix::fs::getxattr(top.join("d"), "trusted.overlay.opaque", &mut value[..]).unwrap(), 1);
    let bundle = bench.directory.path().join("bundle");
    store.unpack(&image, &bundle).unwrap();
    let rootfs = bundle.join("rootfs");
    for (name, there) in
        [("gone", false), ("kept", true), ("d/old", false), ("d/new", true), ("e/old", false), ("e", true)]
    {
        assert_eq!(rootfs.join(name).exists(), there, "{name}");
    }
}

fn check_form(form: impl Fn(&[u8]) -> Vec<u8>) {
    let bench = Bench::new();
    bench.write(&[Layer::new().file("f", "same").finish()], form);
    let (store, image) = bench.load().unwrap();
    let layers = store.layers(&image, &()).unwrap();
    assert_eq!(fs::read_to_string(layers[0].join("f")).unwrap(), "same");
}

#[test]
fn gzip_zstd_and_plain_layers_are_told_by_content() {
    common::require_root!();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    check_form(gzip);
    check_form(zstd);
    check_form(<[u8]>::to_vec);
}

#[test]
fn entries_cannot_leave_the_layer() {
    common::require_root!();
    let outside = tempfile::tempdir().unwrap();
    let sentinel = outside.path().join("sentinel");
    fs::write(&sentinel, "untouched").unwrap();
    fs::set_permissions(&sentinel, fs::Permissions::from_mode(0o600)).unwrap();
    let out = outside.path().to_str().unwrap();
    let inside = out.trim_start_matches('/');
    for (what, layer) in [
        ("dot dot", Layer::new().file("../escape", "x")),
        ("inner dot dot", Layer::new().directory("a").file("a/../../escape", "x")),
        ("hard link outside", Layer::new().link(EntryType::Link, "h", &format!("{out}/sentinel"))),
        ("hard link dot dot", Layer::new().link(EntryType::Link, "h", "../../sentinel")),
        ("root replaced", Layer::new().link(EntryType::Symlink, ".", out)),
        ("root replaced by slash", Layer::new().link(EntryType::Symlink, "/", out)),
        ("whiteout of dot dot", Layer::new().file(".wh...", "")),
        ("device 0:0", Layer::new().add(Layer::header(EntryType::Char, "w", 0), b"")),
    ] {
        let error = Bench::new().refused(layer);
        assert!(!error.is_empty(), "{what}");
    }
    // A symlink out of the layer is legal content; what follows it must stay inside.
    let bench = Bench::new();
    let tree = bench
        .unpacked(
            Layer::new()
                .directory(inside)
                .link(EntryType::Symlink, "way", out)
                .file("way/sentinel", "attack")
                .link(EntryType::Symlink, "chmod", &format!("{out}/sentinel"))
                .file("chmod", "replaced"),
        )
        .unwrap();
    assert_eq!(fs::read_to_string(tree.join(inside).join("sentinel")).unwrap(), "attack");
    assert!(fs::symlink_metadata(tree.join("chmod")).unwrap().is_file());
    assert_eq!(fs::read_to_string(&sentinel).unwrap(), "untouched");
    assert_eq!(fs::metadata(&sentinel).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_pax_size_that_disagrees_with_the_header_smuggles_nothing() {
    common::require_root!();
    let hidden = Layer::new().file("smuggled", "x").finish();
    let content = &hidden[..1024];
    let mut header = Layer::header(EntryType::Regular, "carrier", 0);
    header.set_cksum();
    let mut archive = Layer::new().pax(&[("size", "1024")]).add(header, b"").finish();
    // After the header come the 1024 bytes that PAX speaks of, then the end.
    archive.truncate(archive.len() - 1024);
    archive.extend_from_slice(content);
    archive.extend_from_slice(&[0; 1024]);
    let bench = Bench::new();
    bench.write(&[archive], <[u8]>::to_vec);
    let (store, image) = bench.load().unwrap();
    if let Ok(layers) = store.layers(&image, &()) {
        assert!(!layers[0].join("smuggled").exists());
        assert_eq!(fs::metadata(layers[0].join("carrier")).unwrap().len(), 1024);
    }
}

#[test]
fn endless_headers_are_bounded() {
    common::require_root!();
    let size = 64 << 20;
    let header = Layer::header(EntryType::GNULongName, "././@LongLink", size);
    let layer = Layer::new().add(header, &vec![b'a'; size as usize]).file("f", "x");
    let error = Bench::new().refused(layer);
    assert!(error.contains("headers of more than"), "{error}");
}

#[test]
fn a_sparse_file_keeps_its_holes() {
    common::require_root!();
    if std::process::Command::new("tar").arg("--version").output().is_err() {
        common::skip("needs GNU tar");
        return;
    }
    for format in ["--format=gnu", "--format=posix"] {
        let source = tempfile::tempdir().unwrap();
        let file = fs::File::create(source.path().join("sparse")).unwrap();
        file.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"end", (64 << 20) - 3).unwrap();
        let output = std::process::Command::new("tar")
            .args(["-C", source.path().to_str().unwrap(), "--sparse", format, "-cf", "-", "sparse"])
            .output()
            .unwrap();
        assert!(output.stdout.len() < 1 << 20);
        let bench = Bench::new();
        bench.write(&[output.stdout], <[u8]>::to_vec);
        let (store, image) = bench.load().unwrap();
        let tree = store.layers(&image, &()).unwrap()[0].clone();
        let stat = fs::metadata(tree.join("sparse")).unwrap();
        assert_eq!(stat.len(), 64 << 20, "{format}");
        assert!(stat.blocks() < 2048, "{format}: {} blocks", stat.blocks());
        let mut end = [0; 3];
        let file = fs::File::open(tree.join("sparse")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut end, (64 << 20) - 3).unwrap();
        assert_eq!(&end, b"end");
    }
}

#[test]
fn a_damaged_layer_or_a_wrong_digest_is_told_and_leaves_nothing() {
    common::require_root!();
    let bench = Bench::new();
    let layer = Layer::new().file("f", "x").finish();
    bench.write(std::slice::from_ref(&layer), |bytes| [bytes, b"trailing"].concat());
    let (store, image) = bench.load().unwrap();
    let error = store.layers(&image, &()).unwrap_err().to_string();
    assert!(error.contains("was promised"), "{error}");

    let bench = Bench::new();
    bench.write(&[layer], <[u8]>::to_vec);
    for blob in fs::read_dir(bench.layout().join("blobs/sha256")).unwrap().flatten() {
        let mut bytes = fs::read(blob.path()).unwrap();
        bytes.push(b' ');
        fs::write(blob.path(), bytes).unwrap();
    }
    assert!(bench.load().err().unwrap().contains("was promised"));
    assert_eq!(fs::read_dir(bench.root().join("images/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn what_tar_readers_disagree_on_is_refused() {
    common::require_root!();
    let with_size = |kind, size: u64| Layer::header(kind, "odd", size);
    let block = [0u8; 512];
    for (what, layer) in [
        ("a directory with content", Layer::new().add(with_size(EntryType::Directory, 512), &block)),
        (
            "a hard link with content",
            Layer::new().file("f", "x").add(with_size(EntryType::Link, 512), &block),
        ),
        ("two sizes", Layer::new().pax(&[("size", "1"), ("size", "1")]).file("f", "x")),
        ("an odd size", Layer::new().pax(&[("size", "+1")]).file("f", "x")),
        ("two paths", Layer::new().pax(&[("path", "a"), ("path", "b")]).file("f", "x")),
    ] {
        assert!(!Bench::new().refused(layer).is_empty(), "{what}");
    }
    let bench = Bench::new();
    let tree = bench.unpacked(Layer::new().file("dd/", "")).unwrap();
    assert!(tree.join("dd").is_dir());
}

#[test]
fn a_hole_without_end_is_refused_at_once() {
    common::require_root!();
    let mut header = Layer::header(EntryType::GNUSparse, "hole", 0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.realsize = *b"\x80\0\0\0\x3f\xff\xff\xff\xff\xff\xff\xff";
    let error = Bench::new().refused(Layer::new().add(header, b""));
    assert!(error.contains("bomb") || error.contains("sparse"), "{error}");
}

#[test]
fn a_layer_that_is_repeated_is_mounted_once() {
    common::require_root!();
    let bench = Bench::new();
    let (one, two) = (Layer::new().file("f", "below").finish(), Layer::new().file("f", "above").finish());
    bench.write(&[one.clone(), two.clone(), one, two], <[u8]>::to_vec);
    let (store, image) = bench.load().unwrap();
    let layers = store.layers(&image, &()).unwrap();
    let (upper, work) = (bench.directory.path().join("upper"), bench.directory.path().join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let upper = Upper::Disk { upper: &upper, work: &work, volatile: false };
    let tree = Overlay { layers: &layers, upper, user_namespace: None }.mount().unwrap();
    let flags = rustix::fs::OFlags::RDONLY;
    let file = rustix::fs::openat(&tree, "f", flags, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(std::io::read_to_string(fs::File::from(file)).unwrap(), "above");
}

#[test]
fn a_layout_directory_cannot_point_outside_itself_nor_hang() {
    common::require_root!();
    let bench = Bench::new();
    bench.write(&[Layer::new().file("f", "x").finish()], <[u8]>::to_vec);
    let blobs = bench.layout().join("blobs/sha256");
    let largest =
        fs::read_dir(&blobs).unwrap().flatten().max_by_key(|blob| blob.metadata().unwrap().len()).unwrap();
    fs::remove_file(largest.path()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, largest.path(), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    assert!(bench.load().err().unwrap().contains("no regular file"));

    let bench = Bench::new();
    fs::create_dir(bench.layout()).unwrap();
    fs::write(bench.directory.path().join("secret"), "x").unwrap();
    for layer in ["../secret", "/etc/passwd"] {
        let manifest = json!([{ "Config": layer, "RepoTags": ["web:latest"], "Layers": [layer] }]);
        fs::write(bench.layout().join("manifest.json"), manifest.to_string()).unwrap();
        assert!(bench.load().is_err(), "{layer}");
        assert_eq!(fs::read_dir(bench.root().join("images/blobs/sha256")).unwrap().count(), 0);
    }
}
