//! wharf-oci called by a user without privileges, and by root of a user namespace.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Scratch, User, eventually, require_root};
use serde_json::json;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

#[test]
fn a_user_runs_what_spec_rootless_writes() {
    require_root!();
    let scratch = Scratch::new("rlspec");
    let user = User::new(&scratch);
    let script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; hostname; \
                  ls /dev; echo $$; touch /made; cat /proc/sys/kernel/ngroups_max > /dev/null && echo proc; \
                  echo x > /dev/null && head -c 1 /dev/zero | wc -c";
    let bundle = user.bundle(&["/bin/sh", "-c", script]);
    let outcome = user.run(&bundle).ok();
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    let uid = user.uid.to_string();
    let begin = ["0", "0", "0", &uid, "1", "0", &uid, "1", "deny", "wharf"];
    assert_eq!(words[..begin.len()], begin, "{outcome}");
    for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "shm", "pts"] {
        assert!(words.contains(&device), "/dev/{device}: {outcome}");
    }
    assert_eq!(words[words.len() - 3..], ["1", "proc", "1"], "{outcome}");
    let made = std::fs::metadata(bundle.rootfs().join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (user.uid, user.uid), "root inside is the user outside");
    // State is where runc's would be, for nobody else to look into, and is gone with the container.
    let state = user.home().join("wharf-oci");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
}

#[test]
fn the_programs_status_and_its_absence_reach_the_user() {
    require_root!();
    let scratch = Scratch::new("rlexit");
    let user = User::new(&scratch);
    user.run(&user.bundle(&["/bin/sh", "-c", "exit 7"])).exits(7);
    let missing = user.run(&user.bundle(&["nowhere"])).fails_with(&["executable file not found in $PATH"]);
    assert_eq!(missing.code, Some(1));
    assert_eq!(user.oci(["list", "-q"]).ok().stdout, "");
}

#[test]
fn a_user_leads_a_container_through_its_life() {
    require_root!();
    let scratch = Scratch::new("rllife");
    let user = User::new(&scratch);
    let mut bundle = user.bundle(&["/bin/sh", "-c", "sleep 1000 & exec sleep 1000"]);
    bundle.edit(|spec| spec["process"]["oomScoreAdj"] = json!(300));
    let id = scratch.name("life");
    let pid_file = user.home().join("pid");
    let status = || user.oci(["state", &id]).ok().json()["status"].as_str().unwrap().to_owned();
    user.oci(["create", "--bundle", bundle.arg(), "--pid-file", pid_file.to_str().unwrap(), &id]).ok();
    assert_eq!(status(), "created");
    // Entered before its program runs, and after.
    assert_eq!(user.oci(["exec", &id, "id", "-u"]).ok().text(), "0");
    user.oci(["start", &id]).ok();
    assert_eq!(status(), "running");
    let inside = "hostname; cat /proc/1/oom_score_adj /proc/self/oom_score_adj; exit 9";
    let entered = user.oci(["exec", &id, "/bin/sh", "-c", inside]).exits(9);
    assert_eq!(entered.stdout, "wharf\n300\n300\n");
    eventually("both processes are listed", || {
        let pids = user.oci(["ps", "--format", "json", &id]).ok().json();
        let pid: i64 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        pids.as_array().unwrap().len() == 2 && pids.as_array().unwrap().contains(&json!(pid))
    });
    let listed = user.oci(["list"]).ok();
    assert!(listed.stdout.contains(&id) && listed.stdout.contains("running"), "{listed}");
    // What needs a cgroup says so.
    user.oci(["pause", &id]).fails_with(&["cannot be paused", "no cgroup"]);
    user.oci(["events", "--stats", &id]).fails_with(&["no cgroup"]);
    user.oci(["update", "--memory", "100000000", &id]).fails_with(&["no cgroup"]);
    user.oci(["checkpoint", "--image-path", user.home().join("image").to_str().unwrap(), &id])
        .fails_with(&["checkpoint", "root of the host"]);
    // Another user can neither see nor touch it.
    let neighbour = user.neighbour();
    neighbour.oci(["state", &id]).fails_with(&["Permission denied"]);
    neighbour.oci(["kill", &id, "KILL"]).fails_with(&["Permission denied"]);
    neighbour.oci(["exec", &id, "id"]).fails_with(&["Permission denied"]);
    user.oci(["delete", &id]).fails_with(&["not stopped"]);
    user.oci(["kill", "--all", &id, "KILL"]).ok();
    eventually("it has stopped", || status() == "stopped");
    user.oci(["delete", &id]).ok();
    assert_eq!(user.oci(["list", "-q"]).ok().stdout, "");
}

