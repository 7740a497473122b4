//! `plan`: the compiled config as JSON, without anything being made.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::Scratch;
use serde_json::{Value, json};

#[test]
fn a_plan_shows_what_create_would_do_and_makes_nothing() {
    common::require_root!();
    let scratch = Scratch::new("plan");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "true"]);
    bundle.edit(|spec| {
        spec["hostname"] = json!("inner");
        spec["linux"]["resources"] = json!({"pids": {"limit": 42}});
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    });
    let plan = scratch.oci(["plan", "--bundle", bundle.arg(), "web"]).ok().json();
    let steps = plan["sandbox"]["steps"].as_array().unwrap();
    let at = |name: &str| steps.iter().position(|step| step["step"] == name);
    let order = [
        "enterCgroup",
        "hostname",
        "isolateMounts",
        "pivotRoot",
        "attach",
        "identity",
        "awaitStart",
        "capabilities",
        "execute",
    ];
    let places: Vec<usize> =
        order.iter().map(|name| at(name).unwrap_or_else(|| panic!("no {name}: {steps:?}"))).collect();
    assert!(places.is_sorted(), "{order:?} are at {places:?}");
    let named = |name: &str| -> &Value { &steps[at(name).unwrap()] };
    assert_eq!(named("hostname")["value"], "inner");
    assert_eq!(named("rlimit")["type"], "RLIMIT_CORE");
    assert!(named("capabilities")["bounding"].as_array().unwrap().contains(&json!("CAP_KILL")));
    assert!(steps.iter().all(|step| step["does"].as_str().is_some_and(|words| !words.is_empty())));
    assert!(plan["sandbox"]["clone"].as_array().unwrap().contains(&json!("pid")));
    assert_eq!(plan["sandbox"]["program"]["arguments"], json!(["/bin/sh", "-c", "true"]));
    let writes = plan["cgroup"]["writes"].as_array().unwrap();
    assert!(writes.iter().any(|write| write["file"] == "pids.max" && write["value"] == "42"), "{writes:?}");
    assert!(!scratch.oci_root().exists());
    bundle.edit(|spec| spec["process"]["cwd"] = json!("relative"));
    scratch.oci(["plan", "--bundle", bundle.arg()]).fails_with(&["config.json: process.cwd: "]);
    scratch.assert_clean();
}
