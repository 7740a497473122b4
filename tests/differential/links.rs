//! Hard links and symlinks.
use crate::common::layer::Entry;
use crate::formats::Source;
use crate::image::{Image, require_tools};
use std::path::Path;

#[test]
fn hard_links_across_directories_are_one_file() {
    require_tools!("umoci", "tar");
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let source = Source::new("hard");
        source
            .file("a/file", "content")
            .owned("a/file", 5, 6, 0o4751)
            .file("b/c/other", "")
            .link("b/c/hard", "a/file")
            .link("hard", "a/file")
            .link("z", "b/c/other");
        let image = Image::new("hard").raw(&source.tar(&[&format!("--format={format}"), "--mtime=@9"]));
        let tree = image.assert_as_umoci();
        tree.assert_same("umoci", &image.by_tar(), "GNU tar");
        assert_eq!(tree.get("hard").first_name, tree.get("b/c/hard").first_name);
        assert_eq!(tree.get("hard").mode & 0o7777, 0o4751);
    }
}

#[test]
fn hard_links_of_symlinks_devices_and_pipes_are_one_inode() {
    require_tools!("umoci", "tar");
    let image = Image::new("hardnodes").layer([
        Entry::symlink("soft", "nowhere").owner(5, 6),
        Entry::character("null", 1, 3).mode(0o666),
        Entry::fifo("pipe").mode(0o620),
        Entry::hard_link("soft2", "soft"),
        Entry::hard_link("null2", "null"),
        Entry::hard_link("pipe2", "pipe"),
    ]);
    let tree = image.assert_as_tar();
    tree.assert_same("GNU tar", &image.by_umoci(), "umoci");
    for name in ["soft", "null", "pipe"] {
        assert_eq!(tree.get(&format!("{name}2")).first_name, tree.get(name).first_name);
    }
}

#[test]
fn a_hard_link_whose_header_states_other_owner_and_mode() {
    require_tools!("umoci", "tar");
    // image-spec says nothing of it. GNU tar takes neither from a link, for both names are one inode.
    let image = Image::new("hardmeta").layer([
        Entry::file("file", "1").mode(0o600).owner(5, 6),
        Entry::hard_link("hard", "file").mode(0o777).owner(7, 8).mtime(77),
    ]);
    image.assert_as_tar();
}

#[test]
fn a_hard_link_replaces_what_has_its_name() {
    require_tools!("umoci", "tar");
    let image = Image::new("hardover").layer([
        Entry::file("file", "1"),
        Entry::directory("hard"),
        Entry::file("hard/in", "2"),
        Entry::hard_link("hard", "file"),
    ]);
    assert_eq!(image.assert_as_umoci().names(), ["file", "hard"]);
}

#[test]
fn a_hard_link_to_itself_keeps_the_file_or_is_refused() {
    require_tools!("umoci");
    let image = Image::new("hardself").layer([Entry::file("file", "1"), Entry::hard_link("./file", "file")]);
    image.refused_by_umoci();
    image.refused_by_wharf(&["file", "hard link"]);
}

#[test]
fn a_hard_link_to_what_only_a_lower_layer_has() {
    require_tools!("umoci");
    // umoci links what earlier layers left there, and so does a bundle of ours. An overlay has no such link,
    // and image-spec layer.md#hardlinks lets it fail.
    let image = Image::new("hardlower")
        .layer([Entry::file("lower", "1")])
        .layer([Entry::hard_link("upper", "lower")]);
    let tree = image.by_wharf();
    tree.assert_same("wharf unpack", &image.by_umoci(), "umoci");
    assert_eq!(tree.get("upper").first_name, Path::new("lower"));
    let run = image.scratch().wharf(["run", "--rm", "--network", "none", "case"]);
    run.fails_with(&["create hard link upper"]);
}

#[test]
fn symlinks_of_every_kind_are_kept_as_they_are() {
    require_tools!("umoci", "tar");
    let image = Image::new("soft").layer([
        Entry::symlink("absolute", "/etc/passwd"),
        Entry::symlink("climbing", "../../../../etc"),
        Entry::symlink("dangling", "nowhere").owner(5, 6).mtime(-5),
        Entry::symlink("self", "self"),
        Entry::symlink("odd", "a//b/./../\n"),
        Entry::symlink("long", "t".repeat(4000)),
        Entry::symlink("d", "real"),
        Entry::directory("real"),
    ]);
    image.assert_as_umoci();
}

#[test]
fn a_symlink_keeps_no_mode_and_its_target_is_left_alone() {
    require_tools!("umoci", "tar");
    let image = Image::new("softmode").layer([
        Entry::file("file", "1").mode(0o600).owner(1, 1).mtime(5),
        Entry::symlink("soft", "file").mode(0o4777).owner(2, 3).mtime(9),
    ]);
    let tree = image.assert_as_umoci();
    assert_eq!((tree.get("file").mode & 0o7777, tree.get("file").owner), (0o600, (1, 1)));
}
