//! Groups on the real kernel, once for each kind of host that this machine can show: as it is, with its v1
//! hierarchies alone, and with cgroup2 alone. Needs root; a skip is told on stderr.
use super::*;
use oci_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Pid;
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Ends with its group, so that a failed test leaves nothing behind.
struct Scratch {
    group: Cgroup,
    children: Vec<Child>,
}

impl Scratch {
    fn new(host: &Hierarchies, resources: &serde_json::Value) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = CgroupPath::parse(None, &name).unwrap();
        let resources = compile(host, resources);
        let group = Cgroup::create(host, &path, &resources).unwrap();
        group.finish(&resources).unwrap();
        Self { group, children: Vec::new() }
    }

    /// Runs a shell command that waits to be placed in the group before it goes on.
    fn spawn(&mut self, script: &str) -> Pid {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        if self.group.clone_into_fd().is_some() {
            let directory = self.group.v2_directory().unwrap();
            tree::write(directory, "cgroup.procs", &pid.as_raw_nonzero().to_string()).unwrap();
        }
        self.group.add(pid).unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
        self.children.push(child);
        pid
    }

    fn wait(&mut self) -> std::process::ExitStatus {
        self.children.pop().unwrap().wait().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.group.thaw();
        let _ = self.group.kill();
        for child in &mut self.children {
            let _ = child.wait();
        }
        let _ = self.group.delete();
    }
}

fn compile(host: &Hierarchies, resources: &serde_json::Value) -> Resources {
    let spec: LinuxResources = serde_json::from_value(resources.clone()).unwrap();
    Resources::compile(Some(&spec), host).unwrap()
}

/// The kinds of host that this machine can show; none without root.
fn hosts(test: &str) -> Vec<Hierarchies> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP {test}: needs root to make cgroups");
        return Vec::new();
    }
    let host = Hierarchies::detect().unwrap();
    let mut hosts = vec![host.clone()];
    if host.v2.is_some() && host.has_v1() {
        hosts.push(Hierarchies { v2: None, ..host.clone() });
        hosts.push(Hierarchies { v1: Vec::new(), ..host });
    }
    hosts
}

/// Those that can limit by `controller`.
fn hosts_with(controller: &str, test: &str) -> Vec<Hierarchies> {
    let mut hosts = hosts(test);
    hosts.retain(|host| host.home(controller) != hierarchies::Home::Absent);
    if hosts.is_empty() {
        eprintln!("SKIP {test}: no {controller} controller");
    }
    hosts
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_process_above_its_memory_limit_is_killed_announced_and_counted() {
    for host in hosts_with("memory", "memory") {
        let limits = json!({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}});
        let mut scratch = Scratch::new(&host, &limits);
        let watch = scratch.group.watch_oom().unwrap();
        scratch.spawn("exec dd if=/dev/zero of=/dev/null bs=200M count=1");
        assert!(!scratch.wait().success());
        let second = Timespec { tv_sec: 5, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(&watch.as_fd(), PollFlags::IN)], Some(&second));
        assert_eq!(ready.unwrap(), 1, "the watch tells of the kill");
        assert_eq!(watch.read().unwrap(), 1);
        let stats = scratch.group.stats().unwrap();
        assert_eq!((stats.oom_kills, stats.memory_limit_bytes), (1, Some(64 * MIB)));
        assert!(stats.memory_peak_bytes.is_none_or(|peak| peak > 32 * MIB && peak <= 64 * MIB), "{stats:?}");
    }
}

#[test]
fn a_quota_throttles_and_is_accounted() {
    for host in hosts_with("cpu", "cpu") {
        let mut scratch = Scratch::new(&host, &json!({"cpu": {"quota": 20_000, "period": 100_000}}));
        scratch.spawn("while :; do :; done");
        eventually("it is throttled", || scratch.group.stats().unwrap().cpu_throttled_periods >= 2);
        let stats = scratch.group.stats().unwrap();
        assert!(stats.cpu_throttled_ns > 0 && stats.cpu_usage_ns > 0, "{stats:?}");
    }
}

#[test]
fn forks_end_at_the_pids_limit() {
    for host in hosts_with("pids", "pids") {
        let mut scratch = Scratch::new(&host, &json!({"pids": {"limit": 3}}));
        scratch.spawn("sleep 60 & sleep 60 & sleep 60 & sleep 60 & wait");
        eventually("the limit is reached", || scratch.group.stats().unwrap().pids_current == 3);
        assert_eq!(scratch.group.stats().unwrap().pids_limit, Some(3));
        assert!(scratch.group.pids().unwrap().len() <= 3);
    }
}

