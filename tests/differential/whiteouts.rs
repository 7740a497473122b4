//! What upper layers hide: image-spec layer.md, "Whiteouts" and "Opaque Whiteout".
use crate::common::layer::Entry;
use crate::image::{Image, require_tools};

/// A lower layer with a bit of everything in `d`.
fn lower() -> Vec<Entry> {
    vec![
        Entry::directory("d").mode(0o750).owner(5, 6),
        Entry::file("d/old", "1"),
        Entry::directory("d/sub"),
        Entry::file("d/sub/deep", "2"),
        Entry::symlink("d/way", "old"),
        Entry::file("kept", "3"),
        Entry::file("gone", "4"),
    ]
}

fn directory() -> Entry {
    Entry::directory("d").mode(0o711).owner(7, 8)
}

/// Both layers, unpacked as umoci does it, holding exactly these names.
#[track_caller]
fn check(name: &str, upper: Vec<Entry>, names: &[&str]) {
    let image = Image::new(name).layer(lower()).layer(upper);
    let tree = image.assert_as_umoci();
    let mut expected = names.to_vec();
    expected.sort_unstable();
    let mut found = tree.names();
    found.sort_unstable();
    assert_eq!(found, expected, "umoci");
}

#[test]
fn a_whiteout_hides_a_file_a_symlink_and_a_directory_with_all_in_it() {
    require_tools!("umoci");
    let upper =
        vec![directory(), Entry::whiteout("gone"), Entry::whiteout("d/way"), Entry::whiteout("d/sub")];
    check("whiteout", upper, &["d", "d/old", "kept"]);
}

#[test]
fn a_whiteout_before_or_after_an_entry_of_its_name_in_the_same_layer_leaves_that_entry() {
    require_tools!("umoci");
    let new = || Entry::file("gone", "new");
    let names = ["d", "d/old", "d/sub", "d/sub/deep", "d/way", "kept", "gone"];
    check("whfirst", vec![Entry::whiteout("gone"), new()], &names);
    check("whlast", vec![new(), Entry::whiteout("gone")], &names);
}

#[test]
fn a_directory_hidden_and_made_again_in_the_same_layer_is_empty_of_the_lower_ones() {
    require_tools!("umoci");
    let names = ["d", "d/new", "kept", "gone"];
    check("again", vec![Entry::whiteout("d"), directory(), Entry::file("d/new", "5")], &names);
}

#[test]
fn a_whiteout_after_its_directory_was_made_again_hides_what_lower_layers_have_in_it() {
    require_tools!("umoci");
    // Tools that sort names write the whiteout between the directory and what is in it, or after all of it.
    for (order, upper) in [
        [directory(), Entry::whiteout("d"), Entry::file("d/new", "5")],
        [directory(), Entry::file("d/new", "5"), Entry::whiteout("d")],
        [Entry::file("d/new", "5"), directory(), Entry::whiteout("d")],
    ]
    .into_iter()
    .enumerate()
    {
        let image = Image::new(&format!("after{order}")).layer(lower());
        image.layer(upper).assert_names(&["d", "d/new", "gone", "kept"]);
    }
}

#[test]
fn a_directory_hidden_and_implied_by_what_is_in_it_is_empty_of_the_lower_ones() {
    require_tools!("umoci");
    let image = Image::new("implied").layer(lower());
    image
        .layer([Entry::whiteout("d"), Entry::file("d/new", "5")])
        .assert_names(&["d", "d/new", "gone", "kept"]);
}

#[test]
fn an_opaque_marker_hides_lower_entries_wherever_it_stands_among_its_siblings() {
    require_tools!("umoci");
    let names = ["d", "d/new", "d/sub", "d/sub/inner", "gone", "kept"];
    let [marker, new, sub, inner] = [
        Entry::opaque("d"),
        Entry::file("d/new", "5"),
        Entry::directory("d/sub").mode(0o700),
        Entry::file("d/sub/inner", "6"),
    ];
    let orders: [&[&Entry]; 6] = [
        &[&marker, &new, &sub, &inner],
        &[&new, &marker, &sub, &inner],
        &[&new, &sub, &marker, &inner],
        &[&new, &sub, &inner, &marker],
        &[&sub, &inner, &marker, &new],
        &[&marker, &sub, &inner, &new, &marker],
    ];
    for order in orders {
        let mut upper = vec![directory()];
        upper.extend(order.iter().map(|entry| (*entry).clone()));
        Image::new("opaque").layer(lower()).layer(upper).assert_names(&names);
    }
}

#[test]
fn an_opaque_marker_before_its_directory_s_own_entry_counts_too() {
    require_tools!("umoci");
    let upper = vec![Entry::opaque("d"), directory(), Entry::file("d/new", "5")];
    check("opqfirst", upper, &["d", "d/new", "kept", "gone"]);
    let upper = vec![Entry::opaque("d"), Entry::file("d/new", "5"), directory()];
    check("opqbefore", upper, &["d", "d/new", "kept", "gone"]);
}

