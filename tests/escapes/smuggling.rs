//! Tar streams that readers understand differently: what GNU tar lists is what we unpack, or we refuse.

use crate::common::layer::{Dialect, Entry, layer};
use crate::common::{self, Call};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use wharf::image::{LayerLimits, WhiteoutForm, apply_layer};

/// Paths of all entries, and the sizes of files.
fn listing(top: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            found.insert(path.strip_prefix(top).unwrap().to_str().unwrap().to_owned(), size);
            if metadata.is_dir() {
                waiting.push(path);
            }
        }
    }
    found
}

/// What both make of a stream: GNU tar's tree, and ours unless refused.
fn both(stream: &[u8]) -> (BTreeMap<String, u64>, Option<BTreeMap<String, u64>>) {
    let directory = tempfile::tempdir().unwrap();
    let [archive, theirs, ours] = ["a.tar", "tar", "wharf"].map(|name| directory.path().join(name));
    std::fs::write(&archive, stream).unwrap();
    std::fs::create_dir(&theirs).unwrap();
    std::fs::create_dir(&ours).unwrap();
    Call::new("tar").args(["--extract", "--file"]).arg(&archive).arg("--directory").arg(&theirs).outcome();
    let root = File::open(&ours).unwrap();
    let applied = apply_layer(stream, root.as_fd(), WhiteoutForm::Overlay, LayerLimits::default());
    (listing(&theirs), applied.is_ok().then(|| listing(&ours)))
}

/// Fails if we unpack anything else than GNU tar does; tells whether we unpacked it.
#[track_caller]
fn check(what: &str, stream: &[u8]) -> bool {
    let (theirs, ours) = both(stream);
    if let Some(ours) = &ours {
        assert_eq!(ours, &theirs, "{what}: wharf unpacks the left, GNU tar the right");
    }
    ours.is_some()
}

/// A stream within a file: two headers, one of them with a content.
fn hidden() -> Vec<u8> {
    let mut bytes = layer([Entry::file("smuggled", "x"), Entry::file("smuggled2", "")]);
    bytes.truncate(1536);
    bytes
}

/// Puts `hidden` where the entry's content would be; the header and records say what they like.
fn stream(carrier: &Entry) -> Vec<u8> {
    let mut bytes = layer([carrier.clone()]);
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(hidden());
    bytes.extend(layer([Entry::file("after", "y")]));
    bytes
}

#[test]
fn cve_2025_62518_sizes_in_header_and_record_that_disagree_smuggle_nothing() {
    common::require_root!();
    common::require!(common::program_exists("tar"), "needs GNU tar");
    let records = [
        "",
        "0",
        "1",
        "511",
        "512",
        "1024",
        "1536",
        "00512",
        "+512",
        "-512",
        " 512",
        "512 ",
        "0x200",
        "5e2",
        "18446744073709551615",
        "99999999999999999999",
    ];
    let mut unpacked = 0;
    for kind in [b'0', 0, b'7', b'5', b'1', b'2', b'6'] {
        for header in [0, 1, 512, 1024, 1536] {
            for record in std::iter::once(None).chain(records.iter().map(Some)) {
                let entry =
                    Entry { link: b"target".to_vec(), ..Entry::new(kind, "carrier") }.claiming(header);
                let entry = match record {
                    Some(record) => entry.pax("size", record),
                    None => entry,
                };
                let what = format!("kind {:?}, header {header}, record {record:?}", char::from(kind));
                unpacked += u32::from(check(&what, &stream(&entry)));
            }
        }
    }
    assert!(unpacked > 20, "{unpacked}");
}

