//! The profile an instance gets unless told otherwise: what Docker's allows and refuses, and why.
//!
//! Everything is refused with `EPERM` but the calls below, which stay within the caller's own namespaces,
//! or need a capability that the profile is asked for. Refused for good, whatever the capabilities:
//! - `add_key`, `keyctl`, `request_key`: key rings know no namespace;
//! - `io_uring_*`: it makes other calls that no filter sees, and has been a way out of the kernel's checks
//!   again and again;
//! - `userfaultfd`: stops the kernel in the middle of a copy, the favourite of exploits;
//! - `kexec_*`, `swapon`, `pivot_root`, `nfsservctl`, `vm86`, …: nothing a service does.
use libc::{
    AF_ALG, AF_VSOCK, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

/// The profile of `wharf run`, with the semantics of Docker's default for these capabilities (names with
/// or without `CAP_`). It is harder than Docker's in one thing: `socket(2)` is judged by the 32 bits of
/// the address family that the kernel looks at, so that no high bit smuggles `AF_ALG` through
/// (CVE-2026-31431), nor does 32-bit x86's `socketcall(2)`. See docs/decisions/002-seccomp-compiler.md.
pub fn default_profile(capabilities: &[&str]) -> LinuxSeccomp {
    let holds =
        |name: &str| capabilities.iter().any(|held| held.strip_prefix("CAP_").unwrap_or(held) == name);
    let mut syscalls: Vec<LinuxSyscall> = ALWAYS.iter().map(|names| allow(names)).collect();
    syscalls.extend(socket());
    syscalls.extend(personality());
    syscalls.extend(clone(holds("SYS_ADMIN")));
    for (capability, names) in BY_CAPABILITY {
        if holds(capability) {
            syscalls.push(allow(names));
        }
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM.unsigned_abs()))
        .set_architectures(Some(ARCHITECTURES.to_vec()))
        .set_syscalls(Some(syscalls));
    profile
}

#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchAarch64, Arch::ScmpArchArm];
#[cfg(not(target_arch = "aarch64"))]
const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];

/// All families but `AF_ALG` and `AF_VSOCK`: the first hands the kernel's crypto, and its holes, to
/// everybody; the second reaches the hypervisor and knows no namespace. The allowed ones are written as
/// bit patterns over the low 32 bits, because `socket(2)` takes an `int` and drops the rest.
fn socket() -> Vec<LinuxSyscall> {
    const FAMILIES: [(u32, u32); 7] = [(0, 32), (32, 4), (36, 2), (39, 1), (41, 1), (42, 2), (44, 4)];
    debug_assert!(FAMILIES.iter().all(|(first, count)| {
        let family = |f: i32| f.unsigned_abs().wrapping_sub(*first) < *count;
        first % count == 0 && !family(AF_ALG) && !family(AF_VSOCK)
    }));
    FAMILIES
        .iter()
        .map(|(first, count)| {
            allow_if(&["socket"], 0, u64::from(!(count - 1)), Some(u64::from(*first)), MASKED_EQUAL)
        })
        .chain([allow_if(&["socketcall"], 0, SOCKETCALL_SOCKET, None, LinuxSeccompOperator::ScmpCmpNe)])
        .collect()
}

/// `SYS_SOCKET` of linux/net.h. Its arguments lie behind a pointer where no filter can look.
const SOCKETCALL_SOCKET: u64 = 1;

const MASKED_EQUAL: LinuxSeccompOperator = LinuxSeccompOperator::ScmpCmpMaskedEq;

/// To run as Linux, as 32-bit Linux, with the release number of Linux 2.6, and to ask; but not to turn
/// off address space randomisation or to make readable memory executable. personality(2)
fn personality() -> Vec<LinuxSyscall> {
    const PER_LINUX: u64 = 0;
    const PER_LINUX32: u64 = 0x8;
    const UNAME26: u64 = 0x2_0000;
    const ASK: u64 = 0xffff_ffff;
    [PER_LINUX, PER_LINUX32, UNAME26, UNAME26 | PER_LINUX32, ASK]
        .iter()
        .map(|value| allow_if(&["personality"], 0, *value, None, LinuxSeccompOperator::ScmpCmpEq))
        .collect()
}

