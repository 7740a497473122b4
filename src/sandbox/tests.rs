//! The promise of a Plan's execution: the child allocates nothing.
use super::{Inputs, NetworkAhead, Plan, Rootfs, SpawnError, Stdio, begin, default_spec, network_ahead};
use crate::cgroup::{Cgroup, Hierarchies};
use crate::sys::allocations;
use crate::sys::clone::{Cloned, clone_child, exit_now};
use oci_spec::runtime::Spec;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::Ordering;

const BUSYBOX: &str = "/bin/busybox";

fn program(name: &str) -> Spec {
    let mut spec = default_spec::instance_default();
    if let Some(process) = spec.process_mut() {
        process.set_args(Some(vec![name.to_owned()]));
    }
    spec
}

/// A cgroup with one v1 hierarchy, whose directory this is.
fn v1_group(directory: &Path) -> Cgroup {
    let record = serde_json::from_value(serde_json::json!({"v1": [[["cpu", "cpuacct"], directory]]}));
    Cgroup::from_record(&record.expect("a record"))
}

fn run(
    spec: &Spec,
    rootfs: &Path,
    cgroup: &Cgroup,
    network: Option<NetworkAhead>,
) -> Result<WaitIdStatus, SpawnError> {
    let null = || Some(File::open("/dev/null").expect("null").into());
    let stdio = Stdio { stdin: null(), stdout: null(), stderr: null() };
    let inputs = Inputs { stdio, ..Inputs::of(Rootfs::Directory(rootfs.to_owned())) };
    let hierarchies = Hierarchies::detect().expect("cgroups");
    let plan = Plan::compile(spec, inputs, &hierarchies).expect("a Plan");
    let (init, mut rest) = begin(&plan, Some(cgroup), network, |_| Ok::<_, SpawnError>(()))?;
    let executed = rest.settle(&plan, &init).and_then(|()| rest.finish(&plan));
    let status = wait(init.pidfd.as_fd());
    executed.map(|_| status)
}

fn wait(pidfd: BorrowedFd<'_>) -> WaitIdStatus {
    let ended = rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED);
    ended.expect("wait").expect("a status")
}

#[test]
fn a_hierarchy_that_cannot_be_entered_is_told_by_its_controllers() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a_hierarchy_that_cannot_be_entered_is_told_by_its_controllers: needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("tempdir");
    let group = v1_group(directory.path());
    let spec = program("true");
    let missing = run(&spec, Path::new("/"), &group, None).expect_err("there is no such file").to_string();
    assert!(missing.starts_with("open ") && missing.contains("/tasks: there is no such cgroup"), "{missing}");
    symlink("/dev/full", directory.path().join("tasks")).expect("symlink");
    let full = run(&spec, Path::new("/"), &group, None).expect_err("nothing can be written").to_string();
    assert_eq!(
        full,
        "enter the cgroup (cpu,cpuacct): No space left on device (os error 28); cpuset.cpus or cpuset.mems of that group is empty; write both before"
    );
}

#[test]
fn between_clone_and_execve_nothing_is_allocated() {
    if !rustix::process::geteuid().is_root() || !Path::new(BUSYBOX).exists() {
        eprintln!("SKIPPED: between_clone_and_execve_nothing_is_allocated: needs root and {BUSYBOX}");
        return;
    }
    let rootfs = tempfile::tempdir().expect("tempdir");
    fs::create_dir(rootfs.path().join("bin")).expect("bin");
    fs::copy(BUSYBOX, rootfs.path().join("bin/true")).expect("busybox");
    let group = v1_group(rootfs.path());
    symlink("/dev/null", rootfs.path().join("tasks")).expect("symlink");
    let allocated = allocations::watch();
    let network = |spec| Some(network_ahead(spec).expect("a network namespace"));
    let (present, absent) = (program("true"), program("absent"));
    assert_eq!(
        run(&present, rootfs.path(), &group, network(&present)).expect("it runs").exit_status(),
        Some(0)
    );
    assert_eq!(allocated.load(Ordering::Relaxed), 0, "on the way to execve");
    run(&absent, rootfs.path(), &group, network(&absent)).expect_err("there is no such program");
    assert_eq!(allocated.load(Ordering::Relaxed), 0, "on the way to a failure");
    let held = Box::new(1);
    match clone_child(0, None).expect("clone") {
        Cloned::Child => {
            let _ = std::hint::black_box(Vec::<u8>::new()).try_reserve(1);
            drop(std::hint::black_box(held));
            exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => drop(wait(pidfd.as_fd())),
    }
    assert_eq!(allocated.load(Ordering::Relaxed), 2, "the count works: an allocation and its end");
}
