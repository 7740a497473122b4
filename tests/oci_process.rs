//! What `process` and `linux` of a config say about the process itself, seen from inside.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Bundle, Scratch};
use serde_json::{Value, json};

/// What a shell script prints in a container made with this change of the config.
fn inside(scratch: &Scratch, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    bundle.edit(change);
    let id = scratch.name("process");
    scratch.oci(["run", "--bundle", bundle.arg(), &id]).ok().stdout
}

/// Fails with every text in one line, and leaves nothing.
fn refused(scratch: &Scratch, texts: &[&str], change: impl FnOnce(&mut Value)) {
    let mut bundle = scratch.bundle(&["/bin/true"]);
    bundle.edit(change);
    let id = scratch.name("refused");
    scratch.oci(["run", "--bundle", bundle.arg(), &id]).fails_with(texts);
}

/// A container that sleeps, its bundle and its id.
fn sleeper(scratch: &Scratch, change: impl FnOnce(&mut Value)) -> (Bundle, String) {
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(change);
    let id = scratch.name("sleeper");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    (bundle, id)
}

#[test]
fn the_scheduler_has_the_policy_and_its_attributes() {
    common::require_root!();
    let scratch = Scratch::new("scheduler");
    // proc_pid_stat(5): nice and policy.
    let stat = |scheduler: Value| {
        inside(&scratch, "cut -d' ' -f19,41 /proc/$$/stat", |spec| {
            spec["process"]["scheduler"] = scheduler;
        })
    };
    assert_eq!(stat(json!({"policy": "SCHED_BATCH", "nice": 7})), "7 3\n");
    assert_eq!(stat(json!({"policy": "SCHED_IDLE"})), "0 5\n");
    assert_eq!(stat(json!({"policy": "SCHED_OTHER", "nice": -3})), "-3 0\n");
    refused(&scratch, &["process.scheduler.priority"], |spec| {
        spec["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 100});
    });
}

#[test]
fn the_io_priority_is_set() {
    common::require_root!();
    let scratch = Scratch::new("ioprio");
    let ionice =
        |priority: Value| inside(&scratch, "ionice -p $$", |spec| spec["process"]["ioPriority"] = priority);
    assert_eq!(ionice(json!({"class": "IOPRIO_CLASS_BE", "priority": 6})), "best-effort: prio 6\n");
    assert!(ionice(json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0})).starts_with("idle"));
    refused(&scratch, &["process.ioPriority.priority", "8"], |spec| {
        spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
    });
}

#[test]
fn an_exec_runs_on_its_final_cpus_and_the_containers_init_on_all() {
    common::require_root!();
    let scratch = Scratch::new("affinity");
    let (_bundle, id) = sleeper(&scratch, |spec| {
        spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    });
    let allowed = |pid: &str| {
        let script = format!("grep Cpus_allowed_list /proc/{pid}/status | cut -f2");
        scratch.oci(["exec", &id, "/bin/sh", "-c", &script]).ok().stdout
    };
    assert_eq!(allowed("self"), "0\n");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    assert_eq!(allowed("1").trim(), own.trim());
    refused(&scratch, &["process.execCPUAffinity.final"], |spec| {
        spec["process"]["execCPUAffinity"] = json!({"final": "5000"});
    });
}

#[test]
fn the_personality_is_that_of_a_32_bit_kernel() {
    common::require_root!();
    let scratch = Scratch::new("personality");
    let machine = |domain: &str| {
        inside(&scratch, "uname -m", |spec| spec["linux"]["personality"] = json!({"domain": domain}))
    };
    assert_ne!(machine("LINUX32"), machine("LINUX"));
    refused(&scratch, &["linux.personality.flags[0]", "ADDR_NO_RANDOMIZE"], |spec| {
        spec["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]});
    });
}

#[test]
fn the_memory_policy_holds_for_the_container_and_for_what_joins_it() {
    common::require_root!();
    let scratch = Scratch::new("numa");
    let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    // Every mapping without a policy of its own shows the task's.
    let script = "head -n 1 /proc/self/numa_maps";
    let shown = inside(&scratch, script, |spec| spec["linux"]["memoryPolicy"] = policy.clone());
    assert!(shown.contains("bind=static:0"), "{shown}");
    let (_bundle, id) = sleeper(&scratch, |spec| spec["linux"]["memoryPolicy"] = policy);
    let shown = scratch.oci(["exec", &id, "/bin/sh", "-c", script]).ok().stdout;
    assert!(shown.contains("bind=static:0"), "{shown}");
    refused(&scratch, &["linux.memoryPolicy.nodes", "at least one node"], |spec| {
        spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": ""});
    });
}
