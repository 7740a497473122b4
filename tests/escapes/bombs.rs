//! Images that are small until they are unpacked. Every attempt runs with little memory to spare, so that one
//! that gathers what it reads fails otherwise than it should.

use crate::common::layer::{Entry, LONG_AGO, checksummed, layer, pax_record};
use crate::common::{self, Call};
use crate::hostile_image::HostileImage;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::Digest as _;
use std::io::Write;

/// Kilobytes of memory that `wharf` may have of its own: ulimit -d, setrlimit(2) RLIMIT_DATA.
const MEMORY_KIB: u32 = 160 << 10;
/// What the bombs would unpack to.
const LARGE: u64 = 1 << 30;

/// The call, short of memory.
fn frugal(mut call: Call) -> Call {
    let command = call.command();
    let words =
        std::iter::once(command.get_program()).chain(command.get_args()).map(std::ffi::OsStr::to_owned);
    let words: Vec<_> = words.collect();
    let script = format!("ulimit -d {MEMORY_KIB}; exec \"$@\"");
    Call::new("sh").args(["-c", &script, "sh"]).args(words)
}

#[track_caller]
fn refused(image: &HostileImage, options: &[&str], texts: &[&str]) {
    let loaded = frugal(image.load()).outcome();
    if loaded.success() {
        frugal(image.unpack(options)).fails_with(texts);
        frugal(image.run(options, &[])).fails_with(texts);
    } else {
        assert!(texts.iter().all(|text| loaded.stderr.contains(text)), "{loaded}");
    }
    assert_eq!(std::fs::read_dir(image.scratch.root().join("layers/sha256")).unwrap().count(), 0);
}

/// A file of zeros as a tar stream, into a compressor.
fn zeros(mut out: impl Write, size: u64) {
    out.write_all(&Entry::file("zeros", "").claiming(size).header()).unwrap();
    let block = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        out.write_all(&block).unwrap();
    }
    out.write_all(&[0; 1024]).unwrap();
}

fn gzip(write: impl FnOnce(&mut GzEncoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    write(&mut encoder);
    encoder.finish().unwrap()
}

fn zstd(write: impl FnOnce(&mut zstd::stream::write::Encoder<'_, Vec<u8>>)) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    write(&mut encoder);
    encoder.finish().unwrap()
}

/// Of a layer that is never read to its end.
fn any_digest() -> String {
    format!("sha256:{}", "1".repeat(64))
}

#[test]
fn cve_2017_14992_a_layer_of_zeros_is_refused_at_its_limit() {
    common::require_root!();
    for (name, blob) in [("gzip", gzip(|out| zeros(out, LARGE))), ("zstd", zstd(|out| zeros(out, LARGE)))] {
        assert!(blob.len() < 16 << 20, "{name}: {} bytes", blob.len());
        let mut image = HostileImage::new(name);
        image.layout.compressed(any_digest(), blob);
        refused(
            &image,
            &["--max-layer-size", "64M"],
            &["67108864 bytes", "decompression bomb", "--max-layer-size"],
        );
    }
}

#[test]
fn cve_2017_14992_compression_inside_compression_is_content_and_no_layer() {
    common::require_root!();
    let inner = gzip(|out| zeros(out, 64 << 20));
    let mut image = HostileImage::new("nested");
    image.layout.compressed(any_digest(), gzip(|out| out.write_all(&inner).unwrap()));
    refused(&image, &[], &["layer"]);
    // An archive in an archive is no image either.
    let scratch = &image.scratch;
    let archive = scratch.path().join("nested.tar.gz");
    std::fs::write(&archive, gzip(|out| out.write_all(&gzip(|out| zeros(out, 64 << 20))).unwrap())).unwrap();
    frugal(scratch.wharf(["load"]).arg(&archive)).fails_with(&["nested.tar.gz"]);
}

#[test]
fn cve_2023_25153_an_archive_whose_documents_are_endless_is_refused() {
    common::require_root!();
    let image = HostileImage::new("documents");
    for name in ["manifest.json", "index.json", "oci-layout"] {
        let archive = image.scratch.path().join(format!("{name}.tar.gz"));
        let mut header = Entry::file(name, "").claiming(256 << 20).header();
        header = checksummed(header);
        let bytes = gzip(|out| {
            out.write_all(&header).unwrap();
            for _ in 0..256 {
                out.write_all(&vec![b' '; 1 << 20]).unwrap();
            }
            out.write_all(&[0; 1024]).unwrap();
        });
        std::fs::write(&archive, bytes).unwrap();
        let outcome = frugal(image.scratch.wharf(["load"]).arg(&archive)).outcome();
        assert_eq!(outcome.code, Some(125), "{name}\n{outcome}");
        let images = image.scratch.root().join("images");
        let left: Vec<_> =
            std::fs::read_dir(&images).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".staging")), "{left:?}");
    }
}

#[test]
fn cve_2017_14992_entries_without_number_are_refused_at_their_limit() {
    common::require_root!();
    let image = HostileImage::new("entries");
    let mut image = image;
    let header = Entry::file("same", "").header();
    let blob = gzip(|out| {
        for _ in 0..200_000 {
            out.write_all(&header).unwrap();
        }
        out.write_all(&[0; 1024]).unwrap();
    });
    image.layout.compressed(any_digest(), blob);
    refused(&image, &["--max-layer-entries", "1000"], &["has more than 1000 entries", "--max-layer-entries"]);
}

