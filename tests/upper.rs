//! The root file system of an instance: many layers, read-only, uppers in memory, and uppers that are not kept.

mod common;

use common::{Call, Scratch, eventually, image_archive};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// How many layers Docker allows.
const LAYERS: usize = 128;

fn blob(layout: &Path, bytes: &[u8]) -> Value {
    let hex = hex::encode(Sha256::digest(bytes));
    fs::write(layout.join("blobs/sha256").join(&hex), bytes).expect("write");
    json!({ "digest": format!("sha256:{hex}"), "size": bytes.len() })
}

fn document(layout: &Path, descriptor: &Value) -> Value {
    let hex = descriptor["digest"].as_str().expect("digest")[7..].to_owned();
    serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(hex)).expect("read")).expect("JSON")
}

/// A file of its own in each layer, and in every tenth one the removal of another's.
fn layer(index: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, name, text.as_bytes()).expect("append");
    };
    add(&format!("many/{index}"), &format!("{index}\n"));
    add("top", &format!("{index}\n"));
    if index.is_multiple_of(10) {
        add(&format!("many/.wh.{}", index - 5), "");
    }
    tar.into_inner().expect("tar")
}

/// The shell image below so many more layers that there are 128.
fn many_layers(scratch: &Scratch) -> PathBuf {
    let layout = scratch.path().join("many");
    fs::create_dir(&layout).expect("create");
    Call::new("tar").arg("-xf").arg(image_archive("shell.tar")).arg("-C").arg(&layout).ok();
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("read")).expect("JSON");
    let mut manifest = document(&layout, &index["manifests"][0]);
    let mut config = document(&layout, &manifest["config"]);
    config["history"] = json!([]);
    for index in 1..LAYERS {
        let mut layer = blob(&layout, &layer(index));
        config["rootfs"]["diff_ids"].as_array_mut().expect("a list").push(layer["digest"].clone());
        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
        manifest["layers"].as_array_mut().expect("a list").push(layer);
    }
    let kind = manifest["config"]["mediaType"].clone();
    manifest["config"] = blob(&layout, config.to_string().as_bytes());
    manifest["config"]["mediaType"] = kind;
    let mut descriptor = blob(&layout, manifest.to_string().as_bytes());
    descriptor["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
    fs::write(layout.join("index.json"), index.to_string()).expect("write");
    layout
}

#[test]
fn an_image_of_128_layers_shows_all_of_them_below_a_root_of_any_length() {
    common::require_root!();
    let scratch = Scratch::new("many");
    let layout = many_layers(&scratch);
    // fsconfig(2) takes strings of 255 bytes.
    let long = scratch.path().join("d".repeat(200)).join("e".repeat(100));
    let expected: Vec<String> = (1..LAYERS)
        .filter(|index| index % 10 != 5 || index + 5 >= LAYERS)
        .map(|index| index.to_string())
        .collect();
    for root in [scratch.root(), long] {
        scratch.wharf_at(&root, ["load".as_ref(), layout.as_os_str()]).ok();
        for options in
            [&[][..], &["--read-only"], &["--userns", "auto"], &["--upper", "tmpfs", "--userns", "auto"]]
        {
            let run = scratch.wharf_at(&root, ["run", "--rm"]).args(options);
            let seen =
                run.args(["many", "sh", "-c", "ls /many | sort -n; cat /top; cat /many/* | wc -l"]).ok();
            let lines: Vec<&str> = seen.stdout.lines().collect();
            assert_eq!(lines[..expected.len()], expected, "{options:?}");
            assert_eq!(lines[expected.len()..], [(LAYERS - 1).to_string(), expected.len().to_string()]);
        }
        let name = scratch.name("box");
        scratch
            .wharf_at(
                &root,
                [
                    "run",
                    "-d",
                    "--name",
                    &name,
                    "many",
                    "sh",
                    "-c",
                    "rm /many/1 /many/127; echo >/many/6; sleep 1000",
                ],
            )
            .ok();
        eventually("it has changed them", || {
            let diff = scratch.wharf_at(&root, ["diff", &name]).ok().stdout;
            diff == "C /many\nD /many/1\nD /many/127\nC /many/6\n"
        });
        scratch.wharf_at(&root, ["commit", &name, "fewer"]).ok();
        scratch.wharf_at(&root, ["rm", "-f", &name]).ok();
        let seen = scratch.wharf_at(&root, ["run", "--rm", "fewer", "sh", "-c", "ls /many | wc -l"]).ok();
        assert_eq!(seen.text(), (expected.len() - 2).to_string());
    }
}

