//! Archives made by hand, each with something that real ones have.
use crate::common::{self, Scratch};
use crate::{config_of, gzip, load, names, references, runs, sha256, shell_layer, tar_of, zstd};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A docker-archive of two images over one base. The second names the base by a link, as docker save does.
fn shared() -> Vec<u8> {
    let base = shell_layer();
    let (one, two) = (tar_of(&[("one", b"first")]), tar_of(&[("two", b"second")]));
    let (config_one, config_two) = (config_of(&[&base, &one]), config_of(&[&base, &two]));
    let manifest = json!([
        {"Config": "one.json", "RepoTags": ["one:1", "uno:1"], "Layers": ["a/layer.tar", "b/layer.tar"]},
        {"Config": "two.json", "RepoTags": ["two:1"], "Layers": ["c/layer.tar", "d/layer.tar"]},
    ]);
    let files: [(&str, &[u8]); 5] = [
        ("a/layer.tar", &base),
        ("b/layer.tar", &one),
        ("d/layer.tar", &two),
        ("one.json", &config_one),
        ("two.json", &config_two),
    ];
    let archive = tar_of(&files);
    let mut builder = tar::Builder::new(archive[..archive.len() - 1024].to_vec());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    builder.append_link(&mut link, "c/layer.tar", "../a/layer.tar").unwrap();
    let mut header = tar::Header::new_ustar();
    let manifest = manifest.to_string().into_bytes();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "manifest.json", &*manifest).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn a_docker_archive_of_several_images_that_share_layers_loads_in_every_compression_from_file_and_pipe() {
    common::require_root!();
    let archive = shared();
    for (form, bytes) in [("plain", archive.clone()), ("gzip", gzip(&archive)), ("zstd", zstd(&archive))] {
        let (file, pipe) = (Scratch::new("file"), Scratch::new("pipe"));
        let path = file.path().join("archive");
        std::fs::write(&path, &bytes).unwrap();
        file.wharf(["load", "--input"]).arg(&path).ok();
        pipe.wharf(["load"]).stdin(bytes).ok();
        for scratch in [&file, &pipe] {
            assert_eq!(references(scratch), ["one:1", "two:1", "uno:1"], "{form}");
            // The base once, two layers, two configs, two manifests.
            assert_eq!(names(&scratch.root().join("images/blobs/sha256")).len(), 7, "{form}");
        }
        let read = |image: &str, file: &str| {
            pipe.wharf(["run", "--rm", "--network", "none", image, "cat", file]).ok().stdout
        };
        assert_eq!([read("uno:1", "/one"), read("two:1", "/two")], ["first", "second"], "{form}");
    }
}

#[test]
fn an_archive_is_loaded_from_where_its_name_is_given_once() {
    common::require_root!();
    let scratch = Scratch::new("twice");
    scratch.wharf(["load", "--input", "a", "b"]).fails_with(&["--input", "cannot be used with"]);
}

#[test]
fn a_terminal_is_no_archive() {
    common::require_root!();
    common::require!(common::program_exists("script"), "needs script(1)");
    let scratch = Scratch::new("tty");
    for command in [&["load"][..], &["load", "-"], &["import", "-", "x"]] {
        let outcome = scratch.wharf(command).in_terminal(24, 80).outcome();
        assert_eq!(outcome.code, Some(125), "{outcome}");
        assert!(outcome.stdout.contains("standard input is a terminal"), "{outcome}");
    }
}

/// Writes a layout of images, each the bytes of a manifest and of its blobs, named by annotations.
fn layout(directory: &Path, images: &[(Value, Vec<&[u8]>, Value)]) -> PathBuf {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let keep = |bytes: &[u8]| std::fs::write(blobs.join(&sha256(bytes)[7..]), bytes).unwrap();
    let mut entries = Vec::new();
    for (manifest, content, annotations) in images {
        let bytes = manifest.to_string().into_bytes();
        keep(&bytes);
        content.iter().for_each(|bytes| keep(bytes));
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &bytes);
        if annotations.is_object() {
            entry["annotations"] = annotations.clone();
        }
        entries.push(entry);
    }
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": entries});
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    directory.to_owned()
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()})
}

fn manifest(config: &[u8], layer: &Value) -> Value {
    let config = descriptor("application/vnd.oci.image.config.v1+json", config);
    json!({"schemaVersion": 2, "config": config, "layers": [layer]})
}

/// RFC 8878 3.1.2
fn skippable_frame(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&0x184d_2a50_u32.to_le_bytes()[..], &length, content].concat()
}

#[test]
fn a_zstd_chunked_layer_is_read_as_the_zstd_that_it_is() {
    common::require_root!();
    let scratch = Scratch::new("chunked");
    let plain = shell_layer();
    // A frame for each chunk; then, where plain readers skip them, the table of contents and its footer.
    let mut layer: Vec<u8> = plain.chunks(500_000).flat_map(zstd).collect();
    let table = zstd(br#"{"version":1,"entries":[]}"#);
    let (position, length) = (layer.len() + 8, table.len());
    layer.extend(skippable_frame(&table));
    layer.extend(skippable_frame(&[b"GNUlInUx", &[0; 56][..]].concat()));
    let mut entry = descriptor("application/vnd.oci.image.layer.v1.tar+zstd", &layer);
    entry["annotations"] = json!({
        "io.github.containers.zstd-chunked.manifest-checksum": sha256(&table),
        "io.github.containers.zstd-chunked.manifest-position": format!("{position}:{length}:26:1"),
    });
    let config = config_of(&[&plain]);
    let name = json!({"org.opencontainers.image.ref.name": "chunked:1"});
    let images = [(manifest(&config, &entry), vec![&config[..], &layer], name)];
    let directory = layout(&scratch.path().join("layout"), &images);
    load(&scratch, &directory);
    runs(&scratch, "chunked:1");
    // It is saved as it came, and unpacked where no other form is known.
    let (archive, docker) = (scratch.path().join("a.tar"), scratch.path().join("d.tar"));
    scratch.wharf(["save", "chunked:1", "--output"]).arg(&archive).ok();
    scratch.wharf(["save", "chunked:1", "--format", "docker-archive", "--output"]).arg(&docker).ok();
    for path in [archive, docker] {
        let there = Scratch::new("there");
        load(&there, &path);
        runs(&there, "chunked:1");
    }
}

#[test]
fn images_without_a_name_load_beside_others_and_are_known_by_their_digest() {
    common::require_root!();
    let scratch = Scratch::new("unnamed");
    let layers = [tar_of(&[("a", b"1")]), tar_of(&[("b", b"2")]), tar_of(&[("c", b"3")])];
    let configs: Vec<Vec<u8>> = layers.iter().map(|layer| config_of(&[layer])).collect();
    let image = |at: usize, note: Value| {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar", &layers[at]);
        (manifest(&configs[at], &layer), vec![&configs[at][..], &layers[at]], note)
    };
    let name = json!({"io.containerd.image.name": "docker.io/library/named:1"});
    let images = [image(0, name), image(1, Value::Null), image(2, Value::Null)];
    load(&scratch, &layout(&scratch.path().join("layout"), &images));
    let digests = [1, 2].map(|at| sha256(images[at].0.to_string().as_bytes()));
    let mut expected = vec!["named:1".to_owned()];
    expected.extend(digests);
    expected.sort();
    assert_eq!(references(&scratch), expected);
    // One alone has the name of its file, as before.
    let alone = Scratch::new("alone");
    load(&alone, &layout(&alone.path().join("only"), &images[1..2]));
    assert_eq!(references(&alone), ["only:latest"]);
}
