//! Docker Engine with `--add-runtime`.
use super::engine::Engine;
use crate::common::{
    Call, CgroupHost, Scratch, eventually_within, image_archive, program_exists, require, require_root,
    systemd_runs, wharf_oci,
};
use std::time::Duration;

/// Debian's client; another one may stand before it in the search path.
const CLIENT: &str = "/usr/bin/docker";

fn host(scratch: &Scratch) -> String {
    format!("unix://{}", scratch.path().join("d.sock").display())
}

/// Who makes the cgroups: `wharf-oci` itself, or systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    Cgroupfs,
    Systemd,
}

impl Driver {
    /// The one that Docker takes by itself on this machine.
    fn preferred() -> Self {
        let systemd = systemd_runs() && CgroupHost::here() == CgroupHost::V2;
        if systemd { Self::Systemd } else { Self::Cgroupfs }
    }
}

struct Docker(Engine);

impl Docker {
    fn new(name: &str, driver: Driver) -> Self {
        let mut engine = Engine::new(name, |scratch| {
            let docker = format!("{CLIENT} --host {}", host(scratch));
            vec![format!("{docker} ps -aq | xargs -r {docker} rm -f")]
        });
        let path = engine.scratch.path().to_owned();
        let option = |name: &str, file: &str| format!("--{name}={}", path.join(file).display());
        let daemon = Call::new("dockerd")
            .args([option("data-root", "data"), option("exec-root", "exec"), option("pidfile", "pid")])
            .args([option("config-file", "absent.json"), format!("--host={}", host(&engine.scratch))])
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--default-runtime=wharf"])
            .arg(format!("--add-runtime=wharf={}", wharf_oci().display()))
            .args(match driver {
                Driver::Systemd => vec![format!("--cgroup-parent={}", engine.slice())],
                Driver::Cgroupfs => vec![
                    format!("--cgroup-parent=/{}", engine.scratch.name("engine")),
                    "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
                ],
            });
        std::fs::write(path.join("absent.json"), "{}").unwrap();
        let address = host(&engine.scratch);
        engine.start(daemon, "d.sock", || Call::new(CLIENT).args(["--host", &address, "version"]));
        let docker = Self(engine);
        docker.call(["load", "--input"]).arg(image_archive("shell.docker.tar")).ok();
        docker
    }
    fn call<const N: usize>(&self, arguments: [&str; N]) -> Call {
        Call::new(CLIENT).args(["--host", &host(&self.0.scratch)]).args(arguments)
    }
    /// `docker run` without a network, which needs no bridge.
    fn run(&self, arguments: &[&str]) -> Call {
        self.call(["run", "--network=none"]).args(arguments)
    }
    fn inspect(&self, name: &str, format: &str) -> String {
        self.call(["inspect", "--format", format, name]).ok().text().to_owned()
    }
}

macro_rules! require_docker {
    () => {
        require_root!();
        require!(program_exists("dockerd"), "needs dockerd (package docker.io)");
    };
}

#[test]
fn docker_runs_containers_and_tells_their_exit_status_and_why_they_cannot_start() {
    require_docker!();
    let docker = Docker::new("dockrun", Driver::preferred());
    let outcome = docker.run(&["--rm", "shell", "sh", "-c", "echo out; exit 7"]).exits(7);
    assert_eq!(outcome.stdout, "out\n");
    docker.run(&["--rm", "shell", "/nowhere"]).exits(127);
    docker.run(&["--rm", "shell", "nowhere"]).exits(127);
    docker.run(&["--rm", "shell", "/etc/passwd"]).exits(126);
    docker.run(&["--rm", "--memory", "1", "shell", "true"]).exits(125);
    let shared = docker.0.scratch.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "from the host\n").unwrap();
    let volume = format!("{}:/data:ro", shared.display());
    assert_eq!(
        docker.run(&["--rm", "-v", &volume, "shell", "cat", "/data/file"]).ok().stdout,
        "from the host\n"
    );
    let own = docker.run(&["--rm", "--pid=host", "shell", "sh", "-c", "test -d /proc/2 && echo host"]).ok();
    assert_eq!(own.stdout, "host\n");
    docker.run(&["--rm", "--cgroupns=host", "--security-opt", "seccomp=unconfined", "shell", "true"]).ok();
    let terminal =
        docker.run(&["--rm", "-it", "shell", "sh", "-c", "stty size; exit 6"]).in_terminal(31, 91).outcome();
    assert_eq!(terminal.code, Some(6), "{terminal}");
    let info = docker.call(["info", "--format", "{{.CgroupDriver}} {{json .Runtimes}}"]).ok().stdout;
    let driver = if Driver::preferred() == Driver::Systemd { "systemd " } else { "cgroupfs " };
    assert!(info.starts_with(driver) && info.contains("wharf"), "{info}");
}

