//! containerd and Docker, both ways, each daemon with its own state in the scratch.
use crate::common::{self, Call, Scratch, image_archive, program_exists, require};
use crate::engine::Engine;
use crate::{load, references, runs};
use std::path::Path;

/// Debian's client; another one may stand before it in the search path.
const CLIENT: &str = "/usr/bin/docker";

fn show(engine: &Engine, name: &str) -> String {
    engine.scratch.path().join(name).display().to_string()
}

fn containerd(name: &str) -> Engine {
    let mut engine = Engine::new(name, |_| Vec::new());
    let config = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
        show(&engine, "root"),
        show(&engine, "state"),
        show(&engine, "c.sock"),
        show(&engine, "c.sock.ttrpc")
    );
    let path = engine.scratch.path().join("config.toml");
    std::fs::write(&path, config).unwrap();
    let address = show(&engine, "c.sock");
    let ready = || Call::new("ctr").args(["--address", &address, "version"]);
    engine.start(Call::new("containerd").arg("--config").arg(path), "c.sock", ready);
    engine
}

#[test]
fn containerd_exports_what_loads_and_imports_what_is_saved() {
    common::require_root!();
    require!(program_exists("containerd") && program_exists("ctr"), "needs containerd");
    let engine = containerd("ctrsave");
    let address = show(&engine, "c.sock");
    let ctr = |arguments: &[&str]| {
        Call::new("ctr")
            .args(["--address", &address, "--namespace", &engine.scratch.name("n")])
            .args(arguments)
    };
    let here = Scratch::new("here");
    here.load("shell");
    here.load("web");
    let names = ["docker.io/library/shell:latest", "docker.io/library/web:latest"];
    for form in [&[][..], &["--format", "docker-archive"]] {
        let saved = show(&engine, "saved.tar");
        here.wharf(["save", "--output", &saved, "shell", "web"]).args(form).ok();
        ctr(&["images", "import", "--digests=false", &saved]).ok();
        let listed = ctr(&["images", "ls", "--quiet"]).ok().stdout;
        assert_eq!(listed.lines().collect::<Vec<_>>(), names, "{form:?}");
        let exported = show(&engine, "exported.tar");
        ctr(&["images", "export", &exported, names[0], names[1]]).ok();
        let there = Scratch::new("there");
        load(&there, Path::new(&exported));
        assert_eq!(references(&there), ["shell:latest", "web:latest"], "{form:?}");
        runs(&there, "shell");
        ctr(&["images", "rm", names[0], names[1]]).ok();
    }
}

#[test]
fn docker_saves_what_loads_and_loads_what_is_saved() {
    common::require_root!();
    require!(program_exists("dockerd") && Path::new(CLIENT).exists(), "needs Docker (package docker.io)");
    let mut engine = Engine::new("docksave", |_| Vec::new());
    let host = format!("unix://{}", show(&engine, "d.sock"));
    std::fs::write(engine.scratch.path().join("absent.json"), "{}").unwrap();
    let option = |name: &str, file: &str| format!("--{name}={}", show(&engine, file));
    let daemon = Call::new("dockerd")
        .args([option("data-root", "data"), option("exec-root", "exec"), option("pidfile", "pid")])
        .args([option("config-file", "absent.json"), format!("--host={host}")])
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
    let docker = |arguments: &[&str]| Call::new(CLIENT).args(["--host", &host]).args(arguments);
    engine.start(daemon, "d.sock", || docker(&["version"]));
    let here = Scratch::new("here");
    here.load("shell");
    here.load("web");
    for form in [&[][..], &["--format", "docker-archive"], &["--compress", "gzip"]] {
        let saved = show(&engine, "saved.tar");
        here.wharf(["save", "--output", &saved, "shell", "web"]).args(form).ok();
        docker(&["load", "--input", &saved]).ok();
        let listed = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().stdout;
        let mut listed: Vec<&str> = listed.lines().collect();
        listed.sort_unstable();
        assert_eq!(listed, ["shell:latest", "web:latest"], "{form:?}");
        docker(&["rmi", "--force", "shell", "web"]).ok();
    }
    docker(&["load", "--input"]).arg(image_archive("shell.docker.tar")).ok();
    docker(&["tag", "shell", "again:2"]).ok();
    let saved = show(&engine, "docker.tar");
    docker(&["save", "--output", &saved, "shell", "again:2"]).ok();
    let there = Scratch::new("there");
    load(&there, Path::new(&saved));
    assert_eq!(references(&there), ["again:2", "shell:latest"]);
    runs(&there, "again:2");
    let bytes = std::fs::read(&saved).unwrap();
    let piped = Scratch::new("piped");
    piped.wharf(["load"]).stdin(crate::zstd(&bytes)).ok();
    assert_eq!(references(&piped), ["again:2", "shell:latest"]);
}