/// New namespaces open kernel code to everybody that only administrators used to reach. `clone3(2)` has
/// its flags behind a pointer, so it is denied to exist, and C libraries turn to `clone(2)`.
fn clone(admin: bool) -> Vec<LinuxSyscall> {
    if admin {
        return vec![allow(&["clone", "clone3"])];
    }
    let namespaces = CLONE_NEWNS
        | CLONE_NEWCGROUP
        | CLONE_NEWUTS
        | CLONE_NEWIPC
        | CLONE_NEWUSER
        | CLONE_NEWPID
        | CLONE_NEWNET;
    let mut clone3 = rule(&["clone3"], LinuxSeccompAction::ScmpActErrno);
    clone3.set_errno_ret(Some(libc::ENOSYS.unsigned_abs()));
    vec![allow_if(&["clone"], 0, u64::from(namespaces.unsigned_abs()), Some(0), MASKED_EQUAL), clone3]
}

fn rule(names: &[&str], action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect()).set_action(action);
    rule
}

fn allow(names: &[&str]) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow)
}

fn allow_if(
    names: &[&str],
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
) -> LinuxSyscall {
    let mut arg = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
    if let Some(value_two) = value_two {
        arg = arg.value_two(value_two);
    }
    let arg = arg.build().expect("every field of LinuxSeccompArgBuilder has a default");
    let mut rule = allow(names);
    rule.set_args(Some(vec![arg]));
    rule
}