#[test]
fn a_frozen_group_stands_still_and_runs_on_when_thawed() {
    for host in hosts("freeze") {
        let mut scratch = Scratch::new(&host, &json!({}));
        let pid = scratch.spawn("while :; do :; done");
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
            stat.rsplit(')').next().unwrap().split(' ').nth(12).unwrap().parse::<u64>().unwrap()
        };
        scratch.group.freeze().unwrap();
        assert!(scratch.group.is_frozen().unwrap());
        let before = ticks();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(ticks(), before);
        scratch.group.thaw().unwrap();
        assert!(!scratch.group.is_frozen().unwrap());
        eventually("it runs again", || ticks() > before);
    }
}

#[test]
fn a_group_below_a_frozen_one_is_refused_and_not_left() {
    for host in hosts("frozen") {
        let scratch = Scratch::new(&host, &json!({}));
        scratch.group.freeze().unwrap();
        let above = scratch.group.freezer_directory();
        let name = above.file_name().unwrap().to_str().unwrap();
        let path = CgroupPath::parse(Some(&format!("/{name}/below")), "x").unwrap();
        let refused = Cgroup::create(&host, &path, &compile(&host, &json!({}))).unwrap_err().to_string();
        assert!(refused.contains("/below is frozen") && refused.contains("thaw"), "{refused}");
        for directory in scratch.group.record().directories() {
            assert!(!directory.join("below").exists(), "{}", directory.display());
        }
    }
}

#[test]
fn kill_reaches_every_process_below_even_a_frozen_one() {
    for host in hosts("kill") {
        let mut scratch = Scratch::new(&host, &json!({}));
        scratch.spawn("sleep 60 & sleep 60 & wait");
        eventually("all three run", || scratch.group.pids().unwrap().len() == 3);
        scratch.group.freeze().unwrap();
        scratch.group.kill().unwrap();
        scratch.wait();
        eventually("all are gone", || scratch.group.pids().unwrap().is_empty());
    }
}

#[test]
fn delete_takes_groups_made_inside_along_and_may_be_repeated() {
    for host in hosts("delete") {
        let scratch = Scratch::new(&host, &json!({}));
        let directories: Vec<_> =
            scratch.group.record().directories().into_iter().map(std::path::Path::to_owned).collect();
        assert_eq!(directories.len(), host.v1.len() + usize::from(host.v2.is_some()));
        for directory in &directories {
            std::fs::create_dir_all(directory.join("inner/most")).unwrap();
        }
        scratch.group.delete().unwrap();
        assert!(directories.iter().all(|directory| !directory.exists()));
        scratch.group.delete().unwrap();
        assert!(scratch.group.pids().unwrap().is_empty());
        scratch.group.kill().unwrap();
    }
}

#[test]
fn a_group_is_found_again_by_its_record() {
    for host in hosts("record") {
        let mut scratch = Scratch::new(&host, &json!({}));
        let pid = scratch.spawn("exec sleep 60");
        let text = serde_json::to_string(&scratch.group.record()).unwrap();
        let found = Cgroup::from_record(&serde_json::from_str(&text).unwrap());
        assert_eq!(found.pids().unwrap(), [pid]);
        assert_eq!(found.clone_into_fd().is_some(), host.v2.is_some());
        assert_eq!(found.entrances().unwrap().len(), host.v1.len());
    }
}

fn spec(json: &Value) -> LinuxResources {
    serde_json::from_value(json.clone()).unwrap()
}

