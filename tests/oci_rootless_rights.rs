//! What a user without privileges has through wharf-oci: its ids, and nothing that is not its own.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{
    Bundle, DESCRIPTOR_SCAN, SUB_IDS, Scratch, User, eventually, program_exists, require, require_root,
};
use serde_json::json;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

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
    let mut bundle = user.bundle(&["/bin/sh", "/scan"]);
    bundle.edit(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
        }
    });
    bundle.write("scan", DESCRIPTOR_SCAN);
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