#[test]
fn a_users_container_has_a_terminal_and_so_have_programs_executed_in_it() {
    require_root!();
    let scratch = Scratch::new("rltty");
    let user = User::new(&scratch);
    let mut bundle = user.bundle(&["/bin/sh", "-c", "tty; stty size"]);
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
    let outcome = user.run(&bundle).in_terminal(31, 91).ok();
    // script(1) shows the end of its own input somewhere.
    let shown = outcome.stdout.replace("^@", "");
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["/dev/pts/0", "31", "91"], "{outcome}");
    let id = scratch.name("tty");
    let held = user.bundle(&["/bin/sleep", "1000"]);
    user.oci(["run", "-d", "--bundle", held.arg(), &id]).ok();
    let outcome = user.oci(["exec", "--tty", &id, "/bin/sh", "-c", "tty"]).in_terminal(31, 91).ok();
    assert_eq!(outcome.stdout.replace("^@", "").trim(), "/dev/pts/0", "{outcome}");
}

#[test]
fn hooks_of_the_runtime_run_as_the_user_and_those_of_the_container_inside() {
    require_root!();
    let scratch = Scratch::new("rlhooks");
    let user = User::new(&scratch);
    let mut bundle = user.bundle(&["/bin/true"]);
    let out = user.home().join("hooks");
    let hook = |name: &str| {
        let script = format!(
            "echo {name} $(id -u) $(readlink /proc/self/ns/user) $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/pid) >> {}",
            out.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
    };
    let kinds = ["createRuntime", "createContainer", "poststart", "poststop"];
    bundle.edit(|spec| {
        spec["hooks"] = kinds.into_iter().map(|kind| (kind.to_owned(), hook(kind))).collect();
    });
    user.run(&bundle).ok();
    let text = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.iter().map(|line| line[0]).collect::<Vec<_>>(), kinds, "{text}");
    let uid = user.uid.to_string();
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    for line in [&lines[0], &lines[2], &lines[3]] {
        assert_eq!(line[1..], [uid.as_str(), &own("user"), &own("mnt"), &own("pid")], "{text}");
    }
    assert_eq!(lines[1][1], "0", "{text}");
    for (index, kind) in [(2, "user"), (3, "mnt"), (4, "pid")] {
        assert_ne!(lines[1][index], own(kind), "{text}");
    }
    // One that fails stops the container, and what it says is told.
    bundle.edit(|spec| {
        spec["hooks"] =
            json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no; exit 3"]}]});
    });
    user.run(&bundle).fails_with(&["hooks.createContainer[0]", "exit status 3", "no"]);
    bundle.edit(|spec| {
        spec["hooks"] =
            json!({"createContainer": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
    });
    user.run(&bundle).fails_with(&["hooks.createContainer[0]", "timeout"]);
}

#[test]
fn containers_of_a_user_share_namespaces_as_in_a_pod() {
    require_root!();
    let scratch = Scratch::new("rlpod");
    let user = User::new(&scratch);
    let mut pause = user.bundle(&["/bin/sleep", "1000"]);
    let network = json!({"type": "network"});
    pause.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(network);
        spec["hostname"] = json!("pod");
    });
    let id = scratch.name("pause");
    user.oci(["run", "-d", "--bundle", pause.arg(), &id]).ok();
    let pid = user.oci(["state", &id]).ok().json()["pid"].as_i64().unwrap();
    let mut bundle = user.bundle(&[
        "/bin/sh",
        "-c",
        "hostname; cat /proc/1/comm /proc/self/oom_score_adj; readlink /proc/self/ns/net",
    ]);
    let path = |name: &str| format!("/proc/{pid}/ns/{name}");
    bundle.edit(|spec| {
        spec.as_object_mut().unwrap().remove("hostname");
        spec["process"]["oomScoreAdj"] = json!(200);
        spec["linux"]["namespaces"] = json!([
            {"type": "user", "path": path("user")}, {"type": "pid", "path": path("pid")},
            {"type": "network", "path": path("net")}, {"type": "ipc", "path": path("ipc")},
            {"type": "uts", "path": path("uts")}, {"type": "mount"}, {"type": "cgroup"}
        ]);
    });
    let net = std::fs::read_link(path("net")).unwrap().display().to_string();
    let outcome = user.run(&bundle).ok();
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), ["pod", "sleep", "200", &net], "{outcome}");
    bundle.edit(|spec| spec["linux"]["namespaces"][4]["path"] = json!("/proc/1/ns/uts"));
    user.run(&bundle).fails_with(&["/proc/1/ns/uts", "Permission denied"]);
}

