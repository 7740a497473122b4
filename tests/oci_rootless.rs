//! wharf-oci called by a user without privileges, and by root of a user namespace.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Bundle, Call, SUB_IDS, Scratch, User, eventually, program_exists, require, require_root};
use serde_json::json;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

macro_rules! require_sub_ids {
    () => {
        require_root!();
        require!(
            program_exists("newuidmap") && program_exists("newgidmap"),
            "needs newuidmap (Debian: uidmap)"
        );
    };
}

/// The user's own id as root, and all that /etc/subuid gives from 1 on.
fn map_all(user: &User<'_>, bundle: &mut Bundle) {
    let map = json!([
        {"containerID": 0, "hostID": user.uid, "size": 1},
        {"containerID": 1, "hostID": SUB_IDS, "size": 65536}
    ]);
    bundle.edit(|spec| {
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    });
}

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
fn ids_of_etc_subuid_are_mapped_by_newuidmap() {
    require_sub_ids!();
    let scratch = Scratch::new("rlsub");
    let user = User::with_sub_ids(&scratch);
    let script = "id -u; id -g; grep Groups /proc/self/status; cat /proc/self/uid_map; sleep 1000";
    let mut bundle = user.bundle(&["/bin/sh", "-c", script]);
    map_all(&user, &mut bundle);
    bundle.edit(|spec| {
        spec["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9, 10]});
        // Run as a user of the container's, and so one that the caller is not, before its program is.
        spec["hooks"] =
            json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "id -u > /tmp/hook"]}]});
    });
    let id = scratch.name("sub");
    let printed = scratch.path().join("printed");
    let create = format!("exec \"$0\" \"$@\" > {}", printed.display());
    std::fs::write(&printed, "").unwrap();
    chown(&printed, Some(user.uid), None).unwrap();
    user.call(["/bin/sh", "-c", &create, user.program(), "create", "--bundle", bundle.arg(), &id]).ok();
    assert_eq!(user.oci(["exec", &id, "id", "-u"]).ok().text(), "7");
    user.oci(["start", &id]).ok();
    assert_eq!(std::fs::read_to_string(bundle.rootfs().join("tmp/hook")).unwrap(), "7\n");
    let (uid, sub) = (user.uid.to_string(), SUB_IDS.to_string());
    let expected = ["7", "8", "Groups:", "9", "10", "0", &uid, "1", "1", &sub, "65536"];
    eventually("the program has told who it is", || {
        std::fs::read_to_string(&printed).unwrap().split_whitespace().collect::<Vec<_>>() == expected
    });
    // As root inside, files of all mapped users are in reach.
    let script = "touch /tmp/x && chown 1000:1001 /tmp/x && stat -c %u:%g /tmp/x";
    let owned = user.oci(["exec", "--user", "0", "--cap", "CAP_CHOWN", &id, "/bin/sh", "-c", script]).ok();
    assert_eq!(owned.text(), "1000:1001");
    let file = std::fs::metadata(bundle.rootfs().join("tmp/x")).unwrap();
    assert_eq!((file.uid(), file.gid()), (SUB_IDS + 999, SUB_IDS + 1000));
    assert_eq!(user.oci(["exec", "-g", "77", &id, "id", "-G"]).ok().text(), "8 9 10 77");
}

#[test]
fn ids_that_a_user_may_not_map_are_an_error_in_the_words_of_who_refuses() {
    require_sub_ids!();
    let scratch = Scratch::new("rlnosub");
    let user = User::with_sub_ids(&scratch);
    let mut bundle = user.bundle(&["/bin/true"]);
    bundle.edit(|spec| spec["linux"]["uidMappings"][0]["size"] = json!(2));
    user.run(&bundle).fails_with(&["linux.uidMappings: newuidmap: uid range", "not allowed", "/etc/subuid"]);
    bundle.edit(|spec| {
        spec["linux"]["uidMappings"][0]["size"] = json!(1);
        spec["linux"]["gidMappings"][0]["hostID"] = json!(0);
    });
    user.run(&bundle).fails_with(&["linux.gidMappings: newgidmap: gid range", "not allowed", "/etc/subgid"]);
    map_all(&user, &mut bundle);
    let without = "exec env PATH=/nowhere \"$0\" \"$@\"";
    let run = ["run", "--bundle", bundle.arg(), "absent"];
    user.call(["/bin/sh", "-c", without, user.program()]).args(run).fails_with(&[
        "linux.gidMappings",
        "newgidmap(1)",
        "not in PATH",
        "uidmap",
    ]);
    assert_eq!(user.oci(["list", "-q"]).ok().stdout, "");
}