#[test]
fn docker_leads_a_container_through_its_life_within_its_bounds() {
    require_docker!();
    let docker = Docker::new("docklife", Driver::preferred());
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
        "--ulimit=nofile=100",
        "--sysctl=net.ipv4.ip_forward=1",
        "--hostname=inner",
        "--init",
    ];
    docker.run(&[&bounds[..], &["shell", "sh", "-c", "echo logged; exec sleep 1000"]].concat()).ok();
    let script = "id -u; grep CapEff /proc/self/status; ulimit -n; touch /x || echo read-only; touch /tmp/x && echo tmpfs; hostname; cat /proc/sys/net/ipv4/ip_forward";
    let told = docker.call(["exec", "life", "sh", "-c", script]).ok().stdout;
    assert_eq!(told, "1000\nCapEff:\t0000000000000000\n100\nread-only\ntmpfs\ninner\n1\n");
    assert_eq!(docker.call(["top", "life"]).ok().stdout.lines().count(), 3);
    assert!(docker.call(["stats", "--no-stream", "life"]).ok().stdout.contains("64MiB"));
    assert_eq!(docker.call(["logs", "life"]).ok().stdout, "logged\n");
    docker.call(["pause", "life"]).ok();
    assert_eq!(docker.inspect("life", "{{.State.Status}}"), "paused");
    docker.call(["unpause", "life"]).ok();
    docker.call(["update", "--memory=128m", "--memory-swap=256m", "--pids-limit=60", "life"]).ok();
    assert!(docker.call(["stats", "--no-stream", "life"]).ok().stdout.contains("128MiB"));
    let absent = docker.call(["exec", "life", "nowhere"]).exits(126);
    assert!(absent.stdout.contains("executable file not found in $PATH"), "{absent}");
    docker.call(["exec", "life", "sh", "-c", "exit 8"]).exits(8);
    docker.call(["exec", "-t", "life", "sh", "-c", "tty"]).ok();
    docker.call(["stop", "--time=1", "life"]).ok();
    assert_eq!(docker.inspect("life", "{{.State.ExitCode}} {{.State.Status}}"), "143 exited");
    docker.call(["start", "life"]).ok();
    docker.call(["kill", "life"]).ok();
    docker.call(["rm", "--force", "life"]).ok();
}

#[test]
fn docker_hears_of_oom_kills_restarts_by_policy_and_probes_health() {
    require_docker!();
    let docker = Docker::new("dockwatch", Driver::Cgroupfs);
    // The event of the kill and the exit race each other in containerd's shim, which does not wait for the first.
    let is_told = |name: &str| {
        let bound = ["--memory=16m", "--memory-swap=16m", "shell", "tail", "/dev/zero"];
        docker.run(&[&["--name", name][..], &bound].concat()).exits(137);
        docker.inspect(name, "{{.State.OOMKilled}}") == "true"
    };
    assert!(["oom", "oom2", "oom3"].into_iter().any(is_told), "no OOM kill of three was told");
    docker.run(&["--detach", "--name=again", "--restart=on-failure:2", "shell", "false"]).ok();
    let probe = [
        "--detach",
        "--name=probed",
        "--health-cmd=test -e /ok",
        "--health-interval=1s",
        "--health-retries=1",
    ];
    docker.run(&[&probe[..], &["shell", "sh", "-c", "touch /ok; sleep 1000"]].concat()).ok();
    let limit = Duration::from_secs(30);
    eventually_within(limit, "it was restarted twice", || {
        docker.inspect("again", "{{.RestartCount}} {{.State.Status}}") == "2 exited"
    });
    eventually_within(limit, "it is healthy", || {
        docker.inspect("probed", "{{.State.Health.Status}}") == "healthy"
    });
    let copy = docker.0.scratch.path().join("copied");
    docker.call(["cp", "probed:/bin/busybox"]).arg(&copy).ok();
    assert!(copy.is_file());
}
