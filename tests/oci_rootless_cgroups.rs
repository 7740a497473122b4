//! The cgroups of containers of a user without privileges: none, delegated ones, and those of its own systemd.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Call, Scratch, User, eventually, require, require_root, systemd_runs};
use serde_json::json;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

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
    require!(systemd_runs(), "needs systemd as the first process");
    let scratch = Scratch::new("rlscope");
    let user = User::new(&scratch);
    let (unit, uid) = (format!("{}.service", scratch.name("manager")), user.uid.to_string());
    // The uid has no account, without which systemd itself starts nothing as it.
    let script = "group=/sys/fs/cgroup$(grep ^0:: /proc/self/cgroup | cut -d: -f3) && chown $0:$0 $group $group/cgroup.* && \
                  exec setpriv --reuid $0 --regid $0 --clear-groups /usr/lib/systemd/systemd --user";
    let variable = |name: &str| format!("--setenv={name}={}", user.home().display());
    Call::new("systemd-run")
        .args(["--unit", &unit, "--property=Delegate=yes"])
        .args([variable("XDG_RUNTIME_DIR"), variable("HOME")])
        .args(["/bin/sh", "-c", script, &uid])
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
