//! The systemd cgroup driver, where systemd is the first process: scripts/vm runs these tests in such a
//! machine.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::criu::{self, require_criu};
use common::{Bundle, Call, Scratch, eventually, require, require_root, systemd_runs};
use serde_json::{Value, json};

const MEBIBYTE: u64 = 1 << 20;

/// A sleeping container whose cgroupsPath is `slice:prefix:ID`.
fn sleeping(scratch: &Scratch, slice: &str, id: &str, resources: &Value) -> Bundle {
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(format!("{slice}:test:{id}"));
        spec["linux"]["resources"] = resources.clone();
    });
    bundle
}

fn run_detached(scratch: &Scratch, bundle: &Bundle, id: &str) {
    scratch.oci(["--systemd-cgroup", "run", "--detach", "--bundle", bundle.arg(), id]).ok();
}

/// What systemd says of a unit.
fn shown(unit: &str, property: &str) -> String {
    let show = Call::new("systemctl").args(["show", "--value", "--property", property, unit]);
    show.ok().stdout.trim().to_owned()
}

fn is_gone(unit: &str) -> bool {
    shown(unit, "LoadState") == "not-found"
}

fn cgroup_of(scratch: &Scratch, id: &str) -> String {
    let pid = scratch.oci(["state", id]).ok().json()["pid"].to_string();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

fn file(group: &str, name: &str) -> String {
    let path = format!("/sys/fs/cgroup{group}/{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

#[test]
fn a_scope_has_the_limits_as_properties_and_in_its_files() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    let scratch = Scratch::new("scope");
    let id = scratch.name("scope");
    let resources = json!({
        "memory": {"limit": 64 * MEBIBYTE, "reservation": 16 * MEBIBYTE, "swap": 64 * MEBIBYTE},
        "cpu": {"shares": 2048, "quota": 50_500, "period": 50_000, "cpus": "0"}, "pids": {"limit": 50},
        "unified": {"memory.high": (48 * MEBIBYTE).to_string(), "cgroup.max.depth": "5"},
        "devices": [{"allow": false, "access": "rwm"}]
    });
    let mut bundle = sleeping(&scratch, "whtest-inner.slice", &id, &resources);
    bundle.edit(|spec| {
        spec["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "7",
            "org.systemd.property.CollectMode": "'inactive-or-failed'"
        });
    });
    run_detached(&scratch, &bundle, &id);
    let unit = format!("test-{id}.scope");
    let group = cgroup_of(&scratch, &id);
    assert_eq!(group, format!("/whtest.slice/whtest-inner.slice/{unit}"));
    let memory = |mebibytes: u64| (mebibytes * MEBIBYTE).to_string();
    for (property, value) in [
        ("ActiveState", "active".to_owned()),
        ("Slice", "whtest-inner.slice".to_owned()),
        ("Delegate", "yes".to_owned()),
        ("ControlGroup", group.clone()),
        ("MemoryMax", memory(64)),
        ("MemoryLow", memory(16)),
        ("MemoryHigh", memory(48)),
        ("MemorySwapMax", "0".to_owned()),
        ("TasksMax", "50".to_owned()),
        ("AllowedCPUs", "0".to_owned()),
        ("CPUQuotaPerSecUSec", "1.010000s".to_owned()),
        ("CPUQuotaPeriodUSec", "50ms".to_owned()),
        ("TimeoutStopUSec", "7s".to_owned()),
        ("CollectMode", "inactive-or-failed".to_owned()),
    ] {
        let shown = shown(&unit, property);
        // 1.01s or 1.010000s, by systemd's version.
        assert!(
            shown == value || value == "1.010000s" && shown == "1.010s",
            "{property}: {shown}, not {value}"
        );
    }
    assert_eq!(file(&group, "memory.max"), memory(64));
    assert_eq!(file(&group, "pids.max"), "50");
    assert_eq!(file(&group, "cpu.max"), "50500 50000");
    assert_eq!(file(&group, "cgroup.max.depth"), "5");
    assert_eq!(file(&group, "cpuset.cpus"), "0");
    assert_eq!(shown(&unit, "CPUWeight"), file(&group, "cpu.weight"));
    // systemd may read its files again at any time, and changes nothing of the container then.
    Call::new("systemctl").arg("daemon-reload").ok();
    assert_eq!(file(&group, "cpu.max"), "50500 50000");
    scratch.oci(["exec", &id, "/bin/sh", "-c", "mknod /mem c 1 1 && cat /mem"]).exits(1);
    scratch.oci(["delete", "--force", &id]).ok();
    assert!(is_gone(&unit));
    scratch.assert_clean();
}

#[test]
fn an_update_reaches_systemd_and_the_files() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    let scratch = Scratch::new("scopeupdate");
    let id = scratch.name("scopeupdate");
    let bundle = sleeping(&scratch, "", &id, &json!({"pids": {"limit": 50}}));
    run_detached(&scratch, &bundle, &id);
    let unit = format!("test-{id}.scope");
    let group = cgroup_of(&scratch, &id);
    assert_eq!(group, format!("/system.slice/{unit}"));
    scratch.oci(["update", "--pids-limit", "60", "--memory", "33554432", "--cpu-quota", "1234", &id]).ok();
    assert_eq!((shown(&unit, "TasksMax"), file(&group, "pids.max")), ("60".to_owned(), "60".to_owned()));
    assert_eq!(shown(&unit, "MemoryMax"), "33554432");
    assert_eq!(file(&group, "memory.max"), "33554432");
    // systemd knows hundredths only; the kernel has the exact value.
    assert_eq!(file(&group, "cpu.max"), "1234 100000");
    let refused = ["update", "--pids-limit", "70", "--cpuset-cpus", "9999", &id];
    scratch.oci(refused).fails_with(&["linux.resources.cpu.cpus"]);
    assert_eq!((shown(&unit, "TasksMax"), file(&group, "pids.max")), ("60".to_owned(), "60".to_owned()));
    scratch.assert_clean();
    assert!(is_gone(&unit));
}

