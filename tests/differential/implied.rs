//! Directories that an upper layer has something in and does not state: bazel, ko and others write such layers.
use crate::common::layer::Entry;
use crate::image::{Image, require_tools};

/// A directory of which everything differs from one that is just made. It gives nothing of its own to what is made
/// in it, which a set-group-ID bit would.
fn stated(name: &str, owner: u64) -> Entry {
    Entry::directory(name).mode(0o1770).owner(owner, owner + 1).mtime(70 + owner as i64)
}

/// A directory of a lower layer in which the upper one has something, without stating the directory.
fn unstated(name: &str) -> Image {
    Image::new(name)
        .layer([stated("d", 5).mode(0o2770).xattr("user.note", "kept")])
        .layer([Entry::file("d/new", "1"), Entry::whiteout("d/old")])
}

#[test]
fn a_directory_that_an_upper_layer_does_not_state_stays_as_it_is_in_a_bundle() {
    require_tools!("umoci");
    let image = unstated("unstated");
    image.by_wharf().assert_same("wharf unpack", &image.by_umoci(), "umoci");
}

#[test]
fn a_directory_that_an_upper_layer_does_not_state_stays_as_it_is_in_an_instance() {
    require_tools!("umoci");
    let image = unstated("unstated2");
    image.by_overlay().assert_same("wharf's overlay", &image.by_umoci().without(""), "umoci");
}

#[test]
fn each_directory_is_as_the_topmost_layer_that_states_it_says() {
    require_tools!("umoci");
    let image = Image::new("severally")
        .layer([stated("a", 1), stated("a/b", 2), stated("a/b/c", 3), stated("z", 4)])
        .layer([Entry::file("a/b/one", "1"), stated("a/b/c", 13)])
        .layer([stated("a", 21).xattr("user.note", "third"), Entry::file("a/b/c/d/two", "2")])
        .layer([Entry::file("a/b/c/d/e/three", "3"), stated("a/b/c/d/e", 35), Entry::file("z/y", "4")]);
    // umoci forgets the time of a/b/c.
    let tree = image.assert_as_umoci_but_for_times();
    let owners = ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "z"].map(|path| tree.get(path).owner.0);
    assert_eq!(owners, [21, 2, 13, 0, 35, 4]);
}

#[test]
fn an_implied_directory_that_its_layer_states_later_is_as_stated() {
    require_tools!("umoci");
    let image = Image::new("later")
        .layer([stated("a", 1), stated("a/b", 2).xattr("user.note", "lower")])
        .layer([Entry::file("a/b/file", "1"), stated("a/b", 12)]);
    let tree = image.assert_as_umoci();
    assert_eq!([tree.get("a").owner.0, tree.get("a/b").owner.0], [1, 12]);
}

#[test]
fn what_is_hidden_below_says_nothing_of_an_implied_directory() {
    require_tools!("umoci");
    let lower = || [stated("p", 1), stated("p/q", 2), Entry::file("p/q/old", "1"), Entry::file("f", "2")];
    let owners = |name: &str, upper: Vec<Vec<Entry>>| {
        let image = upper.into_iter().fold(Image::new(name).layer(lower()), Image::layer);
        let tree = image.assert_as_umoci_but_for_times();
        ["p", "p/q"].map(|path| tree.get(path).owner.0)
    };
    let new = || Entry::file("p/q/new", "3");
    // The parent is opaque.
    assert_eq!(owners("opaque", vec![vec![stated("p", 11), Entry::opaque("p"), new()]]), [11, 0]);
    // It is implied too, and stays what it is; what it held does not.
    assert_eq!(owners("opaque2", vec![vec![Entry::opaque("p"), new()]]), [1, 0]);
    // The directory itself is opaque: that is about what is in it.
    assert_eq!(owners("opaque3", vec![vec![Entry::opaque("p/q"), new()]]), [1, 2]);
    // It is hidden in the same layer, or in one between.
    assert_eq!(owners("hidden", vec![vec![Entry::whiteout("p/q"), new()]]), [1, 0]);
    assert_eq!(owners("hidden2", vec![vec![Entry::whiteout("p/q")], vec![new()]]), [1, 0]);
    assert_eq!(owners("hidden3", vec![vec![Entry::whiteout("p")], vec![new()]]), [0, 0]);
    // Something above states it.
    assert_eq!(owners("above", vec![vec![Entry::whiteout("f"), new()], vec![stated("p/q", 12)]]), [1, 12]);
}

#[test]
fn a_directory_takes_nothing_from_below_a_file_of_its_name() {
    require_tools!("umoci");
    // Unpacked into one directory it is refused, by umoci too.
    let image = Image::new("file")
        .layer([stated("p", 1), stated("p/q", 2)])
        .layer([stated("p", 11), Entry::file("p/q", "1")])
        .layer([Entry::file("p/q/new", "2")]);
    let tree = image.by_overlay();
    assert_eq!(["p", "p/q"].map(|path| tree.get(path).owner.0), [11, 0]);
    assert_eq!(tree.names(), ["p", "p/q", "p/q/new"]);
}

#[test]
fn a_directory_that_no_layer_states_is_0755_and_root_s() {
    require_tools!("umoci");
    let image = Image::new("nobody")
        .layer([Entry::file("a/b/one", "1")])
        .layer([Entry::file("a/b/two", "2"), Entry::whiteout("a/gone")])
        .layer([stated("a/b/c", 3)]);
    let tree = image.assert_as_umoci();
    for path in ["a", "a/b"] {
        assert_eq!((tree.get(path).mode & 0o7777, tree.get(path).owner), (0o755, (0, 0)), "{path}");
        assert!(tree.get(path).xattrs.is_empty(), "{:?}", tree.get(path));
    }
}

#[test]
fn a_directory_that_is_implied_through_a_symlink_of_its_layer_is_that_of_the_lower_one() {
    require_tools!("umoci");
    let image = Image::new("through")
        .layer([stated("real", 1), stated("real/sub", 2), Entry::symlink("way", "real")])
        .layer([Entry::file("real/x", "1"), Entry::symlink("way", "real"), Entry::file("way/sub/file", "2")]);
    let tree = image.assert_as_umoci();
    assert_eq!(["real", "real/sub"].map(|path| tree.get(path).owner.0), [1, 2]);
}

#[test]
fn access_lists_and_other_attributes_of_lower_directories_are_kept() {
    require_tools!("umoci");
    let default = [
        &2u32.to_le_bytes()[..],
        &acl(1, 7, u32::MAX),
        &acl(2, 6, 1000),
        &acl(4, 5, u32::MAX),
        &acl(16, 7, u32::MAX),
        &acl(32, 0, u32::MAX),
    ]
    .concat();
    let image = Image::new("acl")
        .layer([stated("d", 1).xattr("system.posix_acl_default", &default).xattr("trusted.note", "x")])
        .layer([Entry::file("d/file", "1")]);
    let tree = image.by_overlay();
    // What is made in it has the list, where layers are laid into one directory.
    assert_eq!(tree.get("d"), image.by_wharf().get("d"));
    assert_eq!(tree.get("d").xattrs["system.posix_acl_default"], default);
}

/// An entry of `struct posix_acl_xattr_header`, linux/posix_acl_xattr.h.
fn acl(tag: u16, permissions: u16, id: u32) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
}
