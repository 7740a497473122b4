//! Podman as most people run it: with systemd as its cgroup manager. scripts/vm runs this test.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{
    Call, Scratch, eventually, image_archive, program_exists, require, require_root, systemd_runs, wharf_oci,
};

const IMAGE: &str = "localhost/shell";

fn podman(scratch: &Scratch, arguments: &[&str]) -> Call {
    let mut call = Call::new("podman").args(["--cgroup-manager=systemd", "--events-backend=file"]);
    for (option, directory) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        call = call.arg(option).arg(scratch.path().join(directory));
    }
    call.arg("--runtime").arg(wharf_oci()).args(arguments)
}

fn shown(unit: &str, property: &str) -> String {
    let show = Call::new("systemctl").args(["show", "--value", "--property", property, unit]);
    show.ok().stdout.trim().to_owned()
}

#[test]
fn podman_leads_a_container_through_its_life_in_a_scope() {
    require_root!();
    require!(systemd_runs(), "needs systemd as the first process");
    require!(program_exists("podman") && program_exists("conmon"), "needs podman and conmon");
    let scratch = Scratch::new("podscope");
    podman(&scratch, &["load", "--quiet", "--input"]).arg(image_archive("shell.docker.tar")).ok();
    // Hierarchies of v1 may stand beside cgroup2.
    let script = "grep ^0:: /proc/self/cgroup; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; exit 7";
    let limits = ["--network=none", "--memory=64m", "--pids-limit=50"];
    let run = [&["run", "--rm"], &limits[..], &[IMAGE, "sh", "-c", script]].concat();
    assert_eq!(podman(&scratch, &run).exits(7).stdout, "0::/\n67108864\n50\n");

    let run = [&["run", "--detach"], &limits[..], &[IMAGE, "sleep", "1000"]].concat();
    let id = podman(&scratch, &run).ok().stdout.trim().to_owned();
    let unit = format!("libpod-{id}.scope");
    let told = ["Slice", "Delegate", "MemoryMax", "TasksMax"].map(|property| shown(&unit, property));
    assert_eq!(told, ["machine.slice", "yes", "67108864", "50"]);
    let seen = podman(&scratch, &["exec", &id, "grep", "^0::", "/proc/self/cgroup"]).ok().stdout;
    assert_eq!(seen, "0::/\n");
    podman(&scratch, &["update", "--memory=128m", &id]).ok();
    assert_eq!(shown(&unit, "MemoryMax"), "134217728");
    podman(&scratch, &["stop", "--time=0", &id]).ok();
    podman(&scratch, &["rm", &id]).ok();
    eventually("the scope is gone", || shown(&unit, "LoadState") == "not-found");
}
