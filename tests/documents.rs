//! What the documents name exists.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names of all functions that are tests.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    let names = texts.flat_map(|text| {
        let after = text.split("#[test]").skip(1).map(str::to_owned).collect::<Vec<_>>();
        after.into_iter().filter_map(|text| {
            let (_, name) = text.split_once("fn ")?;
            Some(name.split('(').next()?.to_owned())
        })
    });
    names.collect()
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let tests = tests();
    assert!(tests.contains("every_test_that_a_document_names_is_there"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut named = 0;
    for document in ["spec-coverage.md", "escapes.md"] {
        let Ok(text) = std::fs::read_to_string(root.join(document)) else { continue };
        let words = text.split('`').skip(1).step_by(2);
        let is_test = |word: &&str| {
            word.matches('_').count() > 2
                && word.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
                && word.chars().all(|c| !c.is_ascii_uppercase())
        };
        for word in words.filter(is_test) {
            assert!(tests.contains(word), "{document} names the test {word}, which is not there");
            named += 1;
        }
    }
    assert!(named > 80, "{named}");
}
