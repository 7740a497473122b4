//! `wharf save`: forms, names, bytes, and what becomes of a save that fails.
use crate::common::{self, Call, Scratch};
use crate::{digest, load, names, references, runs, sha256, tar_of};
use std::path::{Path, PathBuf};

const FORMS: &[&[&str]] = &[
    &[],
    &["--compress", "gzip"],
    &["--compress", "zstd"],
    &["--format", "docker-archive"],
    &["--format", "docker-archive", "--compress", "gzip"],
    &["--format", "oci-dir"],
];

fn two(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    scratch.load("shell");
    scratch.load("web");
    scratch
}

#[track_caller]
fn save(scratch: &Scratch, form: &[&str], images: &[&str], to: &Path) {
    scratch.wharf(["save", "--output"]).arg(to).args(form).args(images).ok();
}

/// All of a file, or of the files below a directory.
fn content(path: &Path) -> Vec<u8> {
    if path.is_file() {
        return std::fs::read(path).unwrap();
    }
    let below = names(path);
    below.iter().flat_map(|name| [name.clone().into_bytes(), content(&path.join(name))].concat()).collect()
}

#[test]
fn what_is_saved_loads_again_under_its_names() {
    common::require_root!();
    let here = two("here");
    for form in FORMS {
        let there = Scratch::new("there");
        let path = there.path().join("saved");
        save(&here, form, &["shell", "web:latest"], &path);
        load(&there, &path);
        assert_eq!(references(&there), ["shell:latest", "web:latest"], "{form:?}");
        runs(&there, "shell");
        if !form.contains(&"docker-archive") {
            assert_eq!(digest(&there, "web:latest"), digest(&here, "web:latest"), "{form:?}");
        }
    }
}

#[test]
fn the_same_images_give_the_same_bytes() {
    common::require_root!();
    let (here, there) = (two("here"), two("there"));
    for (number, form) in FORMS.iter().enumerate() {
        let saved = [&here, &there].map(|scratch| {
            let path = scratch.path().join(format!("saved{number}"));
            save(scratch, form, &["web", "shell"], &path);
            content(&path)
        });
        assert_eq!(sha256(&saved[0]), sha256(&saved[1]), "{form:?}");
    }
    let once = here.path().join("once");
    save(&here, &[], &["shell"], &once);
    let twice = here.path().join("twice");
    save(&here, &[], &["shell", "shell:latest"], &twice);
    assert_eq!(content(&once), content(&twice));
}

#[test]
fn an_archive_says_nothing_of_the_machine_and_tells_first_what_is_in_it() {
    common::require_root!();
    let here = two("here");
    let path = here.path().join("saved.tar");
    save(&here, &[], &["shell", "web"], &path);
    let mut archive = tar::Archive::new(std::fs::File::open(&path).unwrap());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        assert_eq!(header.username().unwrap().unwrap_or(""), "");
        seen.push(entry.path().unwrap().to_string_lossy().into_owned());
    }
    assert_eq!(seen[..3], ["oci-layout", "index.json", "manifest.json"]);
    assert_eq!(seen.len(), 3 + 2 + 6, "{seen:?}");
    let directory = here.path().join("layout");
    save(&here, &["--format", "oci-dir"], &["shell", "web"], &directory);
    assert_eq!(names(&directory), ["blobs", "index.json", "oci-layout"]);
    assert_eq!(names(&directory.join("blobs/sha256")).len(), 6);
}

#[test]
fn standard_output_takes_an_archive_and_a_terminal_does_not() {
    common::require_root!();
    let here = two("here");
    let path = here.path().join("piped.tar");
    let binary = env!("CARGO_BIN_EXE_wharf");
    let root = here.root().display().to_string();
    let script = format!("{binary} --root {root} save shell | {binary} --root {root}2 load -");
    Call::new("/bin/sh").args(["-c", &script]).ok();
    let script = format!("{binary} --root {root} save -o - shell >{}", path.display());
    Call::new("/bin/sh").args(["-c", &script]).ok();
    let there = Scratch::new("there");
    load(&there, &path);
    runs(&there, "shell");
    common::require!(common::program_exists("script"), "needs script(1)");
    let terminal = here.wharf(["save", "shell"]).in_terminal(24, 80).outcome();
    assert_eq!(terminal.code, Some(125), "{terminal}");
    assert!(terminal.stdout.contains("is a terminal") && terminal.stdout.lines().count() == 1, "{terminal}");
}

#[test]
fn a_reader_that_leaves_early_makes_the_save_fail() {
    common::require_root!();
    let here = two("here");
    let script = format!(
        "{{ {} --root {} save shell; echo $? >&2; }} | head -c 1000 >/dev/null",
        env!("CARGO_BIN_EXE_wharf"),
        here.root().display()
    );
    let told = Call::new("/bin/sh").args(["-c", &script]).ok().stderr;
    assert!(told.contains("closed before the archive was complete") && told.ends_with("125\n"), "{told}");
}

