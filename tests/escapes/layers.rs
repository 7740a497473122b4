//! Layers that reach for what is outside of their tree.

use crate::common;
use crate::common::layer::Entry;
use crate::hostile_image::HostileImage;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn cve_2021_29136_a_root_that_is_no_directory_is_refused() {
    common::require_root!();
    for name in [".", "/", "./", "//", "", "./.", "/./"] {
        let image = HostileImage::new("root");
        let entry = Entry::symlink(name, image.sentinel.arg());
        let image = image.layer([entry, Entry::file("file", "attack")]);
        image.assert_refused(&[], &["is the root of the layer, but no directory"]);
    }
    let image = HostileImage::new("rootfile").layer([Entry::file(".", "attack")]);
    image.assert_refused(&[], &["is the root of the layer, but no directory"]);
    let image = HostileImage::new("rootlink").layer([Entry::hard_link(".", "file")]);
    image.assert_refused(&[], &["is the root of the layer, but no directory"]);
    let image = HostileImage::new("linkroot").layer([Entry::hard_link("file", "/")]);
    image.assert_refused(&[], &["is a hard link to the root"]);
    let image = HostileImage::new("hideroot").layer([Entry::file(".wh..", "")]);
    image.assert_refused(&[], &["is a whiteout of nothing"]);
}

/// Ways to say the mode of something that a symlink leads to.
fn mode_through_links(out: &str) -> Vec<Vec<Entry>> {
    let link = || Entry::symlink("way", out);
    let file = || Entry::symlink("file", format!("{out}/file"));
    vec![
        vec![link(), Entry::directory("way").mode(0o777).owner(5, 5)],
        vec![link(), Entry::directory("way/").mode(0o777).owner(5, 5)],
        vec![link(), Entry::directory("way/d").mode(0o777).owner(5, 5)],
        vec![file(), Entry::file("file", "attack").mode(0o777)],
        vec![file(), Entry::fifo("file").mode(0o777)],
        vec![
            file(),
            Entry::hard_link("hard", "file").mode(0o4777).owner(5, 5),
            Entry::file("hard", "attack").mode(0o777),
        ],
        vec![file(), Entry::symlink("file", "elsewhere").mode(0o777).owner(5, 5).xattr("user.attack", "1")],
        vec![
            file(),
            Entry::hard_link("hard", "file").mode(0o777),
            Entry::symlink("file", "x"),
            Entry::directory("hard").mode(0o777),
        ],
    ]
}

#[test]
fn cve_2021_32760_a_mode_stated_for_a_link_changes_nothing_behind_it() {
    common::require_root!();
    let cases = mode_through_links("").len();
    for (layers, cases) in [(1, cases), (2, 4)] {
        for case in 0..cases {
            let image = HostileImage::new("chmod");
            let entries = mode_through_links(image.sentinel.arg()).swap_remove(case);
            // The link and what goes through it in one layer, or each in its own.
            let image = match layers {
                1 => image.layer(entries),
                _ => entries.into_iter().fold(image, |image, entry| image.layer([entry])),
            };
            image.assert_contained();
        }
    }
}

#[test]
fn cve_2026_33056_a_directory_over_a_symlink_takes_its_place() {
    common::require_root!();
    let image = HostileImage::new("dirlink");
    let link = Entry::symlink("way", image.sentinel.arg());
    let image = image.layer([link, Entry::directory("way").mode(0o777), Entry::file("way/in", "inside")]);
    image.load().ok();
    image.unpack(&[]).ok();
    let way = image.scratch.path().join("bundle/rootfs/way");
    let found = std::fs::symlink_metadata(&way).unwrap();
    assert!(found.is_dir() && found.permissions().mode() & 0o7777 == 0o777);
    assert_eq!(std::fs::read_to_string(way.join("in")).unwrap(), "inside");
    image.sentinel.assert_untouched();
}

#[test]
fn cve_2025_47290_names_that_climb_out_are_refused() {
    common::require_root!();
    let up = "../".repeat(30);
    for (name, words) in [
        ("../outside/file".to_owned(), "climbs with '..'"),
        ("a/../../outside/file".to_owned(), "climbs with '..'"),
        (format!("{up}tmp/attack"), "climbs with '..'"),
        ("/../outside/file".to_owned(), "climbs with '..'"),
        ("..".to_owned(), "climbs with '..'"),
        ("a/..".to_owned(), "climbs with '..'"),
        ("../.wh.file".to_owned(), "climbs with '..'"),
        ("d/.wh...".to_owned(), "is a whiteout of nothing"),
    ] {
        let entry = Entry::file(name.clone(), "attack");
        // The name in the header, and in a record over a header that looks harmless.
        let record = Entry::symlink("harmless", "/etc").pax("path", &name);
        for entry in [entry, record] {
            HostileImage::new("climb").layer([Entry::directory("d"), entry]).assert_refused(&[], &[words]);
        }
    }
}