#[test]
fn time_of_a_users_container_is_its_own() {
    require_root!();
    let scratch = Scratch::new("rltime");
    let user = User::new(&scratch);
    let mut bundle = user.bundle(&["/bin/sh", "-c", "cut -d. -f1 /proc/uptime"]);
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    });
    let uptime: u64 = user.run(&bundle).ok().text().parse().unwrap();
    assert!(uptime > 1_000_000, "{uptime}");
}

/// As root of a user namespace that `unshare` makes: with a mount namespace of its own (`-Urm`), or without.
#[test]
fn root_of_a_user_namespace_runs_containers_with_and_without_another() {
    require_root!();
    let scratch = Scratch::new("rlns");
    let user = User::new(&scratch);
    let script = "id -u; cat /proc/self/uid_map; ls /dev/null /dev/tty; readlink /proc/self/ns/net";
    let mut with = user.bundle(&["/bin/sh", "-c", script]);
    with.edit(|spec| {
        // The ids of the namespace that the caller is root of.
        spec["linux"]["uidMappings"][0]["hostID"] = json!(0);
        spec["linux"]["gidMappings"][0]["hostID"] = json!(0);
    });
    let mut without = user.bundle(&["/bin/sh", "-c", script]);
    without.edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "user");
        // Who may make one may not return to the host's.
        namespaces.push(json!({"type": "network"}));
    });
    let hosts = std::fs::read_link("/proc/self/ns/net").unwrap();
    let uid = user.uid.to_string();
    for how in ["-Urm", "-Ur"] {
        for (bundle, outer) in [(&with, "0"), (&without, uid.as_str())] {
            let run = ["unshare", how, user.program(), "run", "--bundle", bundle.arg(), "inner"];
            let outcome = user.call(run).ok();
            let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
            assert_eq!(words[..6], ["0", "0", outer, "1", "/dev/null", "/dev/tty"], "{how}: {outcome}");
            assert_eq!(words[6] == hosts.to_str().unwrap(), outer == "0", "{how}: {outcome}");
        }
        // Its life within one such namespace, where what was created is entered.
        let script = "\"$0\" run -d -b \"$1\" held && \"$0\" exec held id -u && \"$0\" ps held | wc -l && \
                      \"$0\" kill held KILL && \"$0\" delete -f held && \"$0\" list -q";
        let mut held = user.bundle(&["/bin/sleep", "1000"]);
        held.edit(|spec| {
            spec["process"]["oomScoreAdj"] = json!(100);
            spec["linux"]["uidMappings"][0]["hostID"] = json!(0);
            spec["linux"]["gidMappings"][0]["hostID"] = json!(0);
        });
        let inner = ["unshare", how, "/bin/sh", "-c", script, user.program(), held.arg()];
        assert_eq!(user.call(inner).ok().stdout, "0\n2\n", "{how}");
    }
    // Groups cannot be set where setgroups(2) is denied already.
    with.edit(|spec| spec["process"]["user"]["additionalGids"] = json!([0]));
    user.call(["unshare", "-Urm", user.program(), "run", "--bundle", with.arg(), "grouped"])
        .fails_with(&["process.user.additionalGids", "setgroups"]);
    with.edit(|spec| spec["process"]["user"] = json!({"uid": 0, "gid": 0}));
    // Limits are refused by name there as well.
    with.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 9}}));
    user.call(["unshare", "-Urm", user.program(), "run", "--bundle", with.arg(), "limited"])
        .fails_with(&["linux.resources.pids.limit: needs a cgroup", "Permission denied"]);
}
