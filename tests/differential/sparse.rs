//! Files with holes, in each form that GNU tar writes: its manual, "Storing Sparse Files".
use crate::common::layer::Entry;
use crate::formats::Source;
use crate::image::{Image, require_tools};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Archive options of every form.
const FORMS: [&[&str]; 5] = [
    &["--format=oldgnu", "--sparse"],
    &["--format=gnu", "--sparse"],
    &["--format=posix", "--sparse-version=0.0"],
    &["--format=posix", "--sparse-version=0.1"],
    &["--format=posix", "--sparse-version=1.0"],
];

fn holes(source: &Source, name: &str, length: u64, extents: &[(u64, usize)]) {
    source.file(name, "");
    let file = File::options().write(true).open(source.path(name)).unwrap();
    file.set_len(length).unwrap();
    for (count, (offset, size)) in extents.iter().enumerate() {
        file.write_all_at(&vec![b'a' + count as u8 % 26; *size], *offset).unwrap();
    }
}

#[test]
fn sparse_files_of_every_form_have_the_same_content() {
    require_tools!("umoci", "tar");
    let source = Source::new("holes");
    let many: Vec<(u64, usize)> = (0..60).map(|count| (count * (64 << 10), 4096)).collect();
    // More extents than fit the header, than one more block, and than one block of a 1.0 map.
    holes(&source, "many", 60 * (64 << 10), &many);
    holes(&source, "few", 1 << 20, &[(0, 4096), (512 << 10, 8192)]);
    holes(&source, "end", (1 << 20) + 7, &[((1 << 20) - 3, 10)]);
    holes(&source, "hole", 1 << 20, &[]);
    holes(&source, "odd", (1 << 20) + 1, &[(4096, 1)]);
    let long = "l".repeat(150);
    holes(&source, &long, 1 << 20, &[(8192, 5)]);
    source.owned("few", 5, 6, 0o4750);
    source.file("plain", "between");
    for form in FORMS {
        let archive = source.tar(&[form, &["--mtime=@9"]].concat());
        assert!(archive.len() < 1 << 20, "{form:?}: {} bytes", archive.len());
        let image = Image::new("holes").raw(&archive);
        let tree = image.assert_as_tar();
        assert_eq!(tree.get(&long).size, Some(1 << 20), "{form:?}");
        assert_eq!(tree.names().len(), 7, "{form:?}");
        if form[0] == "--format=posix" {
            tree.assert_same("GNU tar", &image.by_umoci(), &format!("umoci {form:?}"));
        } else {
            // umoci 0.4.7 knows no sparse file of GNU's own formats.
            assert!(image.refused_by_umoci().contains("unknown typeflag"));
        }
    }
}

#[test]
fn holes_stay_holes_in_every_form() {
    require_tools!("umoci", "tar");
    let source = Source::new("blocks");
    holes(&source, "hole", 64 << 20, &[(32 << 20, 4096)]);
    for form in FORMS {
        let image = Image::new("blocks").raw(&source.tar(&[form, &["--mtime=@9"]].concat()));
        image.by_wharf();
        let unpacked = std::fs::metadata(image.scratch().path().join("wharf/rootfs/hole")).unwrap();
        let blocks = std::os::unix::fs::MetadataExt::blocks(&unpacked);
        assert!(blocks < 2048, "{form:?}: {blocks} blocks");
    }
}

#[test]
fn a_sparse_file_after_a_sparse_file_starts_with_a_map_of_its_own() {
    require_tools!("umoci", "tar");
    let image = Image::new("maps").layer([
        Entry::file("GNUSparseFile.0/one", [b'a'; 1024])
            .pax("GNU.sparse.size", "2048")
            .pax("GNU.sparse.numblocks", "3")
            .pax("GNU.sparse.map", "0,512,1024,512,2048,0")
            .pax("GNU.sparse.name", "one"),
        Entry::file("plain", "bbbb"),
        Entry::file("GNUSparseFile.0/two", "cc")
            .pax("GNU.sparse.size", "7")
            .pax("GNU.sparse.numblocks", "1")
            .pax("GNU.sparse.map", "5,2")
            .pax("GNU.sparse.name", "two"),
    ]);
    let tree = image.assert_as_tar();
    assert_eq!(
        (tree.get("one").size, tree.get("plain").size, tree.get("two").size),
        (Some(2048), Some(4), Some(7))
    );
}
