//! Bundles that other programs write.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Call, Scratch, program_exists, require};
use serde_json::{Value, json};
use std::path::Path;

fn edit(config: &Path, change: impl FnOnce(&mut Value)) {
    let mut spec: Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    change(&mut spec);
    std::fs::write(config, spec.to_string()).unwrap();
}

#[test]
fn a_bundle_of_runc_spec_runs() {
    common::require_root!();
    require!(program_exists("runc"), "needs runc");
    let scratch = Scratch::new("runc");
    let bundle = scratch.bundle(&["/bin/true"]);
    let config = bundle.path.join("config.json");
    std::fs::remove_file(&config).unwrap();
    Call::new("runc").args(["spec", "--bundle", bundle.arg()]).ok();
    edit(&config, |spec| {
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["sh", "-c", "echo $(hostname) $$; exit 3"]);
    });
    let outcome = scratch.run(&bundle);
    assert_eq!((outcome.code, outcome.text()), (Some(3), "runc 1"), "{outcome}");
}

#[test]
fn a_bundle_of_umoci_runs() {
    common::require_root!();
    require!(program_exists("umoci"), "needs umoci");
    let scratch = Scratch::new("umoci");
    let layout = scratch.path().join("layout");
    let image = format!("{}:latest", layout.display());
    let umoci = |args: &[&str]| Call::new("umoci").args(args).ok();
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--image", &image, common::busybox_rootfs().to_str().unwrap(), "/"]);
    umoci(&[
        "config",
        "--image",
        &image,
        "--config.entrypoint",
        "/bin/sh",
        "--config.cmd",
        "-c",
        "--config.cmd",
        "echo $GREETING; exit 4",
        "--config.env",
        "GREETING=hi",
    ]);
    let bundle = scratch.path().join("bundle");
    umoci(&["unpack", "--image", &image, bundle.to_str().unwrap()]);
    edit(&bundle.join("config.json"), |spec| spec["process"]["terminal"] = json!(false));
    let id = scratch.name("umoci");
    let outcome = scratch.oci(["run", "--bundle", bundle.to_str().unwrap(), &id]).exits(4);
    assert_eq!(outcome.text(), "hi", "{outcome}");
}