#[test]
fn limits_of_a_scope_are_enforced_and_nothing_is_left_after_run() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    let scratch = Scratch::new("scopelimit");
    let run = |name: &str, script: &str, resources: Value| {
        let id = scratch.name(name);
        let mut bundle = sleeping(&scratch, "", &id, &resources);
        bundle.edit(|spec| spec["process"]["args"] = json!(["/bin/sh", "-c", script]));
        let outcome = scratch.oci(["--systemd-cgroup", "run", "--bundle", bundle.arg(), &id]).outcome();
        assert!(is_gone(&format!("test-{id}.scope")), "{outcome}");
        outcome
    };
    let memory = json!({"memory": {"limit": 32 * MEBIBYTE, "swap": 32 * MEBIBYTE}});
    let hog = run("hog", "x=$(head -c 100000000 /dev/zero | tr '\\0' x)", memory);
    assert_eq!(hog.code, Some(137), "{hog}");
    let forks =
        run("forks", "sleep 9 & sleep 9 & sleep 9 & sleep 9 & echo all", json!({"pids": {"limit": 3}}));
    assert!(forks.code != Some(0) && forks.stderr.contains("fork"), "{forks}");
    scratch.assert_clean();
}

#[test]
fn a_scope_follows_the_container_through_its_life() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    let scratch = Scratch::new("scopelife");
    let id = scratch.name("scopelife");
    let bundle = sleeping(&scratch, "", &id, &json!({}));
    scratch.oci(["--systemd-cgroup", "create", "--bundle", bundle.arg(), &id]).ok();
    let unit = format!("test-{id}.scope");
    assert_eq!(shown(&unit, "ActiveState"), "active");
    scratch.oci(["start", &id]).ok();
    // The container's own cgroup is the root of what it sees, also for processes that join later.
    let seen = scratch.oci(["exec", &id, "/bin/cat", "/proc/self/cgroup"]).ok().stdout;
    assert!(seen.lines().any(|line| line == "0::/"), "{seen}");
    scratch.oci(["pause", &id]).ok();
    scratch.oci(["resume", &id]).ok();
    // A second container of the same scope is refused, and the first one lives on.
    let other = scratch.name("other");
    scratch
        .oci(["--systemd-cgroup", "create", "--bundle", bundle.arg(), &other])
        .fails_with(&["linux.cgroupsPath", "is not empty"]);
    assert_eq!(shown(&unit, "ActiveState"), "active");
    scratch.oci(["kill", &id, "KILL"]).ok();
    // systemd ends a scope whose last process has gone.
    eventually("the scope has ended", || is_gone(&unit));
    scratch.oci(["delete", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn a_restored_container_has_a_scope_with_its_limits_too() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    let found = require_criu!();
    let scratch = Scratch::new("scopecriu");
    let id = scratch.name("scopecriu");
    let bundle = sleeping(&scratch, "whtest-criu.slice", &id, &json!({"pids": {"limit": 50}}));
    run_detached(&scratch, &bundle, &id);
    let unit = format!("test-{id}.scope");
    let image = scratch.path().join("image").to_str().unwrap().to_owned();
    criu::with(scratch.oci(["checkpoint", "--image-path", &image, &id]), &found).ok();
    assert!(is_gone(&unit));
    let restore = |id: &str| {
        let call = scratch.oci(["--systemd-cgroup", "restore", "--detach", "--image-path", &image]);
        criu::with(call, &found).args(["--bundle", bundle.arg(), id])
    };
    restore(&id).ok();
    let group = cgroup_of(&scratch, &id);
    assert_eq!(group, format!("/whtest.slice/whtest-criu.slice/{unit}"));
    assert_eq!(shown(&unit, "ActiveState"), "active");
    assert_eq!((shown(&unit, "TasksMax"), file(&group, "pids.max")), ("50".to_owned(), "50".to_owned()));
    // CRIU itself was its first process, and has left.
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].to_string();
    assert_eq!(file(&group, "cgroup.procs"), pid);
    scratch.oci(["update", "--pids-limit", "60", &id]).ok();
    assert_eq!((shown(&unit, "TasksMax"), file(&group, "pids.max")), ("60".to_owned(), "60".to_owned()));
    // A second one of the same scope is refused, and the first one lives on.
    restore(&scratch.name("other")).fails_with(&["linux.cgroupsPath", "is not empty"]);
    assert_eq!(shown(&unit, "ActiveState"), "active");
    scratch.oci(["delete", "--force", &id]).ok();
    assert!(is_gone(&unit));
    std::fs::remove_file(scratch.path().join("image/inventory.img")).unwrap();
    restore(&id).fails_with(&["criu restore failed"]);
    assert!(is_gone(&unit));
    scratch.assert_clean();
}