#[test]
fn cve_2017_14992_holes_count_as_what_they_stand_for() {
    common::require_root!();
    let text = LARGE.to_string();
    let hole = |version: &[(&str, &str)]| {
        let entry = Entry::file("hole", "").pax("GNU.sparse.size", &text).pax("GNU.sparse.realsize", &text);
        version.iter().fold(entry, |entry, (key, value)| entry.pax(key, value))
    };
    let one = Entry {
        content: [b"0\n".to_vec(), vec![0; 510]].concat(),
        ..hole(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")])
    };
    let cases = [
        hole(&[("GNU.sparse.map", "0,0")]),
        hole(&[("GNU.sparse.numblocks", "1"), ("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "0")]),
        one,
    ];
    for entry in cases {
        let image = HostileImage::new("holes").layer([entry]);
        refused(&image, &["--max-layer-size", "64M"], &["67108864 bytes", "--max-layer-size"]);
    }
}

#[test]
fn cve_2017_14992_a_sparse_map_without_end_is_refused() {
    common::require_root!();
    let mut content = b"99999999999\n".to_vec();
    content.resize(64 << 20, b'\n');
    let entry = Entry::file("map", content)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.realsize", "1");
    refused(&HostileImage::new("map").layer([entry]), &[], &["map", "sparse map without end"]);
    let map = "0,0,".repeat(400_000);
    let entry =
        Entry::file("map", "").pax("GNU.sparse.size", "1").pax("GNU.sparse.map", &map[..map.len() - 1]);
    let image = HostileImage::new("map2").layer([entry]);
    let outcome = frugal(image.load()).outcome();
    assert!(outcome.success(), "{outcome}");
    let outcome = frugal(image.unpack(&[])).outcome();
    assert!(outcome.code.is_some_and(|code| code == 0 || code == 125), "{outcome}");
}

#[test]
fn cve_2017_14992_headers_without_end_are_refused() {
    common::require_root!();
    let long = |kind: u8| {
        let header = Entry::new(kind, "header").claiming(LARGE).mtime(LONG_AGO).header();
        gzip(|out| {
            out.write_all(&header).unwrap();
            for _ in 0..LARGE >> 20 {
                out.write_all(&vec![b'a'; 1 << 20]).unwrap();
            }
        })
    };
    for kind in [b'L', b'K', b'x', b'g'] {
        let mut image = HostileImage::new("headers");
        image.layout.compressed(any_digest(), long(kind));
        refused(&image, &[], &["headers of more than"]);
    }
    // Small ones in endless number, before an entry that never comes.
    let record = pax_record("comment", b"x");
    let one = Entry { content: record, ..Entry::new(b'g', "header") };
    let block = layer([one]);
    let mut image = HostileImage::new("globals");
    let blob = gzip(|out| {
        for _ in 0..200_000 {
            out.write_all(&block[..1024]).unwrap();
        }
    });
    image.layout.compressed(any_digest(), blob);
    refused(&image, &["--max-layer-entries", "1000"], &["headers of more than"]);
}

#[test]
fn cve_2017_14992_records_of_many_directories_are_not_gathered() {
    common::require_root!();
    let record = "0,0,".repeat(1 << 18);
    let entry = |count: u32| {
        let directory = Entry::directory(format!("d{count}"));
        layer([directory.pax("GNU.sparse.map", &record).pax("SCHILY.xattr.user.x", "1")])
    };
    let mut image = HostileImage::new("records");
    let mut hasher = sha2::Sha256::new();
    let blob = gzip(|out| {
        for count in 0..300 {
            let bytes = entry(count);
            let bytes = &bytes[..bytes.len() - 1024];
            hasher.update(bytes);
            out.write_all(bytes).unwrap();
        }
    });
    image.layout.compressed(format!("sha256:{}", hex::encode(hasher.finalize())), blob);
    frugal(image.load()).ok();
    frugal(image.unpack(&[])).ok();
}

#[test]
fn cve_2021_20291_marks_repeated_without_end_cost_no_more_than_other_entries() {
    common::require_root!();
    let mut entries = vec![Entry::directory("d")];
    entries.extend((0..3000).map(|count| Entry::file(format!("d/{count}"), "")));
    entries.extend((0..30_000).flat_map(|_| [Entry::opaque("d"), Entry::whiteout("d")]));
    // Were the directory looked through for each, it would take far longer than the call may.
    let image = HostileImage::new("marks").layer([Entry::directory("d")]).layer(entries);
    frugal(image.load()).ok();
    frugal(image.unpack(&[])).ok();
    let rootfs = image.scratch.path().join("bundle/rootfs/d");
    assert_eq!(std::fs::read_dir(rootfs).unwrap().count(), 3000);
}

#[test]
fn limits_leave_alone_what_keeps_to_them() {
    common::require_root!();
    let image =
        HostileImage::new("within").layer([Entry::file("file", vec![1; 1 << 20]), Entry::directory("d")]);
    image.load().ok();
    frugal(image.unpack(&["--max-layer-size", "2M", "--max-layer-entries", "2"])).ok();
    image.run(&["--max-layer-size", "1M"], &[]).fails_with(&["1048576 bytes", "--max-layer-size"]);
    image.run(&["--max-layer-entries", "1"], &[]).fails_with(&["more than 1 entries"]);
    for text in ["lots", "", "1X"] {
        let outcome = image.unpack(&["--max-layer-size", text]).outcome();
        assert!(!outcome.success() && outcome.stderr.contains("size"), "{outcome}");
    }
}
