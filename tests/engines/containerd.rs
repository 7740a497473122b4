//! containerd by its own client `ctr`, with `--runc-binary`.
use super::engine::Engine;
use crate::common::{
    Call, Outcome, Scratch, eventually, image_archive, program_exists, require, require_root, sparseness,
    systemd_runs, wharf_oci,
};

fn socket(scratch: &Scratch) -> String {
    scratch.path().join("c.sock").display().to_string()
}

fn ctr_of(scratch: &Scratch) -> Call {
    Call::new("ctr").args(["--address", &socket(scratch), "--namespace", &scratch.name("engine")])
}

struct Containerd(Engine);

impl Containerd {
    fn new(name: &str) -> Self {
        let mut engine = Engine::new(name, |scratch| {
            let ctr = format!("ctr --address {} --namespace {}", socket(scratch), scratch.name("engine"));
            vec![format!(
                "for t in $({ctr} task ls -q); do {ctr} task rm -f $t; done; {ctr} container ls -q | xargs -r {ctr} container rm"
            )]
        });
        let path = engine.scratch.path().to_owned();
        let show = |name: &str| path.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            show("root"),
            show("state"),
            show("c.sock"),
            show("c.sock.ttrpc")
        );
        std::fs::write(path.join("config.toml"), config).unwrap();
        start(&mut engine);
        let containerd = Self(engine);
        containerd.ctr(["image", "import"]).arg(image_archive("shell.tar")).ok();
        containerd
    }
    fn ctr<const N: usize>(&self, arguments: [&str; N]) -> Call {
        ctr_of(&self.0.scratch).args(arguments)
    }
    /// `ctr run` with wharf-oci; `arguments` are options, image, id and command.
    fn run(&self, arguments: &[&str]) -> Call {
        let state = self.0.scratch.path().join("runtime");
        let call = self.ctr(["run", "--runc-binary"]).arg(wharf_oci()).arg("--runc-root").arg(state);
        call.args(arguments)
    }
    fn status(&self, id: &str) -> String {
        let listing = self.ctr(["task", "ls"]).ok().stdout;
        let row = listing.lines().find(|line| line.starts_with(id)).unwrap_or_default();
        row.split_whitespace().last().unwrap_or_default().to_owned()
    }
}

fn start(engine: &mut Engine) {
    let config = engine.scratch.path().join("config.toml");
    let daemon = Call::new("containerd").arg("--config").arg(config);
    let address = socket(&engine.scratch);
    engine.start(daemon, "c.sock", || Call::new("ctr").args(["--address", &address, "version"]));
}

macro_rules! require_containerd {
    () => {
        require_root!();
        require!(
            program_exists("containerd") && program_exists("ctr"),
            "needs containerd (package containerd)"
        );
    };
}

#[test]
fn containerd_runs_containers_and_tells_their_exit_status_and_why_they_cannot_start() {
    require_containerd!();
    let containerd = Containerd::new("ctrrun");
    let outcome = containerd
        .run(&["--rm", "shell:latest", "one", "sh", "-c", "echo out; echo err >&2; exit 3"])
        .exits(3);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    let words = |program: &str| containerd.run(&["--rm", "shell:latest", "two", program]).outcome().stderr;
    assert!(words("/nowhere").contains("no such file or directory"));
    assert!(words("nowhere").contains("executable file not found in $PATH"));
    assert!(words("/etc/passwd").contains("permission denied"));
    let call =
        containerd.run(&["--rm", "--tty", "shell:latest", "three", "sh", "-c", "tty; stty size; exit 4"]);
    let outcome = call.in_terminal(30, 90).outcome();
    assert_eq!(outcome.code, Some(4), "{outcome}");
    assert!(outcome.stdout.contains("/dev/pts/0"), "{outcome}");
}