#[test]
fn cve_2026_33055_records_that_stand_twice_or_before_other_headers_mislead_nobody() {
    common::require_root!();
    common::require!(common::program_exists("tar"), "needs GNU tar");
    let size = |value: &str| crate::common::layer::pax_record("size", value.as_bytes());
    let header = |kind: u8, content: Vec<u8>| Entry { content, ..Entry::new(kind, "header") };
    let long =
        || Entry { content: b"long\0".to_vec(), ..Entry::new(b'L', "././@LongLink") }.dialect(Dialect::Gnu);
    let carrier = || Entry::file("carrier", "").claiming(0);
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("size twice", vec![carrier().pax("size", "1536").pax("size", "0")]),
        ("size twice the other way", vec![carrier().pax("size", "0").pax("size", "1536")]),
        ("two extended headers", vec![header(b'x', size("1536")), header(b'x', size("0")), carrier()]),
        ("a long name between", vec![header(b'x', size("1536")), long(), carrier()]),
        ("a long name before", vec![long(), header(b'x', size("1536")), carrier()]),
        ("two long names", vec![long(), long(), carrier()]),
        ("a global header between", vec![header(b'x', size("1536")), header(b'g', size("0")), carrier()]),
        ("a global size", vec![header(b'g', size("1536")), carrier()]),
        ("a global path", vec![header(b'g', crate::common::layer::pax_record("path", b"other")), carrier()]),
        ("size of a long name", vec![header(b'x', size("5")), long(), carrier().claiming(1536)]),
        ("records without length", vec![header(b'x', b"size=1536\n".to_vec()), carrier()]),
        ("a record that is too long", vec![header(b'x', b"99 size=1536\n".to_vec()), carrier()]),
        ("a record that is too short", vec![header(b'x', b"5 size=1536\n".to_vec()), carrier()]),
        ("a record in a record", vec![carrier().pax("comment", b"\n13 size=1536\n")]),
        ("a record in an attribute", vec![carrier().pax("SCHILY.xattr.user.a", b"x\n13 size=1536\n")]),
        ("a record after an empty line", vec![header(b'x', [b"\n", &size("1536")[..]].concat()), carrier()]),
        ("a record after a NUL", vec![header(b'x', [b"\0", &size("1536")[..]].concat()), carrier()]),
        ("a sparse size", vec![carrier().pax("GNU.sparse.realsize", "1536")]),
        ("a sparse name", vec![carrier().claiming(1536).pax("GNU.sparse.name", "other")]),
        ("solaris's header", vec![header(b'X', size("1536")), carrier()]),
    ];
    for (what, entries) in cases {
        let mut bytes = layer(entries);
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(hidden());
        bytes.extend(layer([Entry::file("after", "y")]));
        check(what, &bytes);
    }
}

#[test]
fn cve_2025_62518_numbers_that_readers_parse_differently_smuggle_nothing() {
    common::require_root!();
    common::require!(common::program_exists("tar"), "needs GNU tar");
    let fields: [&[u8]; 14] = [
        b"00000003000\0",
        b"3000\0",
        b"       3000\0",
        b"3000       \0",
        b"00000003000 ",
        b"+0000003000\0",
        b"-0000003000\0",
        b"0x000000600\0",
        b"3000\x003000\0\0\0",
        b"\x80\0\0\0\0\0\0\0\0\0\x06\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfa\0",
        b"\0\0\0\0\0\0\0\0\0\0\0\0",
        b"           \0",
        b"000000030008",
    ];
    for field in fields {
        let mut bytes = stream(&Entry::file("carrier", ""));
        bytes[124..124 + field.len()].copy_from_slice(field);
        let header: [u8; 512] = bytes[..512].try_into().unwrap();
        bytes[..512].copy_from_slice(&crate::common::layer::checksummed(header));
        check(&format!("size field {:?}", String::from_utf8_lossy(field)), &bytes);
    }
}

#[test]
fn headers_that_are_damaged_end_the_layer_or_are_refused() {
    common::require_root!();
    common::require!(common::program_exists("tar"), "needs GNU tar");
    let good = layer([Entry::file("a", "1"), Entry::file("b", "2")]);
    // A byte of the checksum's own padding may be anything; all other changes end its fitting.
    let unpacked = |at: &usize| {
        let mut bytes = good.clone();
        bytes[*at] ^= 0x41;
        check(&format!("byte {at} changed"), &bytes)
    };
    let survived = (0..512).step_by(3).chain(1024..1536).filter(unpacked).count();
    assert!(survived <= 4, "{survived}");
}
