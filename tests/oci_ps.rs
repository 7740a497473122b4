//! `ps`: the processes of a container, as engines ask for them.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::Scratch;

#[test]
fn processes_are_listed_as_host_pids_and_as_rows_of_ps() {
    common::require_root!();
    let scratch = Scratch::new("ps");
    let bundle = scratch.bundle(&["/bin/sleep", "1001"]);
    let id = scratch.name("ps");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["exec", "--detach", &id, "/bin/sleep", "1002"]).ok();
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].clone();
    for arguments in [["ps", "--format", "json", &id], ["ps", "-f", "json", &id]] {
        let pids = scratch.oci(arguments).ok().json();
        let pids = pids.as_array().unwrap();
        assert!(pids.len() == 2 && pids.contains(&pid), "{pids:?}");
    }
    let table = scratch.oci(["ps", &id]).ok().stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.starts_with("UID") && table.contains("sleep 1001") && table.contains("sleep 1002"),
        "{table}"
    );
    let own = scratch.oci(["ps", &id, "-e", "-o", "pid,comm"]).ok().stdout;
    assert_eq!(own.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND"]);
    assert_eq!(own.lines().count(), 3, "{own}");
    scratch.oci(["ps", &id, "-o", "comm"]).fails_with(&["no column PID"]);
    scratch.oci(["ps", "absent"]).fails_with(&["does not exist"]);
    scratch.oci(["kill", &id, "KILL"]).ok();
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}
