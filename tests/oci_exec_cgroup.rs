//! `exec --cgroup`: a process in a cgroup below the container's.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::Scratch;
use common::cgroups::groups;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Makes a group below; a v1 cpuset takes no process before it has CPUs and memory.
fn make_below(directory: &Path, name: &str) {
    let below = directory.join(name);
    std::fs::create_dir(&below).unwrap();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if below.join("cpuset.memory_migrate").exists() {
            std::fs::write(below.join(file), std::fs::read(directory.join(file)).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_process_joins_an_existing_cgroup_below_the_containers_and_no_other() {
    common::require_root!();
    let scratch = Scratch::new("below");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("below");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let init = scratch.oci(["state", &id]).ok().json()["pid"].to_string();
    let own = groups(&init);
    own.iter().for_each(|(_, directory)| make_below(directory, "jobs"));
    let pid_file = scratch.path().join("pid");
    let exec = |cgroup: &[&str]| {
        let call = scratch.oci(["exec", "--detach", "--pid-file", pid_file.to_str().unwrap()]);
        call.args(cgroup).args([&id, "/bin/sleep", "1000"]).ok();
        groups(&std::fs::read_to_string(&pid_file).unwrap())
    };
    let below = |inside: &dyn Fn(&str) -> bool| {
        let place = |(controllers, directory): &(String, PathBuf)| {
            let suffix = if inside(controllers) { "jobs" } else { "" };
            (controllers.clone(), directory.join(suffix).components().collect())
        };
        own.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(exec(&[]), own);
    assert_eq!(exec(&["--cgroup", "/jobs"]), below(&|_| true));
    match own.iter().any(|(controllers, _)| controllers == "pids") {
        true => assert_eq!(exec(&["--cgroup", "pids:jobs"]), below(&|name| name == "pids")),
        false => {
            let call = scratch.oci(["exec", "--cgroup", "pids:jobs", &id, "/bin/true"]);
            call.fails_with(&["no v1 hierarchy has the controller pids"]);
        }
    }
    for (wrong, why) in [("../..", "climbs"), ("absent", "it must exist"), ("moon:jobs", "no v1 hierarchy")] {
        let call = scratch.oci(["exec", "--cgroup", wrong, &id, "/bin/true"]);
        call.exits(255).stderr.contains(why).then_some(()).expect(why);
    }
    scratch.oci(["delete", "--force", &id]).ok();
    assert!(own.iter().all(|(_, directory)| !directory.exists()), "{own:?}");
    scratch.assert_clean();
}

#[test]
fn exec_joins_an_init_that_manages_cgroups_of_its_own() {
    common::require_root!();
    let scratch = Scratch::new("manager");
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let hybrid = std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    if hybrid.contains("hugetlb") {
        // Has the controller enabled for the container, so that it can be handed on.
        bundle.edit(|spec| {
            spec["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
        });
    }
    let id = scratch.name("manager");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let init = scratch.oci(["state", &id]).ok().json()["pid"].to_string();
    let own = groups(&init).into_iter().find(|(controllers, _)| controllers.is_empty());
    let own = own.map(|(_, directory)| directory).expect("every tested host has cgroup2");
    // What systemd does: itself into a leaf, controllers for the others.
    make_below(&own, "init.scope");
    std::fs::write(own.join("init.scope/cgroup.procs"), &init).unwrap();
    let offered = std::fs::read_to_string(own.join("cgroup.controllers")).unwrap();
    let controller = offered.split_whitespace().next().expect("a controller on cgroup2");
    std::fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    let pid_file = scratch.path().join("pid");
    let exec = ["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), &id, "/bin/sleep", "1000"];
    scratch.oci(exec).ok();
    let joined = groups(&std::fs::read_to_string(&pid_file).unwrap());
    assert!(joined.iter().any(|(_, directory)| *directory == own.join("init.scope")), "{joined:?}");
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}
