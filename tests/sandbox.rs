//! What a sandbox is from the inside, through the library: Plan, clone, execve on the real kernel.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use oci_spec::runtime::{
    Arch, LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxSeccomp, LinuxSeccompAction,
    LinuxSeccompBuilder, LinuxSyscallBuilder, MountBuilder, Process, Spec, UserBuilder,
};
use rustix::process::{WaitId, WaitIdOptions};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use wharf::cgroup::Hierarchies;
use wharf::sandbox::{
    ExecInputs, Init, Inputs, Plan, Rootfs, SpawnError, Start, Stdio, default_spec, spawn, start,
};

const BUSYBOX: &str = "/bin/busybox";

/// A root file system of busybox alone, and the runtime-spec default config over it.
struct Box {
    rootfs: tempfile::TempDir,
    spec: Spec,
}

/// What came of a run: wait status as the shell shows it, and both output streams together.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: i32,
    output: String,
}

impl Box {
    /// `None`, said aloud, where no sandbox can be made.
    fn new(script: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new(BUSYBOX).exists() {
            common::skip("needs root and /bin/busybox (Debian: busybox-static)");
            return None;
        }
        let near = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let near = if near.is_dir() { near.to_owned() } else { std::env::temp_dir() };
        let rootfs = tempfile::tempdir_in(near).unwrap();
        fs::set_permissions(rootfs.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::create_dir(rootfs.path().join("bin")).unwrap();
        // A link and no copy: a child that another test clones meanwhile would hold the copy open for
        // writing until it executes, and make it ETXTBSY here.
        fs::hard_link(common::busybox_rootfs().join("bin/busybox"), rootfs.path().join("bin/busybox"))
            .unwrap();
        symlink("busybox", rootfs.path().join("bin/sh")).unwrap();
        let mut this = Self { rootfs, spec: default_spec::runtime_default() };
        let script = format!("PATH=/bin; /bin/busybox --install -s /bin 2>/dev/null; {script}");
        this.process(|process| {
            process.set_args(Some(["/bin/busybox", "sh", "-c", &script].map(str::to_owned).to_vec()));
            process.set_terminal(Some(false));
        });
        this.writable();
        Some(this)
    }

    fn writable(&mut self) {
        let mut root = self.spec.root().clone().unwrap();
        root.set_readonly(Some(false));
        self.spec.set_root(Some(root));
    }

    fn process(&mut self, change: impl FnOnce(&mut Process)) {
        let mut process = self.spec.process().clone().unwrap();
        change(&mut process);
        self.spec.set_process(Some(process));
    }

    fn linux(&mut self, change: impl FnOnce(&mut oci_spec::runtime::Linux)) {
        let mut linux = self.spec.linux().clone().unwrap();
        change(&mut linux);
        self.spec.set_linux(Some(linux));
    }

    fn spawn(&self, output: Option<&File>, start_socket: Option<OwnedFd>) -> Result<Init, String> {
        let stream = || output.map(|file| OwnedFd::from(file.try_clone().unwrap()));
        let inputs = Inputs {
            stdio: Stdio { stdin: Some(null()), stdout: stream(), stderr: stream() },
            start: start_socket.map_or(Start::AtOnce, Start::ByAnyone),
            ..Inputs::of(Rootfs::Directory(self.rootfs.path().to_owned()))
        };
        let plan = Plan::compile(&self.spec, inputs, &Hierarchies::detect().unwrap());
        let plan = plan.map_err(|error| error.to_string())?;
        spawn(&plan, None).map_err(|error| error.to_string())
    }

    fn run(&self) -> Result<Outcome, String> {
        let mut output = tempfile::tempfile().unwrap();
        let init = self.spawn(Some(&output), None)?;
        let status = wait(&init);
        output.rewind().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        Ok(Outcome { status, output: text.trim_end().to_owned() })
    }

    /// Runs and expects success; gives the output.
    fn output(&self) -> String {
        let outcome = self.run().unwrap();
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.output
    }
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

fn wait(init: &Init) -> i32 {
    let status = rustix::process::waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED);
    let status = status.unwrap().unwrap();
    status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap()
}

macro_rules! sandbox {
    ($script:expr) => {
        match Box::new($script) {
            Some(sandbox) => sandbox,
            None => return,
        }
    };
}

#[test]
fn the_program_is_pid_1_and_its_status_is_given() {
    let outcome = sandbox!("echo $$; exit 7").run().unwrap();
    assert_eq!(outcome, Outcome { status: 7, output: "1".into() });
}

#[test]
fn a_missing_program_is_told_in_runcs_words() {
    let mut sandbox = sandbox!("");
    sandbox.process(|process| {
        process.set_args(Some(vec!["nowhere".to_owned()]));
    });
    assert_eq!(sandbox.run().unwrap_err(), "exec: \"nowhere\": executable file not found in $PATH");
    sandbox.process(|process| {
        process.set_args(Some(vec!["/nowhere".to_owned()]));
    });
    assert_eq!(sandbox.run().unwrap_err(), "exec: \"/nowhere\": stat /nowhere: no such file or directory");
    fs::write(sandbox.rootfs.path().join("data"), "x").unwrap();
    sandbox.process(|process| {
        process.set_args(Some(vec!["/data".to_owned()]));
    });
    assert_eq!(sandbox.run().unwrap_err(), "exec: \"/data\": permission denied");
}

#[test]
fn nothing_of_the_host_is_mounted_or_open_inside() {
    let output = sandbox!("cut -d' ' -f5 /proc/self/mountinfo; echo --; ls /proc/self/fd").output();
    let (mounts, fds) = output.split_once("--\n").unwrap();
    let expected = ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];
    for mount in mounts.lines() {
        let masked = mount.starts_with("/proc/") || mount.starts_with("/sys/");
        assert!(expected.contains(&mount) || masked, "{mount}");
    }
    // 3 is the directory that ls itself reads.
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn masked_paths_are_empty_and_readonly_paths_refuse_writes() {
    let output = sandbox!(
        "cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
         echo x 2>/dev/null >/proc/sys/kernel/core_pattern || echo refused"
    )
    .output();
    assert_eq!(output, "0\n0\nrefused");
}

#[test]
fn the_readonly_root_refuses_writes() {
    let mut sandbox = sandbox!("touch /x 2>/dev/null || echo refused");
    let mut root = sandbox.spec.root().clone().unwrap();
    root.set_readonly(Some(true));
    sandbox.spec.set_root(Some(root));
    assert_eq!(sandbox.output(), "refused");
}

#[test]
fn default_devices_and_links_are_there() {
    let sandbox = sandbox!(
        "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; \
         for l in fd stdin ptmx; do readlink /dev/$l; done; echo x > /dev/null; head -c 3 /dev/zero | wc -c"
    );
    assert_eq!(sandbox.output(), "/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n3");
}

#[test]
fn capabilities_are_exactly_those_asked_for_and_none_is_inheritable() {
    let output = sandbox!("grep ^Cap /proc/self/status").output();
    let want = 1 << 5 | 1 << 10 | 1u64 << 29;
    for line in output.lines() {
        let (name, mask) = line.split_once(":\t").unwrap();
        let expected = if matches!(name, "CapInh" | "CapAmb") { 0 } else { want };
        assert_eq!(u64::from_str_radix(mask, 16).unwrap(), expected, "{line}");
    }
}

#[test]
fn a_user_has_its_ids_exactly_its_groups_and_no_capabilities_left() {
    let mut sandbox = sandbox!("id -u; id -g; grep -E '^(Groups|CapEff|CapPrm)' /proc/self/status; touch /x");
    sandbox.process(|process| {
        let user = UserBuilder::default().uid(1234u32).gid(77u32).additional_gids(vec![5u32, 9]);
        process.set_user(user.build().unwrap());
    });
    let outcome = sandbox.run().unwrap();
    assert!(outcome.output.starts_with("1234\n77\nGroups:\t5 9"), "{outcome:?}");
    assert_ne!(outcome.status, 0);
}

#[test]
fn hostname_umask_oom_score_and_sysctl_take_effect() {
    let mut sandbox = sandbox!(
        "hostname; umask; cat /proc/self/oom_score_adj; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    );
    sandbox.spec.set_hostname(Some("harbour".into()));
    sandbox.process(|process| {
        process.set_user(UserBuilder::default().umask(0o027u32).build().unwrap());
        process.set_oom_score_adj(Some(500));
    });
    let sysctl = HashMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "7".to_owned())]);
    sandbox.linux(|linux| {
        linux.set_sysctl(Some(sysctl));
    });
    assert_eq!(sandbox.output(), "harbour\n0027\n500\n7");
}

