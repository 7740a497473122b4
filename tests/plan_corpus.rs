//! Configs as engines write them (tests/corpus/configs), and what becomes of them when parts are replaced, left
//! out or cut: a Plan, or one line that names a JSON path; never a panic.
#![allow(missing_docs, clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use wharf::container::{preview, read_config};

fn corpus() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/configs");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// Those that are JSON objects with all that a config needs.
fn configs() -> Vec<Value> {
    let parsed = corpus().into_iter().filter_map(|(_, text)| serde_json::from_slice::<Value>(&text).ok());
    parsed.filter(|config| config["process"]["args"].is_array()).collect()
}

fn compile(text: &[u8]) -> Result<(), String> {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::write(bundle.path().join("config.json"), text).unwrap();
    let spec = read_config(bundle.path(), |_| {}).map_err(|error| error.to_string())?;
    let id = "container".parse().unwrap();
    preview(&id, bundle.path(), &spec, false).map(drop).map_err(|error| error.to_string())
}

/// Whether a message is one line that begins with a field of the config, after the file's name or without it.
fn names_a_path(message: &str) -> bool {
    const FIELDS: [&str; 16] = [
        "ociVersion",
        "process",
        "root",
        "hostname",
        "domainname",
        "mounts",
        "hooks",
        "annotations",
        "linux",
        "uidMappings",
        "vm",
        "zos",
        "freebsd",
        "windows",
        "solaris",
        "required container capability",
    ];
    let message = message.strip_prefix("config.json: ").unwrap_or(message);
    !message.contains('\n') && FIELDS.iter().any(|field| message.starts_with(field))
}

/// Every place in a document, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                places(inner, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

fn replacement() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] =
        &["", "/", "..", "a\u{0}b", "-1", "rbind", "/proc/self/ns/net", "0-", "SCMP_ACT_KILL", "CAP_"];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(WORDS).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{}])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_config_with_replaced_parts_becomes_a_plan_or_is_refused_by_path(
        chosen in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), replacement()), 1..4),
    ) {
        let configs = configs();
        let mut config = chosen.get(&configs).clone();
        for (place, value) in changes {
            let mut found = Vec::new();
            places(&config, "", &mut found);
            // The document itself stays an object.
            let at = place.get(&found[1..]).clone();
            *config.pointer_mut(&at).unwrap() = value;
        }
        if let Err(message) = compile(config.to_string().as_bytes()) {
            prop_assert!(names_a_path(&message), "{message}\n{config}");
        }
    }

    #[test]
    fn a_file_with_other_bytes_is_read_or_refused_in_one_line(
        chosen in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let corpus = corpus();
        let mut text = chosen.get(&corpus).1.clone();
        for (place, byte) in changes.iter().filter(|_| !text.is_empty()).collect::<Vec<_>>() {
            let index = place.index(text.len());
            text[index] = *byte;
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len() + 1));
        }
        if let Err(message) = compile(&text) {
            prop_assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
        }
    }
}

#[test]
fn the_corpus_is_what_it_says() {
    for (name, text) in corpus() {
        let compiled = compile(&text);
        match name.as_str() {
            "default" | "docker" | "pod" | "rootless" => {
                // A limit whose controller this host lacks, or a path for systemd, is no fault of the config.
                let known = ["process.terminal", "linux.resources", "linux.cgroupsPath"];
                let fine = compiled.as_ref().is_ok_and(|()| true)
                    || compiled.as_ref().is_err_and(|why| known.iter().any(|path| why.starts_with(path)));
                assert!(fine, "{name}: {compiled:?}");
            }
            "everything" => {
                assert!(compiled.as_ref().err().is_none_or(|message| names_a_path(message)), "{compiled:?}");
            }
            _ => assert!(compiled.is_err(), "{name}"),
        }
    }
}