#[test]
fn as_many_extents_as_the_kernel_takes_are_mapped() {
    require_root!();
    let scratch = Scratch::new("rl340");
    let mut bundle =
        scratch.bundle(&["/bin/sh", "-c", "wc -l < /proc/self/uid_map; tail -n 1 /proc/self/uid_map"]);
    // Short numbers, for all of it must be less than a page: every other id, to keep the extents apart.
    let map: Vec<_> = (0..340).map(|n| json!({"containerID": n, "hostID": 1 + 2 * n, "size": 1})).collect();
    chown(bundle.rootfs(), Some(1), Some(1)).unwrap();
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = json!(map);
        spec["linux"]["gidMappings"] = json!(map);
        // Group 5 of the terminals' file system is not mapped to itself here, and need not be.
    });
    let outcome = scratch.run(&bundle);
    assert_eq!(
        outcome.stdout.split_whitespace().collect::<Vec<_>>(),
        ["340", "339", "679", "1"],
        "{outcome}"
    );
    bundle.edit(|spec| {
        let more = json!({"containerID": 340, "hostID": 700, "size": 1});
        spec["linux"]["uidMappings"].as_array_mut().unwrap().push(more);
    });
    scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("more")]).fails_with(&[
        "linux.uidMappings",
        "341 extents",
        "340",
    ]);
}

#[test]
fn what_a_user_cannot_have_is_an_error_with_its_json_path() {
    require_root!();
    let scratch = Scratch::new("rlerrors");
    let user = User::new(&scratch);
    let refused = |change: &dyn Fn(&mut serde_json::Value), words: &[&str]| {
        let mut bundle = user.bundle(&["/bin/true"]);
        bundle.edit(change);
        user.run(&bundle).fails_with(words);
    };
    refused(
        &|spec| {
            let linux = spec["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
            linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "user");
        },
        &["config.json: linux.namespaces: ", "spec --rootless"],
    );
    refused(
        &|spec| spec["process"]["user"]["additionalGids"] = json!([0]),
        &["config.json: process.user.additionalGids: ", "setgroups"],
    );
    refused(
        &|spec| spec["linux"]["resources"] = json!({"memory": {"limit": 50_000_000}}),
        &["linux.resources.memory.limit: needs a cgroup", "/sys/fs/cgroup", "Permission denied"],
    );
    refused(
        &|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 10}}),
        &["linux.resources.pids.limit: needs a cgroup", "/sys/fs/cgroup", "Permission denied"],
    );
    refused(
        &|spec| spec["linux"]["cgroupsPath"] = json!("/nobodys/own"),
        &["linux.cgroupsPath: needs a cgroup", "/sys/fs/cgroup", "Permission denied"],
    );
    refused(
        &|spec| spec["process"]["oomScoreAdj"] = json!(-500),
        &["process.oomScoreAdj", "Permission denied"],
    );
    refused(
        &|spec| {
            let mount = json!({"destination": "/mnt", "source": "/tmp", "type": "bind", "options": ["rbind", "idmap"]});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        },
        &["config.json: mounts[", ".options: idmapped mounts need root"],
    );
    refused(
        &|spec| {
            let mount = json!({"destination": "/mnt", "source": "/sys", "type": "bind", "options": ["bind"]});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        },
        &["mounts[", "].source: open /sys", "use rbind"],
    );
    let bundle = user.bundle(&["/bin/true"]);
    // The config's hard limit of 1024 open files is above the caller's.
    let run = ["run", "--bundle", bundle.arg(), "raised"];
    let bounded = user.call(["/bin/sh", "-c", "ulimit -n 500; exec \"$0\" \"$@\"", user.program()]);
    bounded.args(run).fails_with(&["process.rlimits[0]", "RLIMIT_NOFILE", "not permitted"]);
    user.oci(["--rootless", "false", "run", "--bundle", bundle.arg(), "strict"])
        .fails_with(&["create /sys/fs/cgroup", "Permission denied"]);
    user.oci(["--rootless", "true", "run", "--bundle", bundle.arg(), "lenient"]).ok();
    user.oci(["run", "--bundle", bundle.arg(), "homeless"])
        .env("XDG_RUNTIME_DIR", "")
        .fails_with(&["XDG_RUNTIME_DIR is not set", "--root"]);
    assert!(user.oci(["features"]).env("XDG_RUNTIME_DIR", "").ok().stdout.contains("ociVersionMax"));
    user.oci(["restore", "--bundle", bundle.arg(), "--image-path", bundle.arg(), "thawed"])
        .fails_with(&["restore", "root of the host"]);
}

