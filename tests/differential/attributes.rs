//! Owners, modes, times and extended attributes.
use crate::common::layer::{Dialect, Entry};
use crate::formats::Source;
use crate::image::{Image, require_tools};
use rustix::fs::FileType;

/// A version 2 capability set, cap_net_raw effective and permitted: linux/capability.h, `vfs_cap_data`.
const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn setuid_setgid_and_sticky_bits_survive_the_change_of_owner() {
    require_tools!("umoci", "tar");
    let source = Source::new("modes");
    for (count, mode) in [0o4755, 0o2755, 0o6711, 0o1777, 0o7777, 0o000, 0o444, 0o4000].iter().enumerate() {
        source.file(&format!("file{count}"), "x").owned(&format!("file{count}"), 1000, 50, *mode);
        std::fs::create_dir(source.path(&format!("dir{count}"))).unwrap();
        source.owned(&format!("dir{count}"), 1000, 50, *mode);
    }
    source.node("fifo", FileType::Fifo, (0, 0)).owned("fifo", 7, 8, 0o7777);
    for format in ["v7", "gnu", "posix"] {
        let options = [&format!("--format={format}"), "--mtime=@9"];
        let options =
            if format == "v7" { vec![options[0], options[1], "--exclude=./fifo"] } else { options.to_vec() };
        let image = Image::new("modes").raw(&source.tar(&options));
        image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
    }
}

#[test]
fn owners_beyond_what_octal_holds_come_in_base_256_and_in_pax_records() {
    require_tools!("umoci", "tar");
    let source = Source::new("owners");
    for (count, id) in [0, 65_534, 2_097_151, 2_097_152, 4_294_967_294].iter().enumerate() {
        source.file(&format!("{count}"), "x").owned(&format!("{count}"), *id, *id, 0o644);
    }
    for format in ["gnu", "posix"] {
        let image = Image::new("owners").raw(&source.tar(&[&format!("--format={format}"), "--mtime=@9"]));
        let tree = image.assert_as_umoci();
        tree.assert_same("umoci", &image.by_tar(), "GNU tar");
        assert_eq!(tree.get("4").owner, (4_294_967_294, 4_294_967_294));
    }
}

#[test]
fn an_owner_that_linux_has_no_number_for_is_refused() {
    require_tools!("umoci");
    for id in [u64::from(u32::MAX), 1 << 32, 1 << 40] {
        let image =
            Image::new("noowner").layer([Entry::file("file", "1").owner(id, 0).dialect(Dialect::Gnu)]);
        image.refused_by_wharf(&["file", "owner"]);
    }
}

#[test]
fn times_before_1970_after_2038_and_within_the_second_are_kept() {
    require_tools!("umoci", "tar");
    let source = Source::new("times");
    let times = [
        (0, 0),
        (-1, 0),
        (-1_000_000_000, 0),
        (1, 1),
        (-2, 750_000_000),
        (-1, 999_999_999),
        (4_102_444_800, 5),
        (8_589_934_591, 0),
        (8_589_934_592, 0),
    ];
    let named = |count: usize| format!("{count}");
    for (count, (seconds, nanoseconds)) in times.iter().enumerate() {
        source.file(&named(count), "x").dated(&named(count), *seconds, *nanoseconds);
    }
    source.dated("", 9, 0);
    // GNU's own formats have whole seconds only.
    for format in ["gnu", "oldgnu", "posix"] {
        let image = Image::new("times").raw(&source.tar(&[&format!("--format={format}")]));
        // (What is later than now is the time of unpacking to this suite, for the overlay and for all.)
        image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
    }
}

#[test]
fn directories_keep_their_times_whatever_is_put_into_them() {
    require_tools!("umoci", "tar");
    let source = Source::new("dirtimes");
    source.file("a/b/c/file", "x").symlink("a/b/soft", "c").link("a/hard", "a/b/c/file");
    for (count, name) in ["a/b/c", "a/b", "a", ""].iter().enumerate() {
        source.dated(name, 1000 + count as i64, 123_456_789);
    }
    let image = Image::new("dirtimes").raw(&source.tar(&["--format=posix"]));
    image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
}

#[test]
fn extended_attributes_of_files_and_directories_are_kept() {
    require_tools!("umoci", "tar");
    let source = Source::new("xattrs");
    source
        .file("d/file", "x")
        .xattr("d/file", "user.note", b"hello")
        .xattr("d/file", "user.binary", b"\0=\xff")
        .xattr("d/file", "trusted.note", b"root's")
        .xattr("d", "user.directory", b"1")
        .owned("d/file", 5, 6, 0o755)
        .xattr("d/file", "security.capability", &CAP_NET_RAW)
        .symlink("soft", "d/file")
        .xattr("soft", "trusted.link", b"its own")
        .link("hard", "d/file");
    let options = ["--format=posix", "--mtime=@9", "--xattrs", "--xattrs-include=*"];
    let image = Image::new("xattrs").raw(&source.tar(&options));
    let tree = image.by_tar();
    assert_eq!(tree.get("d/file").xattrs.len(), 4, "{tree:?}");
    assert_eq!(tree.get("soft").xattrs.len(), 1);
    image.assert_as(&tree, "GNU tar");
    tree.assert_same("GNU tar", &image.by_umoci(), "umoci");
}

#[test]
fn an_attribute_without_a_value_is_kept() {
    require_tools!("umoci", "tar");
    // Go's reader, and with it umoci, takes a record without a value for one that takes a value back.
    let image = Image::new("emptyxattr").layer([Entry::file("file", "1").xattr("user.empty", "")]);
    assert_eq!(image.assert_as_tar().get("file").xattrs.len(), 1);
}

#[test]
fn attribute_values_of_any_bytes_are_kept() {
    require_tools!("umoci", "tar");
    // A capability set is binary, and bit 10 of it alone makes a byte that is a line break.
    let mut capabilities = CAP_NET_RAW;
    capabilities[4] = b'\n';
    let image = Image::new("xattrbytes").layer([
        Entry::file("file", "1").xattr("user.binary", b"\n\n=\n7 a=b\n").xattr("user.size", "\n11 size=99\n"),
        Entry::file("capable", "2").mode(0o755).xattr("security.capability", capabilities),
    ]);
    image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
}

#[test]
fn attributes_that_the_host_s_kernel_would_obey_are_dropped() {
    require_tools!("umoci");
    // umoci 0.4.7 writes them as they come, which would let an image redirect an overlay's lookups.
    let entry = Entry::directory("d")
        .xattr("trusted.overlay.opaque", "y")
        .xattr("trusted.overlay.redirect", "/etc")
        .xattr("user.overlay.opaque", "y")
        .xattr("security.selinux", "system_u:object_r:shadow_t:s0")
        .xattr("user.kept", "1");
    let image =
        Image::new("overlay").layer([Entry::directory("d"), Entry::file("d/below", "1")]).layer([entry]);
    for tree in [image.by_wharf(), image.by_overlay()] {
        assert_eq!(tree.names(), ["d", "d/below"]);
        let xattrs: Vec<_> = tree.get("d").xattrs.keys().collect();
        assert_eq!(xattrs, ["user.kept"]);
    }
}

#[test]
fn attributes_of_a_large_value_are_kept() {
    require_tools!("umoci", "tar");
    // ext4 gives all attributes of an inode one block.
    let image =
        Image::new("largexattr").layer([Entry::file("file", "1").xattr("user.large", vec![b'v'; 3000])]);
    image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
}
