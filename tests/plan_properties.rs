//! Whatever stands in a config, it becomes a Plan or an error that names a JSON path; never a panic.
#![allow(missing_docs, clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wharf::container::{preview, read_config};

/// JSON of any kind: what a field expects least.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text(),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![any::<String>(), "[ -~]{0,12}", "\\PC{0,4}\u{0}", "[0-9,-]{0,8}", "/[a-z./]{0,20}"]
        .prop_map(Value::from)
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![-30i64..130, any::<i64>(), Just(i64::MAX)].prop_map(Value::from)
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(words).prop_map(Value::from)
}

fn list(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec(of, 0..4).prop_map(Value::from)
}

/// An object with some of these fields.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let values: Vec<_> = values.into_iter().map(prop::option::of).collect();
    values
        .prop_map(move |values| {
            let given =
                names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            Value::Object(given.collect::<Map<_, _>>())
        })
        .boxed()
}

const POLICIES: &[&str] =
    &["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
const FLAGS: &[&str] =
    &["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_X"];
const CLASSES: &[&str] = &["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE", "IOPRIO_CLASS_NONE"];
const CAPABILITIES: &[&str] = &["CAP_KILL", "CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_MOON", "kill", ""];
const LIMITS: &[&str] = &["RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_RTTIME", "RLIMIT_AS", "RLIMIT_X"];

fn process() -> BoxedStrategy<Value> {
    let capabilities = || list(one_of(CAPABILITIES)).boxed();
    let limit = object(vec![
        ("type", one_of(LIMITS).boxed()),
        ("soft", number().boxed()),
        ("hard", number().boxed()),
    ]);
    let user = object(vec![
        ("uid", number().boxed()),
        ("gid", number().boxed()),
        ("umask", number().boxed()),
        ("additionalGids", list(number()).boxed()),
        ("username", text().boxed()),
    ]);
    let scheduler = object(vec![
        ("policy", one_of(POLICIES).boxed()),
        ("nice", number().boxed()),
        ("priority", number().boxed()),
        ("flags", list(one_of(FLAGS)).boxed()),
        ("runtime", number().boxed()),
        ("deadline", number().boxed()),
        ("period", number().boxed()),
    ]);
    object(vec![
        ("terminal", any::<bool>().prop_map(Value::from).boxed()),
        ("consoleSize", object(vec![("height", number().boxed()), ("width", number().boxed())])),
        ("user", user),
        ("args", list(text()).boxed()),
        ("commandLine", text().boxed()),
        ("env", list(prop_oneof![Just(json!("A=1")), text()]).boxed()),
        ("cwd", text().boxed()),
        (
            "capabilities",
            object(vec![
                ("bounding", capabilities()),
                ("effective", capabilities()),
                ("permitted", capabilities()),
                ("inheritable", capabilities()),
                ("ambient", capabilities()),
            ]),
        ),
        ("rlimits", list(limit).boxed()),
        ("noNewPrivileges", any::<bool>().prop_map(Value::from).boxed()),
        ("apparmorProfile", text().boxed()),
        ("selinuxLabel", text().boxed()),
        ("oomScoreAdj", number().boxed()),
        ("ioPriority", object(vec![("class", one_of(CLASSES).boxed()), ("priority", number().boxed())])),
        ("scheduler", scheduler),
        ("execCPUAffinity", object(vec![("initial", text().boxed()), ("final", text().boxed())])),
    ])
}

/// A process that is right but for a few fields, replaced by something generated.
fn mostly_right() -> impl Strategy<Value = Value> {
    let right = json!({"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/"});
    (process(), prop::collection::btree_set(0..16usize, 0..4), anything()).prop_map(
        move |(generated, chosen, wild)| {
            let mut process = right.clone();
            for (index, (name, value)) in generated.as_object().unwrap().iter().enumerate() {
                if chosen.contains(&index) {
                    process[name] = if index % 5 == 4 { wild.clone() } else { value.clone() };
                }
            }
            process
        },
    )
}

fn compile(bundle: &tempfile::TempDir, process: &Value) -> Result<(), String> {
    let config = json!({
        "ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": process,
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}]}
    });
    std::fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
    let spec = read_config(bundle.path(), |_| {}).map_err(|error| error.to_string())?;
    let id = "container".parse().unwrap();
    preview(&id, bundle.path(), &spec, false).map(drop).map_err(|error| error.to_string())
}

/// Whether a message starts with a path below `process`, after the file's name or without it.
fn names_a_path(message: &str) -> bool {
    let message = message.strip_prefix("config.json: ").unwrap_or(message);
    message.strip_prefix("process").is_some_and(|rest| rest.starts_with(['.', ':', '[']))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_process_becomes_a_plan_or_is_refused_by_path(process in prop_oneof![process(), mostly_right()]) {
        let bundle = tempfile::tempdir().unwrap();
        if let Err(message) = compile(&bundle, &process) {
            prop_assert!(names_a_path(&message), "{message}\n{process}");
        }
    }

    #[test]
    fn a_process_of_any_shape_is_refused_by_path(process in anything()) {
        let bundle = tempfile::tempdir().unwrap();
        let message = compile(&bundle, &process).unwrap_err();
        prop_assert!(names_a_path(&message), "{message}\n{process}");
    }
}

#[test]
fn the_right_process_is_accepted() {
    let bundle = tempfile::tempdir().unwrap();
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/"});
    assert_eq!(compile(&bundle, &process), Ok(()));
}
