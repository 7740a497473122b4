//! `--userns`: instances whose root is nobody on the host, over the same layers as all others.

mod common;

use common::{Call, Scratch, eventually, program_exists, require};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

fn start(scratch: &Scratch, stem: &str, options: &[&str], script: &str) -> String {
    let name = scratch.name(stem);
    scratch.wharf(["run", "-d", "--name", &name]).args(options).args(["shell", "sh", "-c", script]).ok();
    name
}

fn range(scratch: &Scratch, name: &str) -> (u64, u64) {
    let userns = &scratch.inspect(name)["userns"];
    (userns["start"].as_u64().expect("a start"), userns["size"].as_u64().expect("a size"))
}

/// Effective uid of the instance's first process, on the host.
fn host_uid(scratch: &Scratch, name: &str) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", scratch.inspect(name)["pid"])).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("Uid:")).expect("a uid");
    line.split_whitespace().nth(2).expect("effective").parse().expect("a number")
}

/// Directories of unpacked layers.
fn layers(scratch: &Scratch) -> Vec<PathBuf> {
    let entries = fs::read_dir(scratch.root().join("layers/sha256")).expect("layers");
    entries.map(|entry| entry.expect("entry").path()).collect()
}

#[test]
fn root_inside_is_nobody_on_the_host_and_layers_stay_as_they_are() {
    common::require_root!();
    let scratch = Scratch::new("userns");
    scratch.load("shell");
    let name = start(
        &scratch,
        "box",
        &["--userns", "auto"],
        "touch /made; chown app:app /etc/group; exec sleep 1000",
    );
    let (first, size) = range(&scratch, &name);
    assert!(first >= 524_288 && first + size - 1 <= 1_879_048_191 && size == 65_536, "{first} {size}");
    assert_eq!(host_uid(&scratch, &name), first);
    let script = "id -u; stat -c '%u:%g' /bin/busybox /made /etc/group /etc/hosts /; cat /proc/self/uid_map; echo x >>/etc/hosts";
    let seen = scratch.wharf(["exec", &name, "sh", "-c", script]).ok().stdout;
    let words: Vec<&str> = seen.split_whitespace().collect();
    let map = [first.to_string(), size.to_string()];
    assert_eq!(words, ["0", "0:0", "0:0", "1000:1000", "0:0", "0:0", "0", &map[0], &map[1]]);
    for layer in layers(&scratch) {
        assert_eq!(fs::metadata(layer.join("bin/busybox")).expect("it is there").uid(), 0);
    }
    let upper = scratch.root().join("instances").join(&name).join("upper");
    let owner = |path: &str| u64::from(fs::metadata(upper.join(path)).expect("it is there").uid());
    assert_eq!((owner("made"), owner("etc/group"), owner("")), (first, first + 1000, first));
    // Users of the image, and files that users other than root make.
    let seen = scratch
        .wharf(["exec", "-u", "app", &name, "sh", "-c", "id -un; touch /tmp/mine; stat -c %U /tmp/mine"])
        .ok();
    assert_eq!(seen.stdout, "app\napp\n");
    assert_eq!(owner("tmp/mine"), first + 1000);
}

#[test]
fn instances_with_and_without_ids_of_their_own_share_layers() {
    common::require_root!();
    let scratch = Scratch::new("shared");
    scratch.load("shell");
    let names: Vec<String> = ["auto", "auto", "host", "100000:65536"]
        .iter()
        .enumerate()
        .map(|(index, mode)| start(&scratch, &format!("box{index}"), &["--userns", mode], "exec sleep 1000"))
        .collect();
    for name in &names {
        let seen = scratch.wharf(["exec", name, "stat", "-c", "%u", "/bin/busybox"]).ok();
        assert_eq!(seen.text(), "0");
    }
    assert_eq!(layers(&scratch).len(), 1);
    assert_eq!((host_uid(&scratch, &names[2]), host_uid(&scratch, &names[3])), (0, 100_000));
    assert!(scratch.inspect(&names[2])["userns"].is_null());
}

#[test]
fn concurrent_runs_never_get_the_same_ids() {
    common::require_root!();
    let scratch = Scratch::new("claims");
    scratch.load("shell");
    let names: Vec<String> = (0..8).map(|index| scratch.name(&format!("box{index}"))).collect();
    let run = |name: &String| {
        scratch
            .wharf([
                "run",
                "-d",
                "--userns",
                "auto",
                "--network",
                "none",
                "--name",
                name,
                "shell",
                "sleep",
                "1000",
            ])
            .spawn()
    };
    let runs: Vec<_> = names.iter().map(run).collect();
    for run in runs {
        let outcome = run.wait();
        assert!(outcome.success(), "{outcome}");
    }
    let mut starts: Vec<u64> = names.iter().map(|name| range(&scratch, name).0).collect();
    starts.sort_unstable();
    assert!(starts.windows(2).all(|pair| pair[0] + 65_536 <= pair[1]), "{starts:?}");
}

