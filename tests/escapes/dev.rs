//! Device files of an image that are traps.

use crate::common::{self, Bundle, Outcome, Scratch};
use crate::sentinel::{CORE_PATTERN, Sentinel, Setting};
use serde_json::json;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

/// Leaves the container with the image's own /dev.
fn without_dev_mounts(bundle: &mut Bundle) {
    bundle.edit(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
}

/// Runs a bundle with a terminal, taking its master like a container engine would.
fn run_on_a_terminal(scratch: &Scratch, bundle: &mut Bundle) -> Outcome {
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
    let socket = bundle.path.join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let id = scratch.name("terminal");
    let socket = socket.to_str().unwrap();
    let outcome =
        scratch.oci(["create", "--bundle", bundle.arg(), "--console-socket", socket, &id]).outcome();
    let _master = listener.accept().ok().map(|(stream, _)| received(&stream));
    if outcome.success() {
        scratch.oci(["start", &id]).outcome();
        scratch.oci(["delete", "--force", &id]).ok();
    }
    outcome
}

fn received(stream: &std::os::unix::net::UnixStream) -> Vec<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [MaybeUninit::uninit(); 128];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    stream.set_nonblocking(false).unwrap();
    recvmsg(stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    descriptors
}

#[test]
fn cve_2025_31133_dev_null_that_is_a_symlink_never_becomes_a_mask() {
    common::require_root!();
    let scratch = Scratch::new("null");
    let setting = Setting::of(CORE_PATTERN);
    let attack = "echo '|/evil' > /proc/kcore; stat -c 'mask %t:%T' /proc/kcore; echo RAN";
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", attack]);
    without_dev_mounts(&mut bundle);
    symlink(CORE_PATTERN, bundle.rootfs().join("dev/null")).unwrap();
    let outcome = scratch.run(&bundle);
    setting.assert_untouched();
    if outcome.stdout.contains("RAN") {
        assert!(outcome.stdout.contains("mask 1:3"), "neither masked nor refused\n{outcome}");
    } else {
        assert!(!outcome.success() && !outcome.stderr.is_empty(), "{outcome}");
    }
}

#[test]
fn cve_2025_31133_dev_null_that_is_a_plain_file_never_becomes_a_mask() {
    common::require_root!();
    let scratch = Scratch::new("nullfile");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "echo secret > /proc/keys; cat /proc/keys; echo RAN"]);
    without_dev_mounts(&mut bundle);
    bundle.write("dev/null", "not the device\n");
    let outcome = scratch.run(&bundle);
    assert!(!outcome.stdout.contains("secret") && !outcome.stdout.contains("not the device"), "{outcome}");
    assert!(outcome.stdout.contains("RAN") || !outcome.success(), "{outcome}");
}

#[test]
fn cve_2026_41579_dev_that_is_a_symlink_leaves_the_host_alone() {
    common::require_root!();
    let scratch = Scratch::new("devln");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["ptmx", "null", "console", "pts/0"]);
    for with_mounts in [true, false] {
        for terminal in [true, false] {
            let mut bundle = scratch.bundle(&["/bin/echo", "RAN"]);
            if !with_mounts {
                without_dev_mounts(&mut bundle);
            }
            std::fs::remove_dir_all(bundle.rootfs().join("dev")).unwrap();
            symlink(&sentinel.path, bundle.rootfs().join("dev")).unwrap();
            if terminal {
                run_on_a_terminal(&scratch, &mut bundle);
            } else {
                scratch.run(&bundle);
            }
            sentinel.assert_untouched();
        }
    }
}

#[test]
fn cve_2026_88264_without_a_dev_mount_console_and_links_stay_inside() {
    common::require_root!();
    let scratch = Scratch::new("devless");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["target"]);
    for name in ["console", "null", "ptmx", "tty", "fd", "stdin", "zero"] {
        for terminal in [true, false] {
            let mut bundle =
                scratch.bundle(&["/bin/sh", "-c", "echo RAN > /dev/console; echo RAN > /dev/null"]);
            without_dev_mounts(&mut bundle);
            symlink(sentinel.path.join("target"), bundle.rootfs().join("dev").join(name)).unwrap();
            if terminal {
                run_on_a_terminal(&scratch, &mut bundle);
            } else {
                scratch.run(&bundle);
            }
            sentinel.assert_untouched();
        }
    }
}

#[test]
fn cve_2025_52565_a_symlink_in_the_place_of_the_terminal_is_not_followed() {
    common::require_root!();
    let scratch = Scratch::new("pts");
    let setting = Setting::of(CORE_PATTERN);
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "echo '|/evil' > /dev/console; sleep 0.1"]);
    without_dev_mounts(&mut bundle);
    std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    for number in 0..8 {
        symlink(CORE_PATTERN, bundle.rootfs().join(format!("dev/pts/{number}"))).unwrap();
    }
    run_on_a_terminal(&scratch, &mut bundle);
    setting.assert_untouched();
}

#[test]
fn an_ordinary_terminal_works() {
    common::require_root!();
    let scratch = Scratch::new("tty");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "test -c /dev/console && test -t 1"]);
    let outcome = run_on_a_terminal(&scratch, &mut bundle);
    assert!(outcome.success(), "{outcome}");
}
