//! Podman, both ways, with everything of it below the scratch.
use crate::common::{self, Call, Scratch, image_archive, program_exists, require};
use crate::engine::Engine;
use crate::{load, references, runs};
use std::path::PathBuf;

struct Podman(Engine);

impl Podman {
    fn new(name: &str) -> Self {
        Self(Engine::new(name, |_| Vec::new()))
    }
    fn call<const N: usize>(&self, arguments: [&str; N]) -> Call {
        let path = |name: &str| self.0.scratch.path().join(name).display().to_string();
        let own = [("--root", path("root")), ("--runroot", path("run")), ("--tmpdir", path("tmp"))];
        let own = own.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
        let fixed = ["--cgroup-manager=cgroupfs", "--events-backend=file", "--storage-driver=overlay"];
        Call::new("podman").args(own).args(fixed).args(arguments)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.scratch.path().join(name)
    }
    fn images(&self) -> Vec<String> {
        let listed = self.call(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().stdout;
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

macro_rules! require_podman {
    () => {
        common::require_root!();
        require!(program_exists("podman"), "needs podman");
    };
}

#[test]
fn every_form_that_podman_saves_loads() {
    require_podman!();
    let podman = Podman::new("podsave");
    for name in ["shell", "web"] {
        podman.call(["load", "--input"]).arg(image_archive(&format!("{name}.docker.tar"))).ok();
    }
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let here = Scratch::new("here");
        let saved = podman.path(format);
        podman.call(["save", "--format", format, "--output"]).arg(&saved).arg("localhost/shell:latest").ok();
        if format == "oci-dir" {
            // Podman names nothing in it.
            here.wharf(["load", "--tag", "localhost/shell"]).arg(&saved).ok();
        } else {
            load(&here, &saved);
        }
        assert_eq!(references(&here), ["localhost/shell:latest"], "{format}");
        runs(&here, "localhost/shell");
    }
    let here = Scratch::new("here");
    let saved = podman.path("both");
    let call = podman.call(["save", "--multi-image-archive", "--output"]).arg(&saved);
    call.args(["localhost/shell", "localhost/web"]).ok();
    let bytes = std::fs::read(&saved).unwrap();
    here.wharf(["load"]).stdin(crate::gzip(&bytes)).ok();
    assert_eq!(references(&here), ["localhost/shell:latest", "localhost/web:latest"]);
    runs(&here, "localhost/shell");
}

#[test]
fn podman_loads_every_form_that_is_saved_here() {
    require_podman!();
    let here = Scratch::new("here");
    here.load("shell");
    here.load("web");
    let forms: &[&[&str]] = &[
        &["shell"],
        &["--compress", "gzip", "shell"],
        &["--format", "docker-archive", "shell"],
        // Podman 4.3 reads no docker-archive in gzip, not gzip(1)'s either.
        &["--format", "docker-archive", "--compress", "zstd", "shell", "web"],
        &["shell", "web"],
    ];
    let podman = Podman::new("podload");
    for (number, form) in forms.iter().enumerate() {
        let saved = podman.path(&format!("saved{number}.tar"));
        here.wharf(["save", "--output"]).arg(&saved).args(*form).ok();
        podman.call(["load", "--input"]).arg(&saved).ok();
        let mut expected = vec!["docker.io/library/shell:latest"];
        expected.extend(form.contains(&"web").then_some("docker.io/library/web:latest"));
        assert_eq!(podman.images(), expected, "{form:?}");
        let command = podman.call(["inspect", "--format", "{{.Config.Cmd}}", "docker.io/library/shell"]);
        assert_eq!(command.ok().text(), "[/bin/sh]");
        podman.call(["rmi", "--all", "--force"]).ok();
    }
    let directory = podman.path("layout");
    here.wharf(["save", "--format", "oci-dir", "--output"]).arg(&directory).arg("shell").ok();
    podman.call(["load", "--input"]).arg(&directory).ok();
    assert_eq!(podman.images().len(), 1);
}

#[test]
fn podman_loads_what_was_imported_here() {
    require_podman!();
    let here = Scratch::new("here");
    let podman = Podman::new("podimport");
    let root = crate::tar_of(&[("hello", b"x")]);
    here.wharf(["import", "--change", "CMD [\"/hello\"]", "-", "quay.io/a/made:3"]).stdin(root).ok();
    let saved = podman.path("saved.tar");
    here.wharf(["save", "--output"]).arg(&saved).arg("quay.io/a/made:3").ok();
    podman.call(["load", "--input"]).arg(&saved).ok();
    assert_eq!(podman.images(), ["quay.io/a/made:3"]);
}