#[test]
fn device_rules_without_a_cgroup_stop_nobody() {
    require_root!();
    let scratch = Scratch::new("rldev");
    let user = User::new(&scratch);
    let mut bundle = user.bundle(&["/bin/sh", "-c", "mknod /tmp/sda b 8 0 || echo refused"]);
    bundle.edit(|spec| {
        spec["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_MKNOD"]);
        }
    });
    assert_eq!(user.run(&bundle).ok().text(), "refused");
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
fn a_user_gains_nothing_over_files_of_others() {
    require_root!();
    let scratch = Scratch::new("rlgain");
    let user = User::new(&scratch);
    let secret = scratch.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let script =
        "cat /secret; chmod 666 /secret; chown 0:0 /secret; id -u; echo x > /sys/kernel/uevent_helper";
    let mut bundle = user.bundle(&["/bin/sh", "-c", script]);
    bundle.mount(json!({"destination": "/secret", "source": secret, "type": "bind", "options": ["bind"]}));
    bundle.edit(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!([
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_CHOWN",
                "CAP_DAC_READ_SEARCH",
                "CAP_SYS_ADMIN"
            ]);
        }
    });
    let outcome = user.run(&bundle).outcome();
    assert_eq!(outcome.stdout, "0\n", "{outcome}");
    let after = std::fs::metadata(&secret).unwrap();
    assert_eq!((after.uid(), after.permissions().mode() & 0o777), (0, 0o600), "{outcome}");
    // A directory that the user cannot enter is no bundle of its either.
    let locked = scratch.bundle(&["/bin/true"]);
    std::fs::set_permissions(&locked.path, std::fs::Permissions::from_mode(0o700)).unwrap();
    user.run(&locked).fails_with(&["Permission denied"]);
}

#[test]
fn a_process_inside_finds_no_descriptor_of_the_host_in_one_that_a_user_executes() {
    require_root!();
    let scratch = Scratch::new("rlfds");
    let user = User::new(&scratch);
    let scan = r#"
while [ ! -e /stop ]; do
  for process in /proc/[0-9]*; do
    [ "$process" != /proc/$$ ] || continue
    echo seen >> /seen
    for number in "$process"/fd/[0-9]*; do
      case ${number##*/} in [012] | '[0-9]*') continue ;; esac
      target=$(readlink "$number") && echo "$number -> $target" >> /found
    done
  done
done 2>/dev/null"#;
    let mut bundle = user.bundle(&["/bin/sh", "/scan"]);
    bundle.edit(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
        }
    });
    bundle.write("scan", scan);
    let id = scratch.name("scan");
    user.oci(["run", "-d", "--bundle", bundle.arg(), &id]).ok();
    for _ in 0..30 {
        user.oci(["exec", &id, "/bin/sleep", "0.02"]).ok();
    }
    std::fs::write(bundle.rootfs().join("stop"), "").unwrap();
    assert!(bundle.rootfs().join("seen").exists(), "the scan met no process; it proves nothing");
    let found = std::fs::read_to_string(bundle.rootfs().join("found")).unwrap_or_default();
    assert_eq!(found, "", "process 1 saw descriptors of the entering process");
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

#[test]
fn without_a_cgroup_namespace_and_a_cgroup_the_users_own_view_is_shown() {
    require_root!();
    let scratch = Scratch::new("rlview");
    let user = User::new(&scratch);
    // Read-only at every mount, also where the user may write (CVE-2023-25809).
    let script = "ls /sys/fs/cgroup | wc -l; for group in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $group/x; done \
                  2>&1 | grep -vc 'Read-only file system'";
    let mut bundle = user.bundle(&["/bin/sh", "-c", script]);
    bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
    });
    let outcome = user.run(&bundle).outcome();
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert!(words[0].parse::<u32>().unwrap() > 1 && words[1] == "0", "{outcome}");
}

/// The cgroup2 mount of this machine.
fn cgroup2() -> Option<PathBuf> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    places.into_iter().find(|place| place.join("cgroup.controllers").exists())
}

/// A cgroup that belongs to the user, with a group below it from which the user calls; the latter is removed
/// when dropped.
struct Delegated {
    path: PathBuf,
}

