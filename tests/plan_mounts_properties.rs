//! Whatever stands in `mounts` and in the mount half of `linux`, it becomes a Plan or an error that names
//! a JSON path; never a panic.
#![allow(missing_docs, clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wharf::container::{preview, read_config};
use wharf::sandbox::MOUNT_OPTIONS;

fn word(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(words).prop_map(Value::from).boxed()
}

fn list(of: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    prop::collection::vec(of, 0..most).prop_map(Value::from).boxed()
}

/// What no field expects.
fn wild() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[], {"x": 1}])),
    ]
    .boxed()
}

/// An object with some of these fields; now and then one holds something wild.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let values = values
        .into_iter()
        .map(|value| prop_oneof![12 => value.prop_map(Some), 4 => Just(None), 1 => wild().prop_map(Some)]);
    let values: Vec<_> = values.collect();
    let collect = move |values: Vec<Option<Value>>| {
        let given = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Value::Object(given.collect::<Map<_, _>>())
    };
    values.prop_map(collect).boxed()
}

fn path() -> BoxedStrategy<Value> {
    prop_oneof![
        word(&["/", "", ".", "..", "/..", "/dev", "/dev/pts", "/proc", "/sys", "relative/path", "/a/../b"]),
        "/[a-z./]{0,12}".prop_map(Value::from),
        "/\\PC{0,3}\u{0}[a-z]{0,2}".prop_map(Value::from),
    ]
    .boxed()
}

fn number() -> BoxedStrategy<Value> {
    let edges = prop::sample::select(&[0_u32, 1, 65536, u32::MAX - 1, u32::MAX][..]);
    prop_oneof![edges.prop_map(Value::from), any::<u32>().prop_map(Value::from)].boxed()
}

fn id_maps() -> BoxedStrategy<Value> {
    let map = object(vec![("containerID", number()), ("hostID", number()), ("size", number())]);
    prop_oneof![4 => list(map, 3), 1 => (0_u32..700).prop_map(many)].boxed()
}

/// As many extents as a map can have, and more.
fn many(count: u32) -> Value {
    (0..count).map(|id| json!({"containerID": id, "hostID": 100_000 + id, "size": 1})).collect()
}

fn options() -> BoxedStrategy<Value> {
    let other = "(idmap=)?[a-z@=;#0-9-]{0,12}\u{0}?";
    let option = prop_oneof![
        8 => prop::sample::select(MOUNT_OPTIONS).prop_map(Value::from),
        2 => word(&["mode=755", "size=1k", "gid=5", "idmap=uids=0-0-1;gids=@0-0-1", "lowerdir=/a:/b"]),
        1 => other.prop_map(Value::from),
        1 => (200_usize..300).prop_map(|length| Value::from(format!("lowerdir={}", "a:".repeat(length)))),
    ];
    list(option.boxed(), 5)
}

fn mount() -> BoxedStrategy<Value> {
    object(vec![
        ("destination", path()),
        (
            "type",
            word(&[
                "bind", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "none",
            ]),
        ),
        ("source", path()),
        ("options", options()),
        ("uidMappings", id_maps()),
        ("gidMappings", id_maps()),
    ])
}

fn linux() -> BoxedStrategy<Value> {
    const KINDS: &[&str] = &["pid", "network", "ipc", "uts", "mount", "user", "cgroup", "time"];
    let namespace = object(vec![("type", word(KINDS)), ("path", path())]);
    let plain = prop::sample::subsequence(KINDS, 0..=KINDS.len())
        .prop_map(|kinds| kinds.iter().map(|kind| json!({"type": kind})).collect::<Value>());
    let device = object(vec![
        ("path", path()),
        ("type", word(&["c", "b", "u", "p", "a"])),
        ("major", any::<i64>().prop_map(Value::from).boxed()),
        ("minor", any::<i64>().prop_map(Value::from).boxed()),
        ("fileMode", number()),
        ("uid", number()),
    ]);
    object(vec![
        ("namespaces", prop_oneof![3 => plain, 1 => list(namespace, 4)].boxed()),
        ("uidMappings", id_maps()),
        ("gidMappings", id_maps()),
        ("devices", list(device, 3)),
        ("rootfsPropagation", word(&["shared", "rslave", "private", "unbindable", "public", ""])),
        ("maskedPaths", list(path(), 3)),
        ("readonlyPaths", list(path(), 3)),
    ])
}

fn compile(bundle: &tempfile::TempDir, mounts: &Value, linux: &Value) -> Result<(), String> {
    let config = json!({
        "ociVersion": "1.3.0", "root": {"path": "rootfs"}, "mounts": mounts, "linux": linux,
        "process": {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0}}
    });
    std::fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
    let spec = read_config(bundle.path(), |_| {}).map_err(|error| error.to_string())?;
    let id = "container".parse().unwrap();
    preview(&id, bundle.path(), &spec, false).map(drop).map_err(|error| error.to_string())
}

/// Whether a message starts with a path in `mounts` or `linux`, after the file's name or without it.
fn names_a_path(message: &str) -> bool {
    let message = message.strip_prefix("config.json: ").unwrap_or(message);
    ["mounts", "linux"]
        .iter()
        .any(|field| message.strip_prefix(field).is_some_and(|rest| rest.starts_with(['.', ':', '['])))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_mounts_become_a_plan_or_are_refused_by_path(
        mounts in prop_oneof![6 => list(mount(), 4), 1 => wild()],
        linux in prop_oneof![3 => Just(json!({"namespaces": [{"type": "mount"}]})), 3 => linux()],
    ) {
        let bundle = tempfile::tempdir().unwrap();
        if let Err(message) = compile(&bundle, &mounts, &linux) {
            prop_assert!(names_a_path(&message), "{message}\n{mounts}\n{linux}");
        }
    }
}