/// What a capability opens; what it does not need is in [`ALWAYS`] already.
const BY_CAPABILITY: [(&str, &[&str]); 14] = [
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("BPF", &["bpf"]),
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("PERFMON", &["perf_event_open"]),
    ("SYSLOG", &["syslog"]),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_CHROOT", &["chroot"]),
    ("SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("SYS_PACCT", &["acct"]),
    ("SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("SYS_RAWIO", &["ioperm", "iopl"]),
    ("SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
];

/// Allowed to everybody, by subject; names that an architecture lacks are skipped.
const ALWAYS: [&[&str]; 10] =
    [FILES, METADATA, DESCRIPTORS, EVENTS, MEMORY, PROCESSES, IDENTITIES, SIGNALS, TIME, COMMUNICATION];

/// Opening, reading and writing files, and making and removing their names.
const FILES: &[&str] = &[
    "_llseek",
    "arm_fadvise64_64",
    "arm_sync_file_range",
    "chdir",
    "close",
    "close_range",
    "copy_file_range",
    "creat",
    "fadvise64",
    "fadvise64_64",
    "fallocate",
    "fchdir",
    "fdatasync",
    "flock",
    "fsync",
    "ftruncate",
    "ftruncate64",
    "getcwd",
    "getdents",
    "getdents64",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_pgetevents_time64",
    "io_setup",
    "io_submit",
    "link",
    "linkat",
    "lseek",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "name_to_handle_at",
    "open",
    "openat",
    "openat2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "sendfile64",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "sync_file_range2",
    "syncfs",
    "truncate",
    "truncate64",
    "umask",
    "unlink",
    "unlinkat",
    "write",
    "writev",
];

/// What is known about files: modes, owners, times, attributes, mounts. The newer `*xattrat(2)` and
/// `file_*attr(2)` check what their elders and the ioctls check; `statmount(2)` and `listmount(2)` tell what
/// /proc/self/mountinfo tells.
const METADATA: &[&str] = &[
    "access",
    "cachestat",
    "chmod",
    "chown",
    "chown32",
    "faccessat",
    "faccessat2",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchown32",
    "fchownat",
    "fgetxattr",
    "file_getattr",
    "file_setattr",
    "flistxattr",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstat64",
    "fstatat64",
    "fstatfs",
    "fstatfs64",
    "futimesat",
    "getxattr",
    "getxattrat",
    "lchown",
    "lchown32",
    "lgetxattr",
    "listmount",
    "listxattr",
    "listxattrat",
    "llistxattr",
    "lremovexattr",
    "lsetxattr",
    "lstat",
    "lstat64",
    "newfstatat",
    "removexattr",
    "removexattrat",
    "setxattr",
    "setxattrat",
    "stat",
    "stat64",
    "statfs",
    "statfs64",
    "statmount",
    "statx",
    "utime",
    "utimensat",
    "utimensat_time64",
    "utimes",
];

/// Duplicating, tuning and joining file descriptors.
const DESCRIPTORS: &[&str] =
    &["dup", "dup2", "dup3", "fcntl", "fcntl64", "ioctl", "pipe", "pipe2", "splice", "tee", "vmsplice"];

/// Waiting for files, and being told about them.
const EVENTS: &[&str] = &[
    "_newselect",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "fanotify_mark",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "poll",
    "ppoll",
    "ppoll_time64",
    "pselect6",
    "pselect6_time64",
    "select",
];

/// The caller's own memory, and that of processes it may trace.
const MEMORY: &[&str] = &[
    "brk",
    "madvise",
    "map_shadow_stack",
    "memfd_create",
    "memfd_secret",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mmap2",
    "mprotect",
    "mremap",
    "mseal",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "remap_file_pages",
];

/// Processes and threads: start, wait, schedule, limit, trace, restrict. `ptrace(2)` has been safe against
/// changing a filtered call since Linux 4.8.
const PROCESSES: &[&str] = &[
    "arch_prctl",
    "breakpoint",
    "cacheflush",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "fork",
    "get_robust_list",
    "get_thread_area",
    "get_tls",
    "getcpu",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getrlimit",
    "getrusage",
    "getsid",
    "gettid",
    "ioprio_get",
    "ioprio_set",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "membarrier",
    "modify_ldt",
    "nice",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "prlimit64",
    "ptrace",
    "riscv_flush_icache",
    "riscv_hwprobe",
    "rseq",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_rr_get_interval_time64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "set_tls",
    "setpgid",
    "setpriority",
    "setrlimit",
    "setsid",
    "sysinfo",
    "ugetrlimit",
    "uname",
    "uprobe",
    "uretprobe",
    "vfork",
    "wait4",
    "waitid",
    "waitpid",
];

/// Users, groups and capabilities.
const IDENTITIES: &[&str] = &[
    "capget",
    "capset",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getresgid",
    "getresgid32",
    "getresuid",
    "getresuid32",
    "getuid",
    "getuid32",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];

const SIGNALS: &[&str] = &[
    "kill",
    "pause",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo",
    "sigaction",
    "sigaltstack",
    "signal",
    "signalfd",
    "signalfd4",
    "sigpending",
    "sigprocmask",
    "sigreturn",
    "sigsuspend",
    "tgkill",
    "tkill",
];

/// Clocks and timers. To set a clock by `adjtimex(2)` takes a capability, which the kernel checks.
const TIME: &[&str] = &[
    "adjtimex",
    "alarm",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "getitimer",
    "gettimeofday",
    "nanosleep",
    "setitimer",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_gettime64",
    "timer_settime",
    "timer_settime64",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_gettime64",
    "timerfd_settime",
    "timerfd_settime64",
    "times",
];

/// Futexes, System V and POSIX IPC, and sockets once they are open.
const COMMUNICATION: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "connect",
    "futex",
    "futex_requeue",
    "futex_time64",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getpeername",
    "getsockname",
    "getsockopt",
    "ipc",
    "listen",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedreceive_time64",
    "mq_timedsend",
    "mq_timedsend_time64",
    "mq_unlink",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "semtimedop_time64",
    "send",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "socketpair",
];
