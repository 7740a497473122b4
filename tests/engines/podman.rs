//! Podman with `--runtime`.
use super::engine::Engine;
use crate::common::{
    Call, Scratch, eventually, image_archive, program_exists, require, require_root, wharf_oci,
};

const IMAGE: &str = "localhost/shell";

/// Everything of Podman below the scratch.
fn options(scratch: &Scratch) -> Vec<String> {
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let named = [("--root", path("root")), ("--runroot", path("run")), ("--tmpdir", path("tmp"))];
    let mut options: Vec<String> =
        named.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    options.extend(
        ["--cgroup-manager=cgroupfs", "--events-backend=file", "--storage-driver=overlay"].map(str::to_owned),
    );
    options.push(format!("--runtime={}", wharf_oci().display()));
    options
}

fn configured(scratch: &Scratch, call: Call) -> Call {
    call.env("CONTAINERS_CONF", scratch.path().join("containers.conf"))
}

struct Podman(Engine);

impl Podman {
    fn new(name: &str) -> Self {
        let engine = Engine::new(name, |scratch| {
            let podman = format!("podman {}", options(scratch).join(" "));
            let conf = scratch.path().join("containers.conf");
            vec![format!(
                "export CONTAINERS_CONF={}; {podman} pod rm -fa -t 0; {podman} rm -fa -t 0",
                conf.display()
            )]
        });
        // Podman's own default raises hard limits, which needs CAP_SYS_RESOURCE.
        let text = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        std::fs::write(engine.scratch.path().join("containers.conf"), text).unwrap();
        let podman = Self(engine);
        podman.call(["load", "--input"]).arg(image_archive("shell.docker.tar")).ok();
        podman
    }
    fn call<const N: usize>(&self, arguments: [&str; N]) -> Call {
        let scratch = &self.0.scratch;
        configured(scratch, Call::new("podman").args(options(scratch)).args(arguments))
    }
    fn run(&self, arguments: &[&str]) -> Call {
        let parent = format!("--cgroup-parent=/{}", self.0.scratch.name("engine"));
        self.call(["run", "--network=none", &parent]).args(arguments)
    }
    fn inspect(&self, name: &str, format: &str) -> String {
        self.call(["inspect", "--format", format, name]).ok().text().to_owned()
    }
}

macro_rules! require_podman {
    () => {
        require_root!();
        require!(program_exists("podman") && program_exists("conmon"), "needs podman and conmon");
    };
}

#[test]
fn podman_runs_containers_and_tells_their_exit_status_and_why_they_cannot_start() {
    require_podman!();
    let podman = Podman::new("podrun");
    assert_eq!(podman.run(&["--rm", IMAGE, "sh", "-c", "echo out; exit 7"]).exits(7).stdout, "out\n");
    podman.run(&["--rm", IMAGE, "/nowhere"]).exits(127);
    podman.run(&["--rm", IMAGE, "nowhere"]).exits(127);
    podman.run(&["--rm", IMAGE, "/etc/passwd"]).exits(126);
    // Podman does not copy what a terminal still holds when the container ends.
    let script = "tty; sleep 1; exit 6";
    let terminal = podman.run(&["--rm", "-it", IMAGE, "sh", "-c", script]).in_terminal(31, 91).outcome();
    assert_eq!(terminal.code, Some(6), "{terminal}");
    assert!(terminal.stdout.contains("/dev/pts/0"), "{terminal}");
    // Mapped ids; cgroups of the host, which such a container may not mount, are bound.
    let script = "cat /proc/self/uid_map; id -u; touch /x && stat -c %u /x; ls /sys/fs/cgroup | wc -l";
    let mapped = podman.run(&["--rm", "--uidmap=0:100000:65536", IMAGE, "sh", "-c", script]).ok().stdout;
    let words: Vec<&str> = mapped.split_whitespace().collect();
    assert_eq!(words[..5], ["0", "100000", "65536", "0", "0"], "{mapped}");
    assert!(words[5].parse::<u32>().unwrap() > 0, "{mapped}");
}

#[test]
fn podman_leads_a_container_through_its_life_within_its_bounds() {
    require_podman!();
    let podman = Podman::new("podlife");
    let bounds = [
        "--detach",
        "--name=life",
        "--memory=64m",
        "--cpus=0.5",
        "--pids-limit=50",
        "--user=1000:1000",
        "--read-only",
        "--tmpfs=/tmp",
        "--cap-drop=ALL",
        "--hostname=inner",
    ];
    podman.run(&[&bounds[..], &[IMAGE, "sh", "-c", "echo logged; exec sleep 1000"]].concat()).ok();
    let script = "id -u; grep CapEff /proc/self/status; touch /x || echo read-only; touch /tmp/x && echo tmpfs; hostname";
    let told = podman.call(["exec", "life", "sh", "-c", script]).ok().stdout;
    assert_eq!(told, "1000\nCapEff:\t0000000000000000\nread-only\ntmpfs\ninner\n");
    podman.call(["exec", "life", "nowhere"]).exits(127);
    podman.call(["exec", "life", "/etc/passwd"]).exits(126);
    podman.call(["exec", "life", "sh", "-c", "exit 8"]).exits(8);
    assert_eq!(podman.call(["top", "life"]).ok().stdout.lines().count(), 2);
    assert!(podman.call(["stats", "--no-stream", "life"]).ok().stdout.contains("67.11MB"));
    assert_eq!(podman.call(["logs", "life"]).ok().stdout, "logged\n");
    podman.call(["pause", "life"]).ok();
    assert_eq!(podman.inspect("life", "{{.State.Status}}"), "paused");
    podman.call(["unpause", "life"]).ok();
    podman.call(["kill", "life"]).ok();
    assert_eq!(podman.call(["wait", "life"]).ok().text(), "137");
    podman.call(["start", "life"]).ok();
    podman.call(["stop", "--time=0", "life"]).ok();
    podman.call(["rm", "life"]).ok();
}

#[test]
fn podman_shares_namespaces_in_a_pod_and_restarts_by_policy() {
    require_podman!();
    let podman = Podman::new("podpod");
    let first = ["--detach", "--name=first", "--ipc=shareable", "--hostname=shared", IMAGE, "sleep", "1000"];
    podman.run(&first).ok();
    let parent = format!("--cgroup-parent=/{}", podman.0.scratch.name("engine"));
    let joined = [
        "run",
        "--rm",
        &parent,
        "--network=container:first",
        "--pid=container:first",
        "--ipc=container:first",
        "--uts=container:first",
    ];
    let told = podman.call(joined).args([IMAGE, "sh", "-c", "hostname; cat /proc/1/comm"]).ok().stdout;
    assert_eq!(told, "shared\nsleep\n");
    podman.run(&["--detach", "--name=again", "--restart=on-failure:2", IMAGE, "false"]).ok();
    eventually("it was restarted twice", || podman.inspect("again", "{{.RestartCount}}") == "2");
}
