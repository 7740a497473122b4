//! `spec`: the config to start from.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::Scratch;
use serde_json::{Value, json};

#[test]
fn the_rootless_config_runs_in_a_user_namespace_of_the_caller() {
    common::require_root!();
    let scratch = Scratch::new("rootless");
    let bundle = scratch.bundle(&["/bin/true"]);
    let path = bundle.path.join("config.json");
    std::fs::remove_file(&path).unwrap();
    scratch.oci(["spec", "--rootless", "--bundle", bundle.arg()]).ok();
    scratch.oci(["spec", "--rootless", "--bundle", bundle.arg()]).fails_with(&["config.json exists"]);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "-c", "id -u; cat /proc/self/uid_map; ls /sys/class/net"]);
    std::fs::write(&path, config.to_string()).unwrap();
    let id = scratch.name("rootless");
    let outcome = scratch.oci(["run", "--bundle", bundle.arg(), &id]).ok();
    let words: Vec<_> = outcome.stdout.split_whitespace().collect();
    assert_eq!(words[..4], ["0", "0", "0", "1"], "{outcome}");
    assert!(words.contains(&"lo"), "{outcome}");
    scratch.assert_clean();
}