#[test]
fn an_opaque_marker_hides_what_is_in_directories_that_the_layer_has_too() {
    require_tools!("umoci");
    // The marker is d's; d/sub is this layer's own, but d/sub/deep is the lower layer's.
    // (umoci forgets the time of d/sub when it takes that away, so names have to do.)
    let image = Image::new("opqsub").layer(lower());
    image
        .layer([directory(), Entry::directory("d/sub"), Entry::opaque("d")])
        .assert_names(&["d", "d/sub", "gone", "kept"]);
    let upper = vec![directory(), Entry::opaque("d"), Entry::directory("d/sub")];
    check("opqsub2", upper, &["d", "d/sub", "kept", "gone"]);
}

#[test]
fn an_opaque_root_hides_all_lower_layers() {
    require_tools!("umoci");
    check("opqroot", vec![Entry::opaque("."), Entry::file("new", "5")], &["new"]);
    check("opqroot2", vec![Entry::file("new", "5"), Entry::opaque(".")], &["new"]);
}

#[test]
fn the_specification_s_own_examples_come_out_as_it_says() {
    require_tools!("umoci");
    let base =
        || ["a/", "a/b/", "a/b/c/"].map(Entry::directory).into_iter().chain([Entry::file("a/b/c/bar", "1")]);
    let marker = Entry::file("a/.wh..wh..opq", "");
    let new = [Entry::directory("a/b/"), Entry::directory("a/b/c/"), Entry::file("a/b/c/foo", "2")];
    let first = [Entry::directory("a/"), marker.clone()].into_iter().chain(new.clone());
    let last = [Entry::directory("a/")].into_iter().chain(new).chain([marker]);
    for upper in [first.collect::<Vec<_>>(), last.collect()] {
        Image::new("spec").layer(base()).layer(upper).assert_names(&["a", "a/b", "a/b/c", "a/b/c/foo"]);
    }
    let image = Image::new("changes")
        .layer([
            Entry::directory("./etc/"),
            Entry::file("./etc/my-app-config", "1"),
            Entry::directory("./bin/"),
            Entry::file("./bin/my-app-binary", "2"),
            Entry::file("./bin/my-app-tools", "3"),
        ])
        .layer([
            Entry::directory("./etc/my-app.d/"),
            Entry::file("./etc/my-app.d/default.cfg", "4"),
            Entry::file("./bin/my-app-tools", "5"),
            Entry::file("./etc/.wh.my-app-config", ""),
        ]);
    let names =
        ["bin", "bin/my-app-binary", "bin/my-app-tools", "etc", "etc/my-app.d", "etc/my-app.d/default.cfg"];
    for tree in [image.by_umoci(), image.by_wharf(), image.by_overlay()] {
        assert_eq!(tree.names(), names);
    }
}

#[test]
fn a_whiteout_of_what_is_not_there_changes_nothing() {
    require_tools!("umoci");
    let names = ["d", "d/old", "d/sub", "d/sub/deep", "d/way", "kept", "gone"];
    check("nothing", vec![directory(), Entry::whiteout("never"), Entry::whiteout("d/never")], &names);
}

#[test]
fn whiteouts_in_the_lowest_layer_hide_nothing() {
    require_tools!("umoci");
    let mut entries = vec![Entry::whiteout("d"), Entry::opaque(".")];
    entries.extend(lower());
    entries.extend([Entry::whiteout("kept"), Entry::opaque("d")]);
    let tree = Image::new("lowest").layer(entries).assert_as_umoci();
    assert_eq!(tree.names(), ["d", "d/old", "d/sub", "d/sub/deep", "d/way", "gone", "kept"]);
}

#[test]
fn what_one_layer_hides_a_later_one_may_bring_back() {
    require_tools!("umoci");
    let image = Image::new("back")
        .layer(lower())
        .layer([Entry::whiteout("d"), Entry::whiteout("gone")])
        .layer([directory(), Entry::file("d/again", "5"), Entry::file("gone", "6")]);
    assert_eq!(image.assert_as_umoci().names(), ["d", "d/again", "gone", "kept"]);
}

#[test]
fn a_file_hidden_as_a_directory_and_a_directory_hidden_as_a_file_give_way() {
    require_tools!("umoci");
    let upper = vec![
        Entry::whiteout("gone"),
        Entry::directory("gone"),
        Entry::file("gone/in", "5"),
        Entry::whiteout("d"),
        Entry::file("d", "6"),
    ];
    check("kinds", upper, &["d", "gone", "gone/in", "kept"]);
}

#[test]
fn a_whiteout_reached_through_a_symlink_of_a_lower_layer_hides_nothing_behind_it() {
    require_tools!("umoci");
    // The way is a symlink to d; image-spec gives paths, and `way/old` is no path of a lower layer.
    let image = Image::new("behind")
        .layer(lower().into_iter().chain([Entry::symlink("way", "d")]))
        .layer([Entry::whiteout("way"), Entry::file("after", "5")]);
    let tree = image.assert_as_umoci();
    assert!(!tree.names().contains(&"way"));
    assert!(tree.names().contains(&"d/old"));
}