/// The largest blob of the store.
fn layer(scratch: &Scratch) -> PathBuf {
    let blobs = scratch.root().join("images/blobs/sha256");
    let paths = names(&blobs).into_iter().map(|name| blobs.join(name));
    paths.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

#[test]
fn a_damaged_blob_is_told_and_the_file_that_was_there_stays() {
    common::require_root!();
    let here = Scratch::new("damaged");
    here.load("shell");
    let layer = layer(&here);
    let good = std::fs::read(&layer).unwrap();
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let directory = here.path().join("saved");
    std::fs::create_dir(&directory).unwrap();
    let old = directory.join("old.tar");
    for damaged in [&bytes[..], &good[..middle]] {
        std::fs::write(&layer, damaged).unwrap();
        std::fs::write(&old, "old").unwrap();
        for form in FORMS {
            let path = directory.join(if form.contains(&"oci-dir") { "new" } else { "old.tar" });
            let call = here.wharf(["save", "shell", "--output"]).arg(&path).args(*form);
            let outcome = call.fails_with(&[&layer.file_name().unwrap().to_string_lossy()]);
            assert_eq!(outcome.code, Some(125), "{outcome}");
            assert_eq!(names(&directory), ["old.tar"], "{form:?}");
            assert_eq!(std::fs::read(&old).unwrap(), b"old", "{form:?}");
        }
    }
    std::fs::write(&layer, good).unwrap();
    save(&here, &[], &["shell"], &old);
    load(&Scratch::new("there"), &old);
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    common::require_root!();
    let here = Scratch::new("full");
    here.load("shell");
    let disk = here.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    Call::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk).ok();
    let outcomes: Vec<_> = FORMS
        .iter()
        .map(|form| here.wharf(["save", "shell", "--output"]).arg(disk.join("saved")).args(*form).outcome())
        .collect();
    let left = names(&disk);
    Call::new("umount").arg(&disk).ok();
    for outcome in outcomes {
        assert!(outcome.code == Some(125) && outcome.stderr.contains("No space left"), "{outcome}");
    }
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_save_that_is_killed_leaves_a_whole_file_or_none() {
    common::require_root!();
    let here = Scratch::new("killed");
    // Large enough that some are killed in the middle.
    here.wharf(["import", "-", "large"]).stdin(tar_of(&[("zeros", &vec![0; 20 << 20])])).ok();
    let directory = here.path().join("saved");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("saved.tar");
    for pause_ms in [0, 10, 20, 40, 80, 160, 320, 640] {
        let form = ["save", "--format", "docker-archive", "large", "--output"];
        let save = here.wharf(form).arg(&path).spawn();
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        save.signal(nix::sys::signal::Signal::SIGKILL);
        save.wait();
        let left = names(&directory);
        if !left.is_empty() {
            assert_eq!(left, ["saved.tar"]);
            load(&Scratch::new("there"), &path);
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn places_that_cannot_take_what_is_saved_are_told() {
    common::require_root!();
    let here = Scratch::new("places");
    here.load("shell");
    let directory = here.path().display().to_string();
    let save = |arguments: &[&str]| here.wharf(["save", "shell"]).args(arguments);
    save(&["--output", &directory]).fails_with(&["is a directory", "--format oci-dir"]);
    save(&["--format", "oci-dir", "--output", &directory]).fails_with(&["is not empty"]);
    save(&["--format", "oci-dir"]).fails_with(&["--output"]);
    save(&["--format", "oci-dir", "--compress", "gzip", "--output", "x"]).fails_with(&["--compress"]);
    save(&["--output", &format!("{directory}/nowhere/x.tar")]).fails_with(&["nowhere/x.tar", "No such file"]);
    here.wharf(["save", "nothing"]).fails_with(&["no image nothing"]);
    let empty = here.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    save(&["--format", "oci-dir", "--output", &empty.display().to_string()]).ok();
    assert!(empty.join("oci-layout").is_file());
    let null = save(&["--output", "/dev/null"]).ok();
    assert_eq!(null.stderr, "");
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    common::require_root!();
    let here = Scratch::new("link");
    here.load("shell");
    let (file, link) = (here.path().join("file"), here.path().join("link"));
    std::fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    save(&here, &[], &["shell"], &link);
    assert!(link.is_symlink() && file.metadata().unwrap().len() > 1000);
}

#[test]
fn an_image_without_a_name_is_saved_by_its_digest_and_loads_without_one() {
    common::require_root!();
    let here = two("nameless");
    let root = tar_of(&[("hello", b"x")]);
    let made = here.wharf(["import", "--json", "-"]).stdin(root).ok().json();
    let digest = made["digest"].as_str().unwrap();
    for form in [&[][..], &["--format", "docker-archive"]] {
        let there = Scratch::new("there");
        let path = there.path().join("saved.tar");
        save(&here, form, &["shell", &digest[7..19]], &path);
        load(&there, &path);
        let found = references(&there);
        assert!(found.contains(&"shell:latest".to_owned()) && found.len() == 2, "{found:?}");
        assert!(found.iter().any(|name| name.starts_with("sha256:")), "{found:?}");
    }
}