#[test]
fn a_read_only_root_takes_nothing_and_tmpfs_places_do() {
    common::require_root!();
    let scratch = Scratch::new("ro");
    scratch.load("shell");
    for options in [&[][..], &["--userns", "auto"], &["--upper", "tmpfs"]] {
        let script = "for place in / /etc /etc/hosts /bin; do touch $place/x 2>/dev/null && echo wrote $place; done; \
            echo x >>/etc/passwd; mkdir /new; touch /tmp/x /run/x && ls /tmp /run; df / >/dev/null; id -u";
        let run = scratch.wharf([
            "run",
            "--rm",
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/run:size=1M,mode=700",
        ]);
        let seen = run.args(options).args(["shell", "sh", "-c", script]).ok();
        assert_eq!(seen.stdout, "/run:\nx\n\n/tmp:\nx\n0\n", "{options:?}");
        assert_eq!(seen.stderr.matches("Read-only file system").count(), 2, "{seen}");
    }
}

/// Bytes and names in an instance's directory, its log left out.
fn on_disk(directory: &Path) -> u64 {
    let size = Call::new("du").args(["--summarize", "--bytes", "--exclude=log*"]).arg(directory).ok();
    size.stdout.split_whitespace().next().expect("a number").parse().expect("a number")
}

#[test]
fn an_upper_in_memory_is_bounded_and_gone_when_the_instance_stops() {
    common::require_root!();
    let scratch = Scratch::new("memory");
    scratch.load("shell");
    for userns in ["host", "auto"] {
        let name = scratch.name("box");
        scratch
            .wharf(["run", "-d", "--name", &name, "--upper", "tmpfs:8M", "--userns", userns])
            .args(["shell", "sh", "-c", "test -e /mark && exit 9; touch /mark; echo ready; exec sleep 1000"])
            .ok();
        eventually("it is ready", || scratch.wharf(["logs", &name]).ok().stdout.ends_with("ready\n"));
        assert_eq!(scratch.inspect(&name)["upper"], json!({"memory": {"size_bytes": 8 << 20}}));
        let directory = scratch.root().join("instances").join(&name);
        let before = on_disk(&directory);
        let full =
            scratch.wharf(["exec", &name, "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=20"]).outcome();
        assert!(full.stderr.contains("No space left on device"), "{full}");
        assert_eq!(on_disk(&directory), before);
        assert_eq!(fs::read_dir(directory.join("upper")).expect("list").count(), 0);
        let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
        assert!(!table.contains(scratch.path().to_str().expect("UTF-8")), "{table}");
        for command in ["diff", "commit"] {
            let image = if command == "commit" { &["x"][..] } else { &[] };
            scratch.wharf([command, &name]).args(image).fails_with(&["in memory", "--upper disk"]);
        }
        // It would end with 9 if anything were left.
        scratch.wharf(["restart", "-t", "0", &name]).ok();
        assert_eq!(scratch.wharf(["exec", &name, "ls", "/big"]).outcome().code, Some(1));
        scratch.wharf(["exec", &name, "test", "-e", "/mark"]).ok();
        scratch.wharf(["rm", "-f", &name]).ok();
    }
    for text in ["tmpfs:", "tmpfs:0", "ram", "disk:1M"] {
        scratch.wharf(["run", "--rm", "--upper", text, "shell", "true"]).exits(125);
    }
}

/// Without being told, the kernel mounts no upper a second time that was mounted volatile.
#[test]
fn an_upper_that_is_not_kept_is_mounted_again_with_what_was_written() {
    use wharf::image::{Overlay, Upper};
    common::require_root!();
    let scratch = Scratch::new("volatile");
    let [layer, upper, work] = ["layer", "upper", "work"].map(|name| {
        let path = scratch.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    });
    let upper = Upper::Disk { upper: &upper, work: &work, volatile: true };
    let overlay = Overlay { layers: &[layer], upper, user_namespace: None };
    let root = overlay.mount().unwrap();
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    drop(rustix::fs::openat(&root, "mark", flags, rustix::fs::Mode::RUSR).unwrap());
    drop(root);
    let root = overlay.mount().unwrap();
    rustix::fs::accessat(&root, "mark", rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).unwrap();
}
