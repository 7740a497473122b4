//! `events`: statistics and OOM kills as lines of JSON.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Scratch, eventually};
use serde_json::{Value, json};

#[test]
fn statistics_have_the_form_that_engines_read() {
    common::require_root!();
    let scratch = Scratch::new("stats");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "head -c 5000000 /dev/zero > /dev/shm/x; sleep 1000"]);
    bundle.edit(|spec| {
        spec["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 50}});
    });
    let id = scratch.name("stats");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let event = || scratch.oci(["events", "--stats", &id]).ok().json();
    eventually("its memory is counted", || {
        event()["data"]["memory"]["usage"]["usage"].as_u64() > Some(5_000_000)
    });
    let event = event();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(id)));
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert_eq!(data["pids"]["limit"], 50);
    assert!(data["pids"]["current"].as_u64() >= Some(1), "{data}");
    assert!(data["cpu"]["usage"]["total"].as_u64() > Some(1_000_000), "nanoseconds: {data}");
    assert!(data["memory"]["raw"].as_object().unwrap().len() > 10, "{data}");
    assert!(data["blkio"]["ioServiceBytesRecursive"].is_array(), "{data}");
    scratch.oci(["events", "--interval", "0s", &id]).fails_with(&["--interval"]);
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.oci(["events", "--stats", &id]).fails_with(&["does not exist"]);
    scratch.assert_clean();
}

#[test]
fn an_oom_kill_is_told_and_events_end_with_the_container() {
    common::require_root!();
    let scratch = Scratch::new("oom");
    let greedy = "test -e /go || while ! test -e /go; do sleep 0.1; done; tail /dev/zero; sleep 0.5; exit 3";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", greedy]);
    bundle.edit(|spec| {
        spec["linux"]["resources"] = json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}});
    });
    let id = scratch.name("oom");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let running = scratch.oci(["events", "--interval", "300ms", &id]).stdin("").spawn();
    eventually("statistics come", || running.stdout().contains("\"stats\""));
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(0), "{outcome}");
    let kinds: Vec<String> = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "oom").count(), 1, "{kinds:?}");
    scratch.oci(["delete", &id]).ok();
    scratch.assert_clean();
}
