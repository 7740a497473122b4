//! Names that are long, odd or spelled in a roundabout way.
use crate::common::layer::{Dialect, Entry};
use crate::formats::{Source, long};
use crate::image::{Image, require_tools};

#[test]
fn long_names_and_link_targets_come_in_every_format_that_has_them() {
    require_tools!("umoci", "tar");
    // 100 bytes is what a header holds, 256 what ustar's two fields do.
    for format in ["oldgnu", "gnu", "pax", "posix"] {
        let source = Source::new("long");
        for path in [long(1, 99), long(1, 100), long(1, 101), long(1, 250), long(2, 127), long(4, 200)] {
            let path = format!("{}/{path}", path.len());
            source.file(&format!("{path}.d/file"), "1".repeat(path.len()));
            source.link(&format!("{path}.d/hard"), &format!("{path}.d/file"));
            source.symlink(&format!("{path}.d/soft"), &path);
        }
        let image = Image::new("long").raw(&source.tar(&[&format!("--format={format}"), "--mtime=@9"]));
        image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
    }
}

#[test]
fn ustar_names_come_in_two_parts() {
    require_tools!("umoci", "tar");
    let source = Source::new("prefix");
    source.file(&format!("{}/{}", long(2, 70), long(1, 95)), "1");
    source.file(&format!("{}/x", long(1, 95)), "2");
    let image = Image::new("prefix").raw(&source.tar(&["--format=ustar", "--mtime=@9"]));
    image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
}

#[test]
fn names_of_any_bytes_are_kept() {
    require_tools!("umoci", "tar");
    let names: [&[u8]; 9] = [
        b"with space",
        b"line\nbreak",
        b"tab\t",
        b"back\\slash",
        b"quote'\"",
        "\u{fc}ml\u{e4}ut".as_bytes(),
        b"\xff\xfe not UTF-8",
        b"-dash",
        b"...",
    ];
    for dialect in [Dialect::Ustar, Dialect::Gnu] {
        let entries = names.map(|name| Entry::file(name, name).dialect(dialect));
        Image::new("bytes").layer(entries).assert_as_umoci();
    }
}

#[test]
fn names_of_any_bytes_are_kept_in_pax_records() {
    require_tools!("umoci", "tar");
    // A record's length says where it ends, not a line break: pax(1), "pax Extended Header".
    let names: [&[u8]; 4] = [b"\xff\xfe not UTF-8", b"a=b", b"line\nbreak", b"\n11 size=99\n"];
    let entries = names.map(|name| Entry::file("placeholder", "x").pax("path", name));
    let image = Image::new("paxbytes").layer(entries);
    let tree = image.by_tar();
    assert_eq!(tree.0.len(), names.len() + 1);
    image.assert_as(&tree, "GNU tar");
}

#[test]
fn roundabout_spellings_of_a_path_are_the_same_path() {
    require_tools!("umoci", "tar");
    let image = Image::new("spelling").layer([
        Entry::directory("./"),
        Entry::directory("./a/"),
        Entry::file("a//b", "1"),
        Entry::file("./a/./c", "2"),
        Entry::directory("a///d///").mode(0o700),
        Entry::hard_link("./e", "./a/.//b"),
        Entry::file("a/b", "replaced"),
    ]);
    let tree = image.assert_as_umoci();
    assert_eq!(tree.names(), ["a", "a/b", "a/c", "a/d", "e"]);
}

#[test]
fn absolute_names_begin_at_the_root_of_the_image() {
    require_tools!("umoci", "tar");
    let image = Image::new("absolute").layer([
        Entry::directory("/wharf-absolute"),
        Entry::file("/wharf-absolute/file", "1"),
        Entry::hard_link("/wharf-absolute/hard", "/wharf-absolute/file"),
        Entry::symlink("/wharf-absolute/soft", "/wharf-absolute/file"),
    ]);
    image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
    assert!(!std::path::Path::new("/wharf-absolute").exists());
}

#[test]
fn a_pax_record_overrides_the_header_and_the_last_gnu_name_counts() {
    require_tools!("umoci", "tar");
    let image = Image::new("override").layer([
        Entry::file("header", "1").pax("path", "record").pax("uid", "70000").pax("gid", "70001"),
        Entry::symlink("link", "header").pax("linkpath", "record"),
        Entry::file("dated", "2").pax("mtime", "12.25").pax("atime", "13").pax("ctime", "14"),
        Entry::file("named", "3").pax("uname", "root").pax("gname", "nobody").owner(5, 6),
    ]);
    let tree = image.assert_as_umoci();
    assert_eq!(tree.get("record").owner, (70_000, 70_001));
    assert_eq!(tree.get("named").owner, (5, 6));
}

#[test]
fn an_entry_without_a_name_is_the_root_or_refused() {
    require_tools!("umoci");
    // umoci cleans the empty name to the root too, and then replaces a root that is no directory.
    Image::new("nameless").layer([Entry::directory("").mode(0o711)]).assert_as_umoci();
    Image::new("nameless2").layer([Entry::file("", "x")]).refused_by_wharf(&["is the root of the layer"]);
}

#[test]
fn a_name_longer_than_a_file_system_takes_is_told() {
    require_tools!("umoci");
    let image = Image::new("toolong").layer([Entry::file("x".repeat(256), "1")]);
    image.refused_by_umoci();
    // The C library's words.
    let reason = if cfg!(target_env = "musl") { "Filename too long" } else { "File name too long" };
    image.refused_by_wharf(&["xxx", reason]);
}