#[test]
fn an_update_keeps_what_it_does_not_name_and_puts_back_what_it_cannot_finish() {
    for host in hosts_with("cpu", "partial") {
        let scratch = Scratch::new(&host, &json!({"cpu": {"quota": 30000, "period": 60000}}));
        let bandwidth = || {
            let cgroup = &scratch.group;
            match cgroup.v1_with("cpu") {
                Some(directory) => {
                    let read = |file: &str| tree::read(directory, file).unwrap().trim().to_owned();
                    format!("{} {}", read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"))
                }
                None => tree::read(cgroup.v2_directory().unwrap(), "cpu.max").unwrap().trim().to_owned(),
            }
        };
        let update = |json: Value| scratch.group.update(&spec(&json), &host);
        update(json!({"cpu": {"quota": 20000}})).unwrap();
        assert_eq!(bandwidth(), "20000 60000");
        update(json!({"cpu": {"period": 50000}})).unwrap();
        assert_eq!(bandwidth(), "20000 50000");
        update(json!({"cpu": {"quota": 0, "period": 0}})).unwrap();
        assert_eq!(bandwidth(), "20000 50000");
        // The kernel refuses a period of 2 s after the shares have been written.
        let refused = update(json!({"cpu": {"shares": 2048, "quota": 10000, "period": 2_000_000}}));
        assert!(refused.unwrap_err().to_string().starts_with("linux.resources.cpu."));
        assert_eq!(bandwidth(), "20000 50000");
    }
}

#[test]
fn a_limit_below_the_use_is_refused_before_it_kills_when_that_is_asked_for() {
    for host in hosts_with("memory", "check") {
        let mut scratch = Scratch::new(&host, &json!({"memory": {"limit": 256 * MIB}}));
        scratch.spawn("x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; sleep 60");
        let used = || scratch.group.stats().unwrap().memory_usage_bytes;
        let start = std::time::Instant::now();
        while used() < 20_000_000 && start.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let limits = json!({"memory": {"limit": 1_000_000, "checkBeforeUpdate": true}});
        let error = scratch.group.update(&spec(&limits), &host).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.memory.limit: 1000000 is below the "), "{error}");
        assert_eq!(scratch.group.stats().unwrap().memory_limit_bytes, Some(256 * MIB));
    }
}

#[test]
fn limits_are_raised_and_lowered_in_a_living_group() {
    for host in hosts_with("memory", "update") {
        let scratch = Scratch::new(&host, &json!({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}));
        for mib in [256, 32, 128] {
            let limits = json!({"memory": {"limit": mib * MIB, "swap": (mib + 16) * MIB}});
            scratch.group.update(&spec(&limits), &host).unwrap();
            assert_eq!(scratch.group.stats().unwrap().memory_limit_bytes, Some(mib * MIB));
        }
    }
}

#[test]
fn a_device_that_no_rule_allows_cannot_be_opened() {
    for host in hosts("devices") {
        let deny_all = json!({"devices": [{"allow": false, "access": "rwm"}]});
        let mut scratch = Scratch::new(&host, &deny_all);
        scratch.spawn("exec dd if=/dev/zero of=/dev/null bs=1 count=1");
        assert!(scratch.wait().success(), "/dev/zero is for everyone");
        // /dev/mem's number under another name tells a refusal (EPERM) from a missing driver.
        let node = std::env::temp_dir().join(format!("wharf-device-{}", std::process::id()));
        let open = format!("exec 2>&1; mknod {0} c 1 11 && : < {0}", node.display());
        scratch.spawn(&open);
        assert!(!scratch.wait().success());
        let allow = json!({"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]});
        scratch.group.update(&spec(&allow), &host).unwrap();
        scratch.spawn(&format!(": < {}", node.display()));
        let allowed = scratch.wait().success();
        scratch.group.update(&spec(&json!({"pids": null})), &host).unwrap();
        scratch.spawn(&format!(": < {}", node.display()));
        let still_allowed = scratch.wait().success();
        scratch.group.update(&spec(&deny_all), &host).unwrap();
        scratch.spawn(&format!(": < {}", node.display()));
        let refused_again = !scratch.wait().success();
        std::fs::remove_file(&node).unwrap();
        assert!(allowed, "an update opens it");
        assert!(still_allowed, "an update without device rules leaves the filter alone");
        assert!(refused_again, "an update closes it");
    }
}

#[test]
fn nothing_stays_of_a_group_whose_limit_the_kernel_refuses() {
    for host in hosts_with("cpuset", "rollback") {
        let path = CgroupPath::parse(None, &format!("test-{}-refused", std::process::id())).unwrap();
        let limits = compile(&host, &json!({"cpu": {"cpus": "999999"}}));
        let message = Cgroup::create(&host, &path, &limits).unwrap_err().to_string();
        assert!(message.starts_with("linux.resources.cpu.cpus: write \"999999\" to "), "{message}");
        for root in host.v1.iter().map(|v1| &v1.mount).chain(host.v2.iter().map(|v2| &v2.mount)) {
            assert!(!root.join(&path.as_str()[1..]).exists());
        }
    }
}