#[test]
fn a_user_namespace_maps_ids_and_the_rest_still_works() {
    let mut sandbox =
        sandbox!("cat /proc/self/uid_map; id -u; test -c /dev/null && echo x >/dev/null && hostname");
    std::os::unix::fs::chown(sandbox.rootfs.path(), Some(100_000), Some(100_000)).unwrap();
    sandbox.linux(|linux| {
        let mut namespaces = linux.namespaces().clone().unwrap();
        namespaces.push(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).build().unwrap());
        let map = LinuxIdMappingBuilder::default().host_id(100_000u32).container_id(0u32).size(65536u32);
        let map = vec![map.build().unwrap()];
        linux
            .set_namespaces(Some(namespaces))
            .set_uid_mappings(Some(map.clone()))
            .set_gid_mappings(Some(map));
    });
    let output = sandbox.output();
    let words: Vec<_> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "wharf"]);
}

#[test]
fn a_bind_mount_is_readonly_when_asked_and_its_target_is_made() {
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("greeting"), "hello").unwrap();
    let mut sandbox = sandbox!("cat /data/deep/greeting; touch /data/deep/x 2>/dev/null || echo refused");
    let mount = MountBuilder::default()
        .destination("/data/deep")
        .typ("bind")
        .source(volume.path())
        .options(["rbind", "ro"].map(str::to_owned).to_vec());
    let mut mounts = sandbox.spec.mounts().clone().unwrap();
    mounts.push(mount.build().unwrap());
    sandbox.spec.set_mounts(Some(mounts));
    assert_eq!(sandbox.output(), "hellorefused");
}