#[test]
fn the_ids_are_kept_for_as_long_as_the_instance_is_there() {
    common::require_root!();
    let scratch = Scratch::new("kept");
    scratch.load("shell");
    let options = ["--userns", "auto", "--memory", "64M"];
    let name = start(
        &scratch,
        "box",
        &options,
        "touch -c /mine || exit 3; test -e /mine || touch /mine; rm /mine; touch /mine; exec sleep 1000",
    );
    let ids = range(&scratch, &name);
    scratch.wharf(["restart", "-t", "0", &name]).ok();
    assert_eq!((range(&scratch, &name), host_uid(&scratch, &name)), (ids, ids.0));
    assert_eq!(scratch.wharf(["exec", &name, "stat", "-c", "%u", "/mine"]).ok().text(), "0");
    // A supervisor that takes over has it too.
    let supervisor = scratch.inspect(&name)["supervisor_pid"].as_i64().expect("a supervisor");
    kill(Pid::from_raw(i32::try_from(supervisor).expect("a pid")), Signal::SIGKILL).expect("kill");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(scratch.wharf(["exec", &name, "id", "-u"]).ok().text(), "0");
    let stats = scratch.wharf(["stats", "--no-stream", "--json", &name]).ok().json();
    assert!(stats[0]["memory_used_bytes"].as_u64().expect("a number") > 0, "{stats}");
    scratch.wharf(["stop", "-t", "0", &name]).ok();
    scratch.wharf(["start", &name]).ok();
    assert_eq!((range(&scratch, &name), host_uid(&scratch, &name)), (ids, ids.0));
}

