//! What the spec of `wharf run` makes of a process, seen from the inside, on the real kernel.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use rustix::process::{WaitId, WaitIdOptions};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use wharf::cgroup::Hierarchies;
use wharf::sandbox::{Inputs, Plan, Rootfs, Stdio, default_spec, spawn};

const BUSYBOX: &str = "/bin/busybox";

/// Runs a shell script in an instance of its own; returns what it printed.
fn inside(script: &str, no_new_privileges: bool) -> String {
    let rootfs = tempfile::tempdir().unwrap();
    fs::create_dir(rootfs.path().join("bin")).unwrap();
    fs::copy(BUSYBOX, rootfs.path().join("bin/busybox")).unwrap();
    for name in ["sh", "grep", "unshare", "mount", "chroot", "touch", "id", "wc", "cat"] {
        symlink("busybox", rootfs.path().join("bin").join(name)).unwrap();
    }
    let mut spec = default_spec::instance_default();
    let mut process = spec.process().clone().unwrap();
    process
        .set_args(Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec()))
        .set_no_new_privileges(Some(no_new_privileges));
    spec.set_process(Some(process));
    let mut output = tempfile::tempfile().unwrap();
    let stream = |file: &File| Some(OwnedFd::from(file.try_clone().unwrap()));
    let stdio = Stdio {
        stdin: Some(File::open("/dev/null").unwrap().into()),
        stdout: stream(&output),
        stderr: stream(&output),
    };
    let inputs = Inputs { stdio, ..Inputs::of(Rootfs::Directory(rootfs.path().to_owned())) };
    let plan = Plan::compile(&spec, inputs, &Hierarchies::detect().unwrap()).unwrap();
    let init = spawn(&plan, None).unwrap();
    rustix::process::waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    output.rewind().unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_instance_has_dockers_capabilities_and_a_filter() {
    common::require_root!();
    common::require!(common::program_exists("busybox"), "needs {BUSYBOX} (Debian: busybox-static)");
    for no_new_privileges in [true, false] {
        let status = inside("grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status", no_new_privileges);
        let expected = format!(
            "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
             CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t{}\nSeccomp:\t2\n",
            u8::from(no_new_privileges)
        );
        assert_eq!(status, expected);
    }
}

#[test]
fn an_instance_cannot_make_namespaces_or_mounts_but_can_do_what_services_do() {
    common::require_root!();
    common::require!(common::program_exists("busybox"), "needs {BUSYBOX} (Debian: busybox-static)");
    let script = "unshare -n true 2>&1; unshare -U true 2>&1; mount -t tmpfs x /bin 2>&1; \
                  touch /written && chroot / /bin/id -u; cat /proc/interrupts /proc/keys | wc -c";
    let output = inside(script, true);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), 5, "{output}");
    assert!(lines[0].ends_with("Operation not permitted"), "{output}");
    assert!(lines[1].ends_with("Operation not permitted"), "{output}");
    assert!(lines[2].contains("permission denied"), "{output}");
    assert_eq!(lines[3..], ["0", "0"], "{output}");
}
