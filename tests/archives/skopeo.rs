//! skopeo and umoci, both ways.
use crate::common::{self, Call, Scratch, image_archive, program_exists, require};
use crate::{digest, load, references, runs};
use serde_json::Value;
use std::path::Path;

fn skopeo(scratch: &Scratch, arguments: &[&str]) -> Call {
    let policy = scratch.path().join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    Call::new("skopeo").arg("--policy").arg(policy).args(arguments)
}

macro_rules! require_skopeo {
    () => {
        common::require_root!();
        require!(program_exists("skopeo"), "needs skopeo");
    };
}

#[test]
fn every_form_that_skopeo_copies_to_loads() {
    require_skopeo!();
    let there = Scratch::new("there");
    let path = |name: &str| there.path().join(name);
    let source = format!("docker-archive:{}", image_archive("shell.docker.tar").display());
    let copies = [
        ("layout", format!("oci:{}:team/box:1", path("layout").display())),
        ("oci.tar", format!("oci-archive:{}:team/box:1", path("oci.tar").display())),
        ("docker.tar", format!("docker-archive:{}:team/box:1", path("docker.tar").display())),
    ];
    for (name, destination) in copies {
        skopeo(&there, &["copy", &source, &destination]).ok();
        let here = Scratch::new("here");
        load(&here, &path(name));
        assert_eq!(references(&here), ["team/box:1"], "{name}");
        runs(&here, "team/box:1");
    }
    // A tag alone is completed by the name of the file.
    let tagged = format!("oci-archive:{}:v7", path("service.tar").display());
    skopeo(&there, &["copy", "--dest-compress-format", "zstd", &source, &tagged]).ok();
    let here = Scratch::new("here");
    load(&here, &path("service.tar"));
    runs(&here, "service:v7");
}

#[test]
fn skopeo_reads_and_copies_every_form_that_is_saved_here() {
    require_skopeo!();
    let here = Scratch::new("here");
    here.load("shell");
    here.load("web");
    let path = |name: &str| here.path().join(name).display().to_string();
    let save = |arguments: &[&str], to: &str| here.wharf(["save", "--output", to]).args(arguments).ok();
    save(&["shell"], &path("one.tar"));
    save(&["shell", "web"], &path("both.tar"));
    save(&["--format", "docker-archive", "shell", "web"], &path("docker.tar"));
    save(&["--format", "oci-dir", "shell", "web"], &path("layout"));
    let inspect = |reference: String| -> Value { skopeo(&here, &["inspect", &reference]).ok().json() };
    let expected = digest(&here, "shell:latest");
    assert_eq!(inspect(format!("oci-archive:{}", path("one.tar")))["Digest"], expected);
    for name in ["shell", "web"] {
        let reference = format!("docker.io/library/{name}:latest");
        let oci = [
            format!("oci:{}:{reference}", path("layout")),
            format!("oci-archive:{}:{reference}", path("both.tar")),
        ];
        for source in oci {
            assert_eq!(inspect(source)["Digest"], digest(&here, &format!("{name}:latest")));
        }
        for (number, file) in ["docker.tar", "both.tar"].iter().enumerate() {
            let source = format!("docker-archive:{}:{reference}", path(file));
            assert_eq!(inspect(source.clone())["Name"], format!("docker.io/library/{name}"));
            let copy = here.path().join(format!("copy-{name}-{number}"));
            skopeo(&here, &["copy", &source, &format!("dir:{}", copy.display())]).ok();
            assert!(copy.join("manifest.json").is_file());
        }
    }
}

fn umoci(arguments: &[&str]) -> Call {
    Call::new("umoci").args(arguments)
}

#[test]
fn umoci_unpacks_what_is_saved_here_and_what_it_packs_loads() {
    common::require_root!();
    require!(program_exists("umoci"), "needs umoci");
    let here = Scratch::new("here");
    here.load("shell");
    let layout = here.path().join("layout").display().to_string();
    here.wharf(["save", "--format", "oci-dir", "--output", &layout, "shell"]).ok();
    let name = "docker.io/library/shell:latest";
    assert_eq!(umoci(&["ls", "--layout", &layout]).ok().text(), name);
    let bundle = here.path().join("bundle");
    let show = |path: &Path| path.display().to_string();
    umoci(&["unpack", "--image", &format!("{layout}:{name}"), &show(&bundle)]).ok();
    assert!(bundle.join("rootfs/bin/busybox").is_file());
    std::fs::write(bundle.join("rootfs/added"), "by umoci\n").unwrap();
    umoci(&["repack", "--image", &format!("{layout}:v2"), &show(&bundle)]).ok();
    let there = Scratch::new("there");
    load(&there, Path::new(&layout));
    assert_eq!(references(&there), ["layout:v2", "shell:latest"]);
    // The same when it is added to what was saved as an archive.
    let archive = show(&here.path().join("saved.tar"));
    here.wharf(["save", "--output", &archive, "shell"]).ok();
    let layout = here.path().join("opened");
    std::fs::create_dir(&layout).unwrap();
    Call::new("tar").args(["-xf", &archive, "-C"]).arg(&layout).ok();
    umoci(&["tag", "--image", &format!("{}:{name}", show(&layout)), "v3"]).ok();
    load(&there, &layout);
    assert_eq!(references(&there), ["layout:v2", "opened:v3", "shell:latest"]);
    let read = ["run", "--rm", "--network", "none", "layout:v2", "cat", "/added"];
    assert_eq!(there.wharf(read).ok().stdout, "by umoci\n");
}