#[test]
fn a_volume_holds_the_same_ids_as_without_a_namespace_unless_it_is_not_to() {
    common::require_root!();
    let scratch = Scratch::new("volume");
    scratch.load("shell");
    let data = scratch.path().join("data");
    fs::create_dir(&data).expect("create");
    fs::write(data.join("roots"), "of the host\n").expect("write");
    fs::set_permissions(data.join("roots"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let run = |bind: &str, script: &str| {
        scratch.wharf(["run", "--rm", "--userns", "auto", "-v", bind, "shell", "sh", "-c", script]).outcome()
    };
    let mapped = format!("{}:/data", data.display());
    let script = "cat /data/roots; touch /data/new; chown app /data/new; stat -c %u /data/roots /data/new";
    assert_eq!(run(&mapped, script).stdout, "of the host\n0\n1000\n");
    assert_eq!(fs::metadata(data.join("new")).expect("it was made").uid(), 1000);
    let read_only = run(&format!("{mapped}:ro"), "touch /data/x");
    assert!(read_only.stderr.contains("Read-only file system"), "{read_only}");

    let raw = format!("{mapped}:noidmap");
    for attempt in [
        "cat /data/roots",
        "echo x >/data/roots",
        "echo x >>/data/roots",
        "rm -f /data/roots",
        "touch /data/x",
        "chmod 666 /data/roots",
        "chown 0 /data/roots",
    ] {
        let refused = run(&raw, attempt);
        assert!(!refused.success(), "{refused}");
        assert!(refused.stderr.contains("denied") || refused.stderr.contains("not permitted"), "{refused}");
    }
    assert_eq!(run(&raw, "stat -c %u /data/roots").stdout, "65534\n");
    let state = fs::metadata(data.join("roots")).expect("it is there");
    assert_eq!((state.uid(), state.mode() & 0o777, state.len()), (0, 0o600, 12));
    assert!(!data.join("x").exists());
    scratch.wharf(["run", "--rm", "-v", &raw, "shell", "true"]).fails_with(&["-v", "noidmap", "--userns"]);
}

#[test]
fn what_cannot_be_idmapped_is_refused_with_its_path() {
    common::require_root!();
    let scratch = Scratch::new("noidmap");
    scratch.load("shell");
    scratch
        .wharf(["run", "--rm", "--userns", "auto", "-v", "/sys/kernel:/data", "shell", "true"])
        .fails_with(&["/sys/kernel", "cannot be idmapped"]);
    assert_eq!(scratch.wharf(["ps", "-a", "--json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn every_network_and_a_terminal_and_a_reaper_work_with_ids_of_its_own() {
    common::require_root!();
    let scratch = Scratch::new("nets");
    scratch.load("shell");
    for network in ["bridge", "host", "none"] {
        let script = "ls /sys/class/net | grep -c lo; touch /sys/x 2>/dev/null || echo closed; id -u";
        let run = scratch.wharf([
            "run",
            "--rm",
            "--userns",
            "auto",
            "--network",
            network,
            "shell",
            "sh",
            "-c",
            script,
        ]);
        assert_eq!(run.ok().stdout, "1\nclosed\n0\n", "{network}");
    }
    let seen = scratch
        .wharf(["run", "--rm", "--init", "-t", "--userns", "auto", "shell", "sh", "-c", "tty; echo $$"])
        .ok();
    let words: Vec<&str> = seen.stdout.split_whitespace().collect();
    assert!(words[0].starts_with("/dev/pts/") && words[1] == "2", "{seen}");
    let ping = scratch.wharf([
        "run",
        "--rm",
        "--userns",
        "auto",
        "shell",
        "cat",
        "/proc/sys/net/ipv4/ping_group_range",
    ]);
    assert_eq!(ping.ok().stdout, "0\t65535\n");
}

#[test]
fn ids_that_cannot_be_are_refused() {
    common::require_root!();
    let scratch = Scratch::new("badids");
    scratch.load("shell");
    for mode in ["0:65536", "4294967295:1", "private", ""] {
        scratch.wharf(["run", "--rm", "--userns", mode, "shell", "true"]).exits(125);
    }
    // Too few for the user that is asked for.
    let refused =
        scratch.wharf(["run", "--rm", "--userns", "100000:1000", "-u", "1000", "shell", "true"]).outcome();
    assert_eq!(refused.code, Some(125), "{refused}");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
}

/// What a kernel before 6.15 does is refuse layers that are mounted nowhere.
#[test]
fn kernels_that_take_no_unmounted_layers_get_them_mounted_where_nobody_else_sees_them() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    let scratch = Scratch::new("apart");
    scratch.load("shell");
    let script = "test -e /go/again && exec sleep 1000; touch /go/again; until test -e /go/now; do sleep 0.05; done; exit 1";
    let go = scratch.path().join("go");
    // The first call for the overlay, after those for the tmpfs.
    for (upper, call) in [("disk", 1), ("tmpfs:8M", 4)] {
        fs::create_dir(&go).expect("create");
        let bind = format!("{}:/go", go.display());
        let options = ["--userns", "auto", "--upper", upper, "--restart", "on-failure:1", "-v", &bind];
        let name = start(&scratch, "box", &options, script);
        let supervisor = scratch.inspect(&name)["supervisor_pid"].to_string();
        let trace = scratch.path().join("trace");
        let inject = format!("inject=fsconfig:error=EINVAL:when={call}");
        let strace =
            Call::new("strace").args(["-qq", "-e", "trace=fsconfig", "-e", &inject, "-p", &supervisor]);
        let strace = strace.arg("-o").arg(&trace).spawn();
        let status = format!("/proc/{supervisor}/status");
        eventually("strace holds it", || {
            fs::read_to_string(&status).is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
        });
        fs::write(go.join("now"), "").expect("write");
        eventually("it was started again", || {
            let inspected = scratch.inspect(&name);
            inspected["restart_count"] == 1 && inspected["status"] == "running"
        });
        strace.signal(Signal::SIGTERM);
        strace.wait();
        let traced = fs::read_to_string(&trace).expect("the trace");
        assert!(
            traced.lines().any(|line| line.contains("lowerdir+") && line.contains("INJECTED")),
            "{traced}"
        );
        let seen = scratch
            .wharf([
                "exec",
                &name,
                "sh",
                "-c",
                "touch /x; stat -c %u /x /bin/busybox; grep -c ' / overlay ' /proc/mounts",
            ])
            .ok();
        assert_eq!(seen.stdout, "0\n0\n1\n", "{upper}");
        let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
        assert!(!table.contains(scratch.path().to_str().expect("UTF-8")), "{table}");
        scratch.wharf(["rm", "-f", &name]).ok();
        fs::remove_dir_all(&go).expect("remove");
    }
}

/// Before 6.5 overlayfs is not put together by fsconfig(2) from single layers either.
#[test]
fn kernels_without_lowerdir_plus_mount_idmapped_layers_too() {
    common::require_root!();
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    use std::os::fd::AsFd as _;
    use wharf::image::{Overlay, Upper};
    let scratch = Scratch::new("old");
    let directory = |name: &str| {
        let path = scratch.path().join(name);
        fs::create_dir(&path).expect("create");
        path
    };
    let layers = ["a:b", "c,d"].map(directory);
    fs::write(layers[0].join("lower"), "").expect("write");
    fs::write(layers[1].join("higher"), "").expect("write");
    let (upper, work) = (directory("upper"), directory("work"));
    let range: wharf::sandbox::IdRange = "600000:65536".parse().expect("a range");
    let mount = || {
        let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
        let rules = [(libc::SYS_fsconfig, Vec::new())].into();
        let refuse = SeccompAction::Errno(libc::EINVAL as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).expect("a filter");
        let program: BpfProgram = filter.try_into().expect("a program");
        // For this thread and those it makes.
        seccompiler::apply_filter(&program).expect("the filter is taken");
        let namespace = range.user_namespace().expect("a namespace");
        let upper = Upper::Disk { upper: &upper, work: &work, volatile: false };
        Overlay { layers: &layers, upper, user_namespace: Some(namespace.as_fd()) }.mount()
    };
    let root = std::thread::scope(|scope| scope.spawn(mount).join().expect("no panic")).expect("a root");
    for name in ["lower", "higher"] {
        let stat = rustix::fs::statat(&root, name, rustix::fs::AtFlags::empty()).expect("it is there");
        assert_eq!((stat.st_uid, stat.st_gid), (600_000, 600_000), "{name}");
        assert_eq!(fs::metadata(layers[usize::from(name == "higher")].join(name)).expect("there").uid(), 0);
    }
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    assert!(!table.contains(scratch.path().to_str().expect("UTF-8")), "{table}");
}
