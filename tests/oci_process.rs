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

#[test]
fn values_that_no_kernel_or_crate_knows_are_told_and_the_container_runs() {
    common::require_root!();
    let scratch = Scratch::new("dialect");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "grep CapBnd /proc/self/status"]);
    bundle.edit(|spec| {
        spec["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_MOON"]);
        spec["process"]["capabilities"]["effective"] = json!([]);
        spec["process"]["capabilities"]["permitted"] = json!(["CAP_MOON"]);
        spec["process"]["scheduler"] =
            json!({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    });
    let outcome = scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("moon")]).ok();
    assert_eq!(outcome.stdout, "CapBnd:\t0000000000000020\n");
    assert!(
        outcome.stderr.contains("process.capabilities.bounding: unknown capability CAP_MOON"),
        "{outcome}"
    );
}

#[test]
fn received_sockets_go_on_to_the_program_before_preserved_descriptors() {
    common::require_root!();
    let scratch = Scratch::new("listen");
    let script = "echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; cat <&3; cat <&4; ls /proc/self/fd | wc -l";
    let bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    let dir = scratch.path().join("files");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("received"), "received\n").unwrap();
    std::fs::write(dir.join("preserved"), "preserved\n").unwrap();
    // exec keeps the shell's pid, which LISTEN_PID must name.
    let run = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec \"$@\" 3<received 4<preserved 5</dev/null";
    let id = scratch.name("listen");
    let oci = common::wharf_oci();
    let outcome = common::Call::new("sh")
        .args(["-c", run, "sh", oci.to_str().unwrap(), "--root", scratch.oci_root().to_str().unwrap()])
        .args(["run", "--preserve-fds", "1", "--bundle", bundle.arg(), &id])
        .current_dir(&dir)
        .ok();
    // 0, 1, 2, 3, 4 and the directory that ls reads.
    assert_eq!(outcome.stdout, "1 1 web\nreceived\npreserved\n6\n");
}

#[test]
fn rlimits_leave_the_runtime_what_it_needs_and_bind_the_program() {
    common::require_root!();
    let scratch = Scratch::new("rlimits");
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4},
        {"type": "RLIMIT_RTTIME", "soft": 1000, "hard": 2000},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
    ]);
    let shown = inside(&scratch, "cat /proc/self/limits", |spec| spec["process"]["rlimits"] = limits);
    let limit = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name));
        line.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(limit("Max open files"), ["4", "4"]);
    assert_eq!(limit("Max realtime timeout"), ["1000", "2000"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    refused(&scratch, &["process.rlimits[1]", "RLIMIT_NOFILE"], |spec| {
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10});
        spec["process"]["rlimits"] = json!([limit, limit]);
    });
}

#[test]
fn a_hard_limit_above_ones_own_is_refused_in_runcs_words() {
    common::require_root!();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let holds = u64::from_str_radix(effective, 16).unwrap() & 1 << 24 != 0;
    common::require!(!holds, "needs a machine without CAP_SYS_RESOURCE");
    let scratch = Scratch::new("raise");
    let unlimited = u64::MAX;
    let words = ["error setting rlimits for ready process: error setting rlimit type", "process.rlimits[0]"];
    refused(&scratch, &words, |spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": unlimited}]);
    });
}

#[test]
fn labels_of_modules_that_the_kernel_lacks_are_refused_by_path() {
    common::require_root!();
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let module = std::path::Path::new("/sys/module/apparmor").exists();
    common::require!(!module && !modules.contains("selinux"), "needs a kernel without AppArmor and SELinux");
    let scratch = Scratch::new("labels");
    refused(&scratch, &["process.apparmorProfile: this kernel has no AppArmor"], |spec| {
        spec["process"]["apparmorProfile"] = json!("web");
    });
    refused(&scratch, &["process.selinuxLabel: this kernel has no SELinux"], |spec| {
        spec["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0");
    });
    refused(&scratch, &["linux.mountLabel: this kernel has no SELinux"], |spec| {
        spec["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0");
    });
    let (_bundle, id) = sleeper(&scratch, |_| {});
    scratch
        .oci(["exec", "--apparmor", "web", &id, "true"])
        .fails_with(&["process.apparmorProfile: this kernel has no AppArmor"]);
}

#[test]
fn all_capabilities_can_be_had_in_a_new_user_namespace_and_exec_adjusts_oom_there() {
    common::require_root!();
    let scratch = Scratch::new("userns");
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
    bundle.edit(|spec| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let capabilities = json!(["CAP_SYS_RESOURCE", "CAP_SYS_BOOT", "CAP_KILL"]);
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = capabilities.clone();
        }
        spec["process"]["oomScoreAdj"] = json!(500);
        spec["process"]["user"]["additionalGids"] = json!([7]);
    });
    let id = scratch.name("userns");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let script = "grep CapEff /proc/1/status; grep CapEff /proc/self/status; cat /proc/1/oom_score_adj /proc/self/oom_score_adj; id -G";
    let shown = scratch.oci(["exec", &id, "/bin/sh", "-c", script]).ok().stdout;
    let mask = "CapEff:\t0000000001400020\n";
    assert_eq!(shown, format!("{mask}{mask}500\n500\n0 7\n"));
}