#[test]
fn a_create_that_is_killed_while_it_talks_to_systemd_can_be_cleaned_up() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    require!(common::program_exists("strace"), "needs strace");
    let scratch = Scratch::new("scopekill");
    let id = scratch.name("scopekill");
    let bundle = sleeping(&scratch, "", &id, &json!({"pids": {"limit": 50}}));
    let create = |inject: &str| {
        let call = Call::new("strace").args(["-qq", "-o", "/dev/null", "-e", inject]);
        scratch.oci_by(call, ["--systemd-cgroup", "create", "--bundle", bundle.arg(), &id]).outcome()
    };
    let unit = format!("test-{id}.scope");
    // Hello, AddMatch, Subscribe, StartTransientUnit; the device filter comes when the scope is there.
    let moments =
        [("connect", 1), ("sendto", 3), ("sendto", 6), ("recvfrom", 10), ("recvfrom", 12), ("bpf", 1)];
    for (call, count) in moments {
        let outcome = create(&format!("inject={call}:signal=SIGKILL:when={count}"));
        assert!(outcome.signal == Some(9), "{call} {count}: {outcome}");
        scratch.oci(["delete", "--force", &id]).ok();
        eventually("the scope is gone", || is_gone(&unit));
        eventually("nothing is left", || scratch.leftovers().is_empty());
    }
    // The same for a record that cannot be read any more.
    scratch.oci(["--systemd-cgroup", "create", "--bundle", bundle.arg(), &id]).ok();
    std::fs::write(scratch.oci_root().join(&id).join("state.json"), "{").unwrap();
    scratch.oci(["delete", "--force", &id]).ok();
    assert!(is_gone(&unit));
    scratch.assert_clean();
}

#[test]
fn what_systemd_cannot_take_is_refused_before_anything_exists() {
    require_root!();
    let scratch = Scratch::new("scopebad");
    let id = scratch.name("scopebad");
    let mut bundle = sleeping(&scratch, "system.slice", &id, &json!({}));
    let plain = || scratch.oci(["create", "--bundle", bundle.arg(), &id]);
    plain().fails_with(&["linux.cgroupsPath", "--systemd-cgroup"]);
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!("/a/path"));
    let create = |bundle: &Bundle| scratch.oci(["--systemd-cgroup", "create", "--bundle", bundle.arg(), &id]);
    create(&bundle).fails_with(&["linux.cgroupsPath", "slice:prefix:name"]);
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!("system.slice:test:x");
        spec["annotations"] = json!({"org.systemd.property.TimeoutStopUSec": "soon"});
    });
    if systemd_runs() {
        create(&bundle).fails_with(&["org.systemd.property.TimeoutStopUSec", "GVariant"]);
    } else {
        create(&bundle).fails_with(&["systemd as the first process", "cgroupfs"]);
    }
    assert!(!scratch.oci_root().join(&id).exists());
}

#[test]
fn what_systemd_refuses_is_told_in_its_words_and_leaves_nothing() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    let scratch = Scratch::new("scoperefused");
    let id = scratch.name("scoperefused");
    let mut bundle = sleeping(&scratch, "", &id, &json!({}));
    bundle.edit(|spec| spec["annotations"] = json!({"org.systemd.property.NoSuchThing": "true"}));
    scratch
        .oci(["--systemd-cgroup", "create", "--bundle", bundle.arg(), &id])
        .fails_with(&["StartTransientUnit", "NoSuchThing"]);
    assert!(is_gone(&format!("test-{id}.scope")));
    scratch.assert_clean();
}

#[test]
fn without_a_cgroup_namespace_a_container_sees_its_scope_and_nothing_above() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    let scratch = Scratch::new("scopens");
    let id = scratch.name("own");
    let mut bundle = sleeping(&scratch, "", &id, &json!({}));
    bundle.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    });
    run_detached(&scratch, &bundle, &id);
    let script = "grep ' - cgroup' /proc/self/mountinfo | cut -d ' ' -f 4; cat /sys/fs/cgroup/cgroup.procs";
    let told = scratch.oci(["exec", &id, "/bin/sh", "-c", script]).ok().stdout;
    let root = told.lines().next().unwrap_or_default().to_owned();
    assert!(root.ends_with(&format!("{id}.scope")), "{told}");
    assert!(told.lines().any(|pid| pid == "1"), "its own processes are in it: {told}");
    scratch.oci(["delete", "--force", &id]).ok();
}