#[test]
fn containerd_leads_a_container_through_its_life() {
    require_containerd!();
    let containerd = Containerd::new("ctrlife");
    let limits = ["--detach", "--memory-limit", "67108864", "--cpus", "0.5"];
    containerd.run(&[&limits[..], &["shell:latest", "life", "sleep", "1000"]].concat()).ok();
    assert_eq!(containerd.status("life"), "RUNNING");
    assert_eq!(
        containerd.ctr(["task", "exec", "--exec-id", "e1", "life", "echo", "inside"]).ok().stdout,
        "inside\n"
    );
    containerd.ctr(["task", "exec", "--exec-id", "e2", "life", "sh", "-c", "exit 9"]).exits(9);
    let processes = containerd.ctr(["task", "ps", "life"]).ok().stdout;
    assert_eq!(processes.lines().count(), 2, "{processes}");
    let metrics = containerd.ctr(["task", "metrics", "life"]).ok().stdout;
    assert!(metrics.contains("67108864"), "{metrics}");
    containerd.ctr(["task", "pause", "life"]).ok();
    assert_eq!(containerd.status("life"), "PAUSED");
    containerd.ctr(["task", "resume", "life"]).ok();
    assert_eq!(containerd.status("life"), "RUNNING");
    containerd.ctr(["task", "kill", "--signal", "KILL", "life"]).ok();
    eventually("it stops", || containerd.status("life") == "STOPPED");
    let removed = containerd.ctr(["task", "rm", "life"]).outcome();
    assert!(removed.stderr.contains("137"), "{removed}");
    containerd.ctr(["container", "rm", "life"]).ok();
}

#[test]
fn containerd_runs_a_container_in_a_scope_of_systemd() {
    require_containerd!();
    require!(systemd_runs(), "needs systemd as the first process");
    let containerd = Containerd::new("ctrscope");
    let id = containerd.0.scratch.name("scope");
    let cgroup = format!("system.slice:wharf:{id}");
    let options = ["--runc-systemd-cgroup", "--cgroup", &cgroup, "--detach", "--memory-limit", "67108864"];
    containerd.run(&[&options[..], &["shell:latest", &id, "sleep", "1000"]].concat()).ok();
    let unit = format!("wharf-{id}.scope");
    let shown = |property: &str| {
        Call::new("systemctl").args(["show", "--value", "--property", property, &unit]).ok().text().to_owned()
    };
    assert_eq!(["Slice", "MemoryMax"].map(shown), ["system.slice", "67108864"]);
    let exec = containerd.ctr(["task", "exec", "--exec-id", "e1", &id, "cat", "/proc/self/cgroup"]);
    // ctr gives a container no cgroup namespace.
    let seen = exec.ok().stdout;
    assert!(seen.ends_with(&format!("0::/system.slice/{unit}\n")), "{seen}");
    let metrics = containerd.ctr(["task", "metrics", &id]).ok().stdout;
    assert!(metrics.contains("67108864"), "{metrics}");
    containerd.ctr(["task", "rm", "--force", &id]).ok();
    eventually("the scope is gone", || shown("LoadState") == "not-found");
}

#[test]
fn containerd_runs_twenty_at_once() {
    require_containerd!();
    let containerd = Containerd::new("ctrmany");
    let run = |number: usize| {
        let id = format!("c{number}");
        containerd.run(&["--rm", "shell:latest", &id, "sh", "-c", "echo alive; exit 5"]).outcome()
    };
    let run = &run;
    // containerd's own waits of half a minute are too short for twenty on an emulated machine.
    let count = (20 / sparseness()).max(5);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for outcome in outcomes {
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(5), "alive\n"), "{outcome}");
    }
}

#[test]
fn a_container_outlives_a_restart_of_containerd() {
    require_containerd!();
    let mut containerd = Containerd::new("ctragain");
    containerd.run(&["--detach", "shell:latest", "stays", "sleep", "1000"]).ok();
    containerd.0.stop();
    start(&mut containerd.0);
    assert_eq!(containerd.status("stays"), "RUNNING");
    assert_eq!(
        containerd.ctr(["task", "exec", "--exec-id", "e1", "stays", "echo", "still"]).ok().stdout,
        "still\n"
    );
    containerd.ctr(["task", "kill", "--signal", "TERM", "stays"]).ok();
    containerd.ctr(["task", "kill", "--signal", "KILL", "stays"]).outcome();
    eventually("it stops", || containerd.status("stays") == "STOPPED");
}