#[test]
fn ids_that_the_user_namespace_does_not_map_are_refused_by_path() {
    common::require_root!();
    let scratch = Scratch::new("unmapped");
    let user = |user: Value| {
        move |spec: &mut Value| {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            spec["process"]["user"] = user;
        }
    };
    refused(&scratch, &["process.user.uid: 1000 is not mapped"], user(json!({"uid": 1000, "gid": 0})));
    let groups = json!({"uid": 0, "gid": 0, "additionalGids": [1, 70000]});
    refused(&scratch, &["process.user.additionalGids[1]: 70000", "linux.gidMappings"], user(groups));
}

#[test]
fn exec_takes_over_the_containers_process_and_a_process_file_replaces_it() {
    common::require_root!();
    let scratch = Scratch::new("takeover");
    let (_bundle, id) = sleeper(&scratch, |spec| {
        spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
        spec["process"]["noNewPrivileges"] = json!(true);
        spec["process"]["commandLine"] = json!("ignored on Linux");
        spec["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 0o27, "username": "ignored on Linux"});
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
    });
    let script = "cut -d' ' -f19,41 /proc/$$/stat; umask; grep -E 'NoNewPrivs|CapEff' /proc/$$/status | cut -f2; \
                  mkdir /made 2>&1";
    let refusal = "mkdir: can't create directory '/made': No space left on device\n";
    let shown = scratch.oci(["exec", &id, "/bin/sh", "-c", script]).exits(1).stdout;
    assert_eq!(shown, format!("7 3\n0027\n0000000020000420\n1\n{refusal}"));
    let file = scratch.path().join("process.json");
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"]});
    std::fs::write(&file, process.to_string()).unwrap();
    let shown = scratch.oci(["exec", "--process", file.to_str().unwrap(), &id]).exits(1).stdout;
    assert_eq!(shown, format!("0 0\n0022\n0000000000000000\n0\n{refusal}"), "seccomp stays");
}

/// One end of a veth pair on the host for the time of a test; the other end goes with it.
struct Device(String);

impl Device {
    fn add(stem: &str) -> Self {
        let name = format!("wh{stem}{}", std::process::id() % 100_000);
        let peer = format!("{name}p");
        common::Call::new("ip")
            .args([
                "link",
                "add",
                &name,
                "address",
                "02:00:00:00:00:07",
                "type",
                "veth",
                "peer",
                "name",
                &peer,
            ])
            .ok();
        common::Call::new("ip").args(["address", "add", "198.51.100.7/24", "dev", &name]).ok();
        common::Call::new("ip").args(["address", "add", "2001:db8::7/64", "dev", &name, "nodad"]).ok();
        common::Call::new("ip").args(["link", "set", &name, "mtu", "1400", "up"]).ok();
        Self(name)
    }

    fn is_on_the_host(&self) -> bool {
        std::path::Path::new(&format!("/sys/class/net/{}", self.0)).exists()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_on_the_host() {
            common::Call::new("ip").args(["link", "delete", &self.0]).outcome();
        }
    }
}

#[test]
fn a_network_device_moves_in_with_its_addresses_mtu_and_hardware_address() {
    common::require_root!();
    common::require!(common::program_exists("ip"), "needs ip of iproute2");
    let scratch = Scratch::new("netdev");
    let device = Device::add("a");
    let shown = inside(&scratch, "ip address show dev eth7", |spec| {
        spec["linux"]["netDevices"] = json!({device.0.as_str(): {"name": "eth7"}});
    });
    for text in ["eth7", "UP", "mtu 1400", "02:00:00:00:00:07", "198.51.100.7/24", "2001:db8::7/64"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(!device.is_on_the_host());
}

#[test]
fn network_devices_stay_on_the_host_as_they_were_when_one_cannot_be_moved() {
    common::require_root!();
    common::require!(common::program_exists("ip"), "needs ip of iproute2");
    let scratch = Scratch::new("netback");
    let device = Device::add("b");
    refused(&scratch, &["linux.netDevices.zz-none", "No such device"], |spec| {
        spec["linux"]["netDevices"] = json!({device.0.as_str(): {"name": "eth7"}, "zz-none": {}});
    });
    let shown = common::Call::new("ip").args(["address", "show", "dev", &device.0]).ok().stdout;
    for text in ["UP", "mtu 1400", "02:00:00:00:00:07", "198.51.100.7/24", "2001:db8::7/64"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    refused(&scratch, &["linux.netDevices", "network namespace"], |spec| {
        spec["linux"]["netDevices"] = json!({"eth7": {}});
        spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "network");
    });
    scratch.assert_clean();
}

#[test]
fn cache_allocation_is_refused_by_path_where_resctrl_is_not_mounted() {
    common::require_root!();
    common::require!(!std::path::Path::new("/sys/fs/resctrl/info").exists(), "needs a host without resctrl");
    let scratch = Scratch::new("resctrl");
    refused(&scratch, &["linux.intelRdt: /sys/fs/resctrl is not mounted"], |spec| {
        spec["linux"]["intelRdt"] = json!({"closID": "gold", "l3CacheSchema": "L3:0=f"});
    });
    scratch.assert_clean();
}
