//! `update`: limits of a living container, by options and by JSON as engines send it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Bundle, Scratch};
use serde_json::json;

fn sleeping(scratch: &Scratch) -> Bundle {
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| {
        spec["linux"]["resources"] = json!({
            "memory": {"limit": 67_108_864}, "pids": {"limit": 50}, "cpu": {"quota": 50_000, "period": 100_000},
            "devices": [{"allow": false, "access": "rwm"}]
        });
    });
    bundle
}

/// The value of a limit, where this host keeps it; `files` are its names on v1 and v2.
fn limit(scratch: &Scratch, id: &str, controller: &str, files: [&str; 2]) -> String {
    let pid = scratch.oci(["state", id]).ok().json()["pid"].to_string();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let v1 = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers
            .split(',')
            .any(|name| name == controller)
            .then(|| format!("{controllers}{path}/{}", files[0]))
    });
    let v2 = || {
        groups
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .map(|path| format!("{}/{}", &path[1..], files[1]))
    };
    let path = format!("/sys/fs/cgroup/{}", v1.or_else(v2).unwrap());
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

#[test]
fn limits_of_a_running_container_are_changed_and_the_others_stay() {
    common::require_root!();
    let scratch = Scratch::new("update");
    let bundle = sleeping(&scratch);
    let id = scratch.name("update");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let memory = || limit(&scratch, &id, "memory", ["memory.limit_in_bytes", "memory.max"]);
    let pids = || limit(&scratch, &id, "pids", ["pids.max", "pids.max"]);
    assert_eq!((memory(), pids()), ("67108864".to_owned(), "50".to_owned()));
    scratch.oci(["update", "--memory", "128M", "--pids-limit", "70", &id]).ok();
    assert_eq!((memory(), pids()), ("134217728".to_owned(), "70".to_owned()));
    // What containerd and Docker send: everything, with zeros for what is to stay.
    let sent = json!({"memory": {"limit": 100_663_296, "swap": 0, "reservation": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}, "pids": {"limit": 0}});
    scratch.oci(["update", "--resources", "-", &id]).stdin(sent.to_string()).ok();
    assert_eq!((memory(), pids()), ("100663296".to_owned(), "70".to_owned()));
    scratch.oci(["update", "--cpu-quota", "25000", &id]).ok();
    let quota = limit(&scratch, &id, "cpu", ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(quota == "25000" || quota == "25000 100000", "{quota}");
    scratch.oci(["update", "--pids-limit", "-1", &id]).ok();
    assert_eq!(pids(), "max");
    // The device filter is none of update's business.
    scratch.oci(["exec", &id, "/bin/sh", "-c", "mknod /mem c 1 1 && cat /mem"]).exits(1);
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn a_refused_update_changes_nothing_and_names_the_limit() {
    common::require_root!();
    let scratch = Scratch::new("badupdate");
    let bundle = sleeping(&scratch);
    let id = scratch.name("badupdate");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    let pids = || limit(&scratch, &id, "pids", ["pids.max", "pids.max"]);
    let update = |arguments: &[&str]| scratch.oci(["update"]).args(arguments).arg(&id);
    update(&["--pids-limit", "60", "--cpuset-cpus", "9999"])
        .fails_with(&["linux.resources.cpu.cpus", "9999"]);
    assert_eq!(pids(), "50");
    update(&["--cpuset-cpus", "a"]).fails_with(&["linux.resources.cpu.cpus", "not a list"]);
    update(&["--memory", "lots"]).fails_with(&["\"lots\" is not a size"]);
    update(&["--kernel-memory", "1G"]).fails_with(&["--kernel-memory"]);
    let wrong = scratch.oci(["update", "-r", "-", &id]).stdin("{\"memory\": {\"limit\": \"x\"}}");
    wrong.fails_with(&["standard input: memory.limit: "]);
    scratch.oci(["kill", &id, "KILL"]).ok();
    common::eventually("it ends", || scratch.oci(["state", &id]).ok().json()["status"] == "stopped");
    update(&["--pids-limit", "60"]).fails_with(&["container not running"]);
    scratch.oci(["delete", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn schemata_are_for_containers_with_a_class_of_service() {
    common::require_root!();
    let scratch = Scratch::new("updaterdt");
    let bundle = sleeping(&scratch);
    let id = scratch.name("updaterdt");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let before = limit(&scratch, &id, "pids", ["pids.max", "pids.max"]);
    for option in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=50"] {
        let update = scratch.oci(["update", option, "--pids-limit", "60", &id]);
        update.fails_with(&["update: linux.intelRdt", "no class of service"]);
    }
    assert_eq!(limit(&scratch, &id, "pids", ["pids.max", "pids.max"]), before);
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}