impl Delegated {
    fn to(path: PathBuf, user: &User<'_>) -> Self {
        std::fs::create_dir(path.join("caller")).unwrap();
        for place in
            ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "caller", "caller/cgroup.procs"]
        {
            chown(path.join(place), Some(user.uid), Some(user.uid)).unwrap();
        }
        Self { path }
    }
    /// A call of wharf-oci: root enters the group, and the user stays in it.
    fn oci<const N: usize>(&self, user: &User<'_>, arguments: [&str; N]) -> Call {
        let enter = format!("echo $$ > {}/caller/cgroup.procs; exec \"$0\" \"$@\"", self.path.display());
        let uid = user.uid.to_string();
        let call = Call::new("/bin/sh").args(["-c", &enter, "setpriv", "--reuid", &uid, "--regid", &uid]);
        let call = call.args(["--clear-groups", "--inh-caps=-all", user.program()]).args(arguments);
        call.env("XDG_RUNTIME_DIR", user.home())
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir(self.path.join("caller"));
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// Where a process is on cgroup2.
fn group_of(state: &serde_json::Value) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

#[test]
fn a_cgroup_that_was_delegated_to_the_user_is_used() {
    require_root!();
    let Some(mount) = cgroup2() else {
        common::skip("needs cgroup2");
        return;
    };
    let scratch = Scratch::new("rlcg");
    let user = User::new(&scratch);
    let path = mount.join(scratch.name("delegated"));
    std::fs::create_dir(&path).unwrap();
    let delegated = Delegated::to(path.clone(), &user);
    let mut bundle = user.bundle(&["/bin/sleep", "1000"]);
    let own = format!("/{}/box", scratch.name("delegated"));
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(own);
        spec["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    });
    let id = scratch.name("box");
    delegated.oci(&user, ["run", "-d", "--bundle", bundle.arg(), &id]).ok();
    assert_eq!(group_of(&user.oci(["state", &id]).ok().json()), own);
    // On a hybrid host the user's container has no group in the hierarchy of the v1 freezer, and v2's is its.
    user.oci(["pause", &id]).ok();
    assert_eq!(user.oci(["state", &id]).ok().json()["status"], "paused");
    user.oci(["resume", &id]).ok();
    assert_eq!(user.oci(["state", &id]).ok().json()["status"], "running");
    if mount.ends_with("unified") {
        // Its controller is on v1, where the user has nothing.
        user.oci(["update", "--pids-limit", "10", &id])
            .fails_with(&["linux.resources.pids.limit", "no cgroup"]);
    }
    user.oci(["delete", "--force", &id]).ok();
    assert!(!path.join("box").exists(), "the container's group was removed");
    drop(delegated);
    std::fs::remove_dir(&path).unwrap();
}

#[test]
fn a_users_own_systemd_makes_the_scope_of_its_container() {
    require_root!();
    require!(Path::new("/run/systemd/system").is_dir(), "needs systemd as the first process");
    let scratch = Scratch::new("rlscope");
    let user = User::new(&scratch);
    let (unit, uid) = (format!("{}.service", scratch.name("manager")), user.uid.to_string());
    let variable = |name: &str| format!("--setenv={name}={}", user.home().display());
    Call::new("systemd-run")
        .args(["--unit", &unit, "--uid", &uid, "--gid", &uid, "--property=Delegate=yes"])
        .args([variable("XDG_RUNTIME_DIR"), variable("HOME")])
        .args(["/usr/lib/systemd/systemd", "--user"])
        .ok();
    eventually("the user's systemd listens", || user.home().join("systemd/private").exists());
    let group = Call::new("systemctl").args(["show", "--property=ControlGroup", "--value", &unit]).ok();
    let group = group.text().to_owned();
    let delegated = Delegated::to(Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/')), &user);
    let mut bundle = user.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!("app.slice:wharf:own"));
    let id = scratch.name("scope");
    delegated.oci(&user, ["--systemd-cgroup", "run", "-d", "--bundle", bundle.arg(), &id]).ok();
    let state = user.oci(["state", &id]).ok().json();
    assert_eq!(group_of(&state), format!("{group}/app.slice/wharf-own.scope"));
    user.oci(["pause", &id]).ok();
    user.oci(["resume", &id]).ok();
    user.oci(["delete", "--force", &id]).ok();
    let scope = Path::new("/sys/fs/cgroup").join(format!("{}/app.slice/wharf-own.scope", &group[1..]));
    assert!(!scope.exists(), "the scope is gone");
    drop(delegated);
    Call::new("systemctl").args(["stop", &unit]).ok();
}

/// As root of a user namespace that `unshare` makes: with a mount namespace of its own (`-Urm`), or without.
#[test]
fn root_of_a_user_namespace_runs_containers_with_and_without_another() {
    require_root!();
    let scratch = Scratch::new("rlns");
    let user = User::new(&scratch);
    let script = "id -u; cat /proc/self/uid_map; ls /dev/null /dev/tty; readlink /proc/self/ns/user";
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
        linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "user");
    });
    let uid = user.uid.to_string();
    for how in ["-Urm", "-Ur"] {
        for (bundle, outer) in [(&with, "0"), (&without, uid.as_str())] {
            let run = ["unshare", how, user.program(), "run", "--bundle", bundle.arg(), "inner"];
            let outcome = user.call(run).ok();
            let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
            assert_eq!(words[..6], ["0", "0", outer, "1", "/dev/null", "/dev/tty"], "{how}: {outcome}");
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
