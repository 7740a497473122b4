//! Capability sets that stay empty unless asked for.

use crate::common::{self, Scratch};

const SHOW: [&str; 3] = ["/bin/grep", "^Cap", "/proc/self/status"];

fn set(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
}

#[test]
fn cve_2022_24769_inheritable_and_ambient_sets_are_empty_in_run_and_exec() {
    common::require_root!();
    let scratch = Scratch::new("caps");
    let asked = 1 << 29 | 1 << 5 | 1 << 10;
    let run = scratch.run(&scratch.bundle(&SHOW));
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("caps");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).ok();
    let exec = scratch.oci(["exec", &id]).args(SHOW).ok();
    let asked_for_more = scratch.oci(["exec", "--cap", "CAP_NET_RAW", &id]).args(SHOW).ok();
    for (outcome, asked) in [(run, asked), (exec, asked), (asked_for_more, asked | 1 << 13)] {
        for name in ["CapInh", "CapAmb"] {
            assert_eq!(set(&outcome.stdout, name), 0, "{name}\n{outcome}");
        }
        for name in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(set(&outcome.stdout, name), asked, "{name}\n{outcome}");
        }
    }
}

#[test]
fn a_user_other_than_root_gets_no_capability_by_default() {
    common::require_root!();
    let scratch = Scratch::new("capsu");
    let mut bundle = scratch.bundle(&SHOW);
    bundle.edit(|spec| spec["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000}));
    let outcome = scratch.run(&bundle);
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(set(&outcome.stdout, name), 0, "{name}\n{outcome}");
    }
}
