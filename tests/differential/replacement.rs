//! Entries that take another's place, in the same layer or from a lower one.
use crate::common::layer::Entry;
use crate::image::{Image, require_tools};

#[test]
fn a_directory_after_its_content_has_the_stated_mode_owner_and_time() {
    require_tools!("umoci", "tar");
    let image = Image::new("dirlast").layer([
        Entry::file("a/b/file", "1"),
        Entry::directory("a/b").mode(0o2750).owner(3, 4).mtime(5),
        Entry::directory("a").mode(0o1777).owner(1, 2).mtime(6),
    ]);
    image.assert_as_umoci().assert_same("umoci", &image.by_tar(), "GNU tar");
}

#[test]
fn a_directory_stated_again_takes_the_later_mode_and_keeps_its_content() {
    require_tools!("umoci");
    let image = Image::new("restated").layer([
        Entry::directory("d").mode(0o700).owner(1, 1).mtime(5),
        Entry::file("d/file", "1"),
        Entry::directory("d").mode(0o755).owner(2, 3).mtime(7),
    ]);
    assert!(image.assert_as_umoci().names().contains(&"d/file"));
}

#[test]
fn a_directory_stated_again_by_an_upper_layer_takes_its_attributes_and_no_others() {
    require_tools!("umoci");
    let image = Image::new("restated2")
        .layer([Entry::directory("d").mode(0o700).xattr("user.a", "1"), Entry::file("d/file", "1")])
        .layer([Entry::directory("d").mode(0o3751).owner(2, 3).mtime(7).xattr("user.b", "2")]);
    assert!(image.assert_as_umoci().names().contains(&"d/file"));
}

#[test]
fn a_later_entry_of_the_same_name_replaces_whatever_was_there() {
    require_tools!("umoci");
    let kinds: [fn() -> Entry; 5] = [
        || Entry::file("x", "content").mode(0o4711),
        || Entry::directory("x").mode(0o700),
        || Entry::symlink("x", "elsewhere"),
        || Entry::fifo("x").mode(0o622),
        || Entry::character("x", 1, 3).mode(0o666),
    ];
    for (count, first) in kinds.iter().enumerate() {
        for second in &kinds {
            Image::new(&format!("one{count}")).layer([first(), second()]).assert_as_umoci();
            Image::new(&format!("two{count}")).layer([first()]).layer([second()]).assert_as_umoci();
        }
    }
}

#[test]
fn a_full_directory_gives_way_to_a_file_and_a_file_to_a_full_directory() {
    require_tools!("umoci");
    let full = || [Entry::directory("x"), Entry::directory("x/sub"), Entry::file("x/sub/file", "1")];
    let file = || Entry::file("x", "2");
    let check = |image: Image, names: &[&str]| assert_eq!(image.assert_as_umoci().names(), names);
    check(Image::new("a").layer(full()).layer([file()]), &["x"]);
    check(Image::new("b").layer([file()]).layer(full()), &["x", "x/sub", "x/sub/file"]);
    check(Image::new("c").layer(full().into_iter().chain([file()])), &["x"]);
    check(Image::new("d").layer([file()].into_iter().chain(full())), &["x", "x/sub", "x/sub/file"]);
    // A directory that became a file does not come back with what it had.
    check(Image::new("e").layer(full()).layer([file()]).layer([Entry::directory("x")]), &["x"]);
}

#[test]
fn a_symlink_to_a_directory_with_entries_below_it_leads_them_there() {
    require_tools!("umoci", "tar");
    let image = Image::new("through").layer([
        Entry::directory("real").mode(0o711),
        Entry::symlink("way", "real"),
        Entry::file("way/in", "1"),
        Entry::symlink("around", "/real/../real"),
        Entry::file("around/in2", "2"),
        Entry::directory("real").mode(0o711),
    ]);
    assert_eq!(image.assert_as_umoci().names(), ["around", "real", "real/in", "real/in2", "way"]);
}

#[test]
fn a_file_written_twice_has_the_second_content_and_other_names_of_it_keep_the_first() {
    require_tools!("umoci");
    let image = Image::new("twice").layer([
        Entry::file("a", "first").mode(0o600),
        Entry::hard_link("b", "a"),
        Entry::file("a", "second").mode(0o755),
    ]);
    let tree = image.assert_as_umoci();
    assert_ne!(tree.get("a").content, tree.get("b").content);
    let image = Image::new("twice2")
        .layer([Entry::file("a", "first").mode(0o600), Entry::hard_link("b", "a")])
        .layer([Entry::file("a", "second").mode(0o755)]);
    let tree = image.assert_as_umoci();
    assert_ne!(tree.get("a").content, tree.get("b").content);
}

#[test]
fn missing_directories_are_made_for_what_is_in_them() {
    require_tools!("umoci", "tar");
    Image::new("missing").layer([Entry::file("a/b/c/file", "1"), Entry::directory("a/b")]).assert_as_umoci();
}

#[test]
fn the_root_s_own_entry_sets_its_mode_owner_and_time() {
    require_tools!("umoci");
    let image = Image::new("root").layer([
        Entry::directory("./").mode(0o711).owner(3, 4).mtime(99).xattr("user.note", "root"),
        Entry::file("./file", "1"),
    ]);
    image.assert_as_umoci();
}
