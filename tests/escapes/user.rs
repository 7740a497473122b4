//! Who a process is: user, group and supplementary groups, in numbers that cannot wrap or be renamed.

use crate::common::{self, Call, Scratch};
use serde_json::json;

/// A passwd in which every number is also a name, that of root.
const TRAP: &str = "root:x:0:0:root:/root:/bin/sh\n1:x:0:0:trap:/:/bin/sh\n4294967296:x:0:0:trap:/:/bin/sh\n-1:x:0:0:trap:/:/bin/sh\n";

#[test]
fn cve_2016_3697_exec_takes_a_number_for_a_number() {
    common::require_root!();
    let scratch = Scratch::new("user");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.write("etc/passwd", TRAP);
    let id = scratch.name("user");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).ok();
    let show = ["/bin/sh", "-c", "echo $(id -u) $(id -g)"];
    for (user, shown) in [("1", "1 0"), ("1:2", "1 2"), ("65534:65534", "65534 65534")] {
        let outcome = scratch.oci(["exec", "--user", user, &id]).args(show).ok();
        assert_eq!(outcome.text(), shown, "--user {user}");
    }
}

#[test]
fn cve_2024_40635_numbers_beyond_32_bits_are_refused() {
    common::require_root!();
    let scratch = Scratch::new("wrap");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.write("etc/passwd", TRAP);
    let id = scratch.name("wrap");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).ok();
    for user in ["4294967296", "4294967296:0", "-1", "1:4294967296", "4294967295", "0x0", ""] {
        let outcome = scratch.oci(["exec", "--user", user, &id, "/bin/id", "-u"]).outcome();
        assert!(!outcome.success() && outcome.stdout.is_empty(), "--user {user:?}\n{outcome}");
    }
    for uid in [json!(4_294_967_296_u64), json!(-1), json!("1")] {
        let mut bundle = scratch.bundle(&["/bin/id", "-u"]);
        bundle.edit(|spec| spec["process"]["user"]["uid"] = uid.clone());
        let outcome = scratch.run(&bundle);
        assert!(!outcome.success() && outcome.stdout.is_empty(), "uid {uid}\n{outcome}");
        assert!(outcome.stderr.contains("process.user.uid"), "the error names the path\n{outcome}");
    }
}

#[test]
fn cve_2022_36109_groups_are_exactly_those_asked_for() {
    common::require_root!();
    common::require!(common::program_exists("setpriv"), "needs setpriv (util-linux)");
    let scratch = Scratch::new("groups");
    for (asked, shown) in [(json!([]), ""), (json!([5, 2000]), "5 2000")] {
        let mut bundle =
            scratch.bundle(&["/bin/sh", "-c", "sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status"]);
        bundle.edit(|spec| {
            spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": asked});
        });
        // The caller has groups of its own, which must not come along.
        let caller = Call::new("setpriv").args(["--groups=4,27,999"]);
        let id = scratch.name("groups");
        let outcome = scratch.oci_by(caller, ["run", "--bundle", bundle.arg(), &id]).ok();
        assert_eq!(outcome.text(), shown, "{outcome}");
    }
}

#[test]
fn cve_2022_36109_exec_brings_no_groups_of_its_caller() {
    common::require_root!();
    common::require!(common::program_exists("setpriv"), "needs setpriv (util-linux)");
    let scratch = Scratch::new("groupsx");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("groups");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).ok();
    let caller = Call::new("setpriv").args(["--groups=4,27,999"]);
    let print = ["exec", "--user", "1000:1000", &id, "/bin/grep", "^Groups:", "/proc/self/status"];
    let outcome = scratch.oci_by(caller, print).ok();
    assert_eq!(outcome.text(), "Groups:", "{outcome}");
}

#[test]
fn cve_2021_43784_an_id_map_too_long_for_its_carrier_is_refused() {
    common::require_root!();
    let scratch = Scratch::new("maps");
    let entry = |number: u32| json!({"containerID": number, "hostID": 100_000 + number, "size": 1});
    let maps: Vec<_> = (0..5000).map(entry).collect();
    let mut bundle = scratch.bundle(&["/bin/echo", "RAN"]);
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = json!(maps);
        spec["linux"]["gidMappings"] = json!(maps);
    });
    let outcome = scratch.run(&bundle);
    assert!(!outcome.success() && outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{outcome}");
}

#[test]
fn cve_2024_40635_the_number_that_stands_for_no_id_is_refused_by_path() {
    common::require_root!();
    let scratch = Scratch::new("noid");
    let standing = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("noid");
    scratch.oci(["run", "-d", "--bundle", standing.arg(), &id]).ok();
    for user in ["4294967295", "5:4294967295"] {
        scratch
            .oci(["exec", "--user", user, &id, "/bin/id"])
            .fails_with(&["process.user", "4294967295 is no id"]);
    }
    scratch.oci(["exec", "-g", "4294967295", &id, "/bin/id"]).fails_with(&["process.user.additionalGids[0]"]);
    for (user, at) in [
        (json!({"uid": u32::MAX, "gid": 5}), "process.user.uid"),
        (json!({"uid": 5, "gid": u32::MAX}), "process.user.gid"),
        (json!({"uid": 5, "gid": 5, "additionalGids": [1, u32::MAX]}), "process.user.additionalGids[1]"),
    ] {
        let mut bundle = scratch.bundle(&["/bin/id"]);
        bundle.edit(|spec| spec["process"]["user"] = user);
        scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("no")]).fails_with(&[at, "is no id"]);
    }
    let mut bundle = scratch.bundle(&["/bin/id"]);
    let device = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": u32::MAX, "gid": 0});
    bundle.edit(|spec| spec["linux"]["devices"] = json!([device]));
    scratch
        .oci(["run", "--bundle", bundle.arg(), &scratch.name("device")])
        .fails_with(&["linux.devices[0].uid"]);
}