#[test]
fn cve_2025_47290_hard_links_never_reach_outside() {
    common::require_root!();
    for (target, words) in [
        ("/proc/self/exe".to_owned(), "create hard link"),
        ("../outside/file".to_owned(), "climbs with '..'"),
        ("/../../../../../../etc/passwd".to_owned(), "climbs with '..'"),
        ("/etc/passwd".to_owned(), "create hard link"),
        ("way/file".to_owned(), "way/file"),
    ] {
        let image = HostileImage::new("hardout");
        let way = Entry::symlink("way", image.sentinel.arg());
        let image = image.layer([way, Entry::hard_link("hard", &target), Entry::file("hard", "attack")]);
        image.assert_refused(&[], &[words]);
    }
}

#[test]
fn cve_2025_47290_entries_below_a_symlink_stay_inside_the_root() {
    common::require_root!();
    for layers in [1, 2, 3] {
        let image = HostileImage::new("below");
        let out = image.sentinel.arg().to_owned();
        let up = format!("{}{}", "../".repeat(30), out.trim_start_matches('/'));
        let entries = [
            Entry::symlink("absolute", &out),
            Entry::symlink("climbing", &up),
            Entry::symlink("chain", "absolute"),
            Entry::symlink("proc", "/proc/self/root"),
            Entry::file("absolute/file", "attack"),
            Entry::file("climbing/d/file", "attack"),
            Entry::file("chain/new", "attack"),
            Entry::whiteout("absolute/file"),
            Entry::opaque("chain"),
            Entry::directory("absolute/d").mode(0o777).owner(5, 5),
            Entry::symlink("chain/file", "attack"),
            Entry::fifo("climbing/fifo"),
        ];
        // Missing parents behind a symlink are made inside, or refused; never outside.
        let image = match layers {
            1 => image.layer(entries),
            2 => entries.chunks(6).fold(image, |image, half| image.layer(half.to_vec())),
            _ => entries.into_iter().fold(image, |image, entry| image.layer([entry])),
        };
        image.assert_contained();
    }
    // Through procfs's magic links, were it there: the layer's own proc is a plain directory.
    let image = HostileImage::new("magic");
    let magic = Entry::symlink("way", "/proc/self/root/tmp");
    image.layer([magic, Entry::file("way/attack", "x")]).assert_contained();
    assert!(!std::path::Path::new("/tmp/attack").exists());
}

#[test]
fn device_nodes_of_an_image_open_nothing_for_an_instance() {
    common::require_root!();
    // The node itself is what the layer says; the cgroup's device rules are what keeps a process from it.
    let image = HostileImage::new("device").with_busybox().layer([
        Entry::directory("etc"),
        Entry::character("etc/mem", 1, 1).mode(0o666),
        Entry::block("etc/disk", 254, 0).mode(0o666),
    ]);
    image.load().ok();
    for node in ["/etc/mem", "/etc/disk"] {
        let outcome = image.run(&[], &["/bin/cat", node]).outcome();
        assert!(!outcome.success() && outcome.stdout.is_empty(), "{outcome}");
        assert!(
            outcome.stderr.contains("not permitted") || outcome.stderr.contains("No such device"),
            "{outcome}"
        );
    }
}

#[test]
fn cve_2021_20291_nothing_in_a_layer_makes_the_unpack_wait() {
    common::require_root!();
    let image = HostileImage::new("wait").layer([
        Entry::fifo("fifo"),
        Entry::file("fifo", "written where a pipe was"),
        Entry::fifo("etc/passwd"),
        Entry::fifo("pipe"),
        Entry::hard_link("hard", "pipe"),
        Entry::file("hard", "written where a pipe's other name was"),
        Entry::directory("pipe"),
        Entry::file("pipe/in", "written below what was a pipe"),
        Entry::character("tty", 5, 0),
        Entry::file("tty", "written where a terminal was"),
        Entry::fifo("d/.wh..wh..opq"),
        Entry::fifo(".wh.tty"),
    ]);
    image.load().ok();
    let outcome = image.unpack(&[]).outcome();
    let rootfs = image.scratch.path().join("bundle/rootfs");
    // The configuration needs /etc/passwd, which is a pipe.
    assert!(!outcome.success() && outcome.stderr.contains("etc/passwd"), "{outcome}");
    assert!(!rootfs.exists());
    let outcome = image.run(&[], &["/bin/true"]).outcome();
    assert!(!outcome.success(), "{outcome}");
    image.sentinel.assert_untouched();
}