#[test]
fn a_file_is_bound_over_a_dangling_symlink_inside_the_root() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "nameserver").unwrap();
    let mut sandbox = sandbox!("cat /etc/resolv.conf");
    for directory in ["etc", "run"] {
        fs::create_dir(sandbox.rootfs.path().join(directory)).unwrap();
    }
    symlink("/run/resolv.conf", sandbox.rootfs.path().join("etc/resolv.conf")).unwrap();
    let mount = MountBuilder::default()
        .destination("/etc/resolv.conf")
        .typ("bind")
        .source(file.path())
        .options(vec!["bind".to_owned()]);
    let mut mounts = sandbox.spec.mounts().clone().unwrap();
    mounts.push(mount.build().unwrap());
    sandbox.spec.set_mounts(Some(mounts));
    assert_eq!(sandbox.output(), "nameserver");
    assert!(sandbox.rootfs.path().join("run/resolv.conf").is_file());
}

#[test]
fn a_file_system_says_why_it_refused_its_options() {
    let mut sandbox = sandbox!("");
    let options = vec!["mode=no".to_owned()];
    let mount = MountBuilder::default().destination("/t").typ("tmpfs").source("tmpfs").options(options);
    let mut mounts = sandbox.spec.mounts().clone().unwrap();
    mounts.push(mount.build().unwrap());
    sandbox.spec.set_mounts(Some(mounts));
    let error = sandbox.run().unwrap_err();
    assert!(error.starts_with("mount tmpfs on /t (tmpfs: Bad value for 'mode'"), "{error}");
}

#[test]
fn proc_must_not_be_a_symlink_in_the_image() {
    let sandbox = sandbox!("");
    fs::create_dir(sandbox.rootfs.path().join("other")).unwrap();
    symlink("other", sandbox.rootfs.path().join("proc")).unwrap();
    assert!(sandbox.run().unwrap_err().contains("attach the mount at /proc"));
}

#[test]
fn a_working_directory_through_a_magic_link_is_refused() {
    for fd in 3..16 {
        let mut sandbox = sandbox!("pwd");
        sandbox.process(|process| {
            process.set_cwd(format!("/proc/self/fd/{fd}").into());
        });
        assert!(sandbox.run().is_err(), "fd {fd}");
    }
}

#[test]
fn a_seccomp_filter_refuses_what_the_profile_names() {
    let mut sandbox = sandbox!("mkdir /x 2>&1; exit 0");
    let profile: LinuxSeccomp = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActAllow)
        .architectures(vec![Arch::ScmpArchX86_64, Arch::ScmpArchAarch64])
        .syscalls(vec![
            LinuxSyscallBuilder::default()
                .names(["mkdir", "mkdirat"].map(str::to_owned).to_vec())
                .action(LinuxSeccompAction::ScmpActErrno)
                .errno_ret(95u32)
                .build()
                .unwrap(),
        ])
        .build()
        .unwrap();
    sandbox.linux(|linux| {
        linux.set_seccomp(Some(profile));
    });
    for no_new_privileges in [true, false] {
        sandbox.process(|process| {
            process.set_no_new_privileges(Some(no_new_privileges));
        });
        let outcome = sandbox.run().unwrap();
        assert!(outcome.output.contains("not supported"), "{outcome:?}");
    }
}

#[test]
fn a_created_process_waits_for_start_and_others_join_it() {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    };
    let sandbox = sandbox!("exec sleep 1000");
    let directory = tempfile::tempdir().unwrap();
    let address = SocketAddrUnix::new(directory.path().join("start")).unwrap();
    let socket =
        || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let listener = socket();
    bind(&listener, &address).unwrap();
    listen(&listener, 1).unwrap();
    let init = sandbox.spawn(None, Some(listener)).unwrap();
    let connection = socket();
    connect(&connection, &address).unwrap();
    start(connection.as_fd(), "/bin/busybox", None, |_| unreachable!("nothing notifies")).unwrap();

    let mut process = sandbox.spec.process().clone().unwrap();
    let script = "readlink /proc/self/ns/pid; hostname; exit 3";
    process.set_args(Some(["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec()));
    process.set_env(Some(vec!["PATH=/bin".into()]));
    let mut output = tempfile::tempfile().unwrap();
    let stdio = Stdio { stdin: Some(null()), stdout: Some(output.try_clone().unwrap().into()), stderr: None };
    let inputs = ExecInputs { stdio, ..ExecInputs::default() };
    let plan = Plan::compile_exec(&sandbox.spec, &process, init.pidfd.as_fd(), inputs).unwrap();
    let joined: Result<Init, SpawnError> = spawn(&plan, None);
    assert_eq!(wait(&joined.unwrap()), 3);
    output.rewind().unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let pid = init.pid.as_raw_nonzero();
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_eq!(text, format!("{}\nwharf\n", namespace.display()));

    rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(wait(&init), 137);
}
