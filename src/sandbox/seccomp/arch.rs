//! The architectures a kernel can be called through, and the numbers system calls have on each.
use oci_spec::runtime::Arch;
use std::ops::RangeInclusive;
use syscalls::{aarch64, arm, x86, x86_64};

/// Set in the number of a call made through the x32 ABI; the kernel reports its architecture as x86-64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The architectures one kernel serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    X86,
    Arm,
}

impl Family {
    /// The family of the kernel this program was built for.
    pub(super) fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Arm)
        } else {
            None
        }
    }

    /// Its members, the 64-bit one, which a filter always covers, first.
    pub(super) fn members(self) -> &'static [Architecture] {
        match self {
            Self::X86 => &[Architecture::X86_64, Architecture::X32, Architecture::X86],
            Self::Arm => &[Architecture::Aarch64, Architecture::Arm],
        }
    }
}

/// A way to call the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
}

impl Architecture {
    /// Whether a profile that lists `arch` means this one. An architecture of another family means none:
    /// no call through it can reach this kernel.
    pub(super) fn is(self, arch: Arch) -> bool {
        match self {
            Self::X86_64 => matches!(arch, Arch::ScmpArchX86_64),
            Self::X32 => matches!(arch, Arch::ScmpArchX32),
            Self::X86 => matches!(arch, Arch::ScmpArchX86),
            Self::Aarch64 => matches!(arch, Arch::ScmpArchAarch64),
            Self::Arm => matches!(arch, Arch::ScmpArchArm),
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h: what the kernel puts into `seccomp_data.arch`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are 32 bits wide; the upper half is not looked at then, as in libseccomp.
    pub(super) fn is_32_bit(self) -> bool {
        matches!(self, Self::X32 | Self::X86 | Self::Arm)
    }

    /// The numbers calls of this architecture can have.
    pub(super) fn numbers(self) -> RangeInclusive<u32> {
        match self {
            Self::X86_64 => 0..=X32_BIT - 1,
            // u32::MAX is no call but how a tracer says "skip it".
            Self::X32 => X32_BIT..=u32::MAX - 1,
            _ => 0..=u32::MAX,
        }
    }

    /// Numbers apart from the table that grows with every kernel, so that being above them says nothing
    /// about the age of a call.
    pub(super) fn private_numbers(self) -> Option<RangeInclusive<u32>> {
        match self {
            Self::X32 => Some(X32_BIT + 512..=X32_BIT + 547),
            Self::Arm => Some(0x000f_0000..=0x000f_00ff),
            _ => None,
        }
    }

    /// Calls `visit` with the name and number of every call of this architecture.
    pub(super) fn for_each_call(self, mut visit: impl FnMut(&'static str, u32)) {
        match self {
            Self::X86_64 => table(x86_64::Sysno::last().id(), x86_64::Sysno::new, x86_64::Sysno::name, visit),
            Self::X86 => table(x86::Sysno::last().id(), x86::Sysno::new, x86::Sysno::name, visit),
            Self::Aarch64 => {
                visit("newfstatat", aarch64::Sysno::fstatat.id().unsigned_abs());
                table(aarch64::Sysno::last().id(), aarch64::Sysno::new, aarch64::Sysno::name, visit);
            }
            Self::Arm => {
                ARM_CALLS.iter().for_each(|(name, number)| visit(name, *number));
                table(arm::Sysno::last().id(), arm::Sysno::new, arm::Sysno::name, visit);
            }
            Self::X32 => {
                X32_CALLS.iter().for_each(|(name, number)| visit(name, X32_BIT + number));
                table(x86_64::Sysno::last().id(), x86_64::Sysno::new, x86_64::Sysno::name, |name, number| {
                    let replaced = X32_CALLS.iter().any(|(own, _)| *own == name);
                    if !replaced && !NOT_IN_X32.contains(&name) {
                        visit(name, X32_BIT + number);
                    }
                });
            }
        }
    }
}

/// Walks the numbers up to `last` (the iterator of `Sysno` leaves the last call out).
fn table<S>(
    last: i32,
    new: impl Fn(usize) -> Option<S>,
    name: impl Fn(&S) -> &'static str,
    mut visit: impl FnMut(&'static str, u32),
) {
    for number in 0..=last.unsigned_abs() {
        if let Some(call) = new(number as usize) {
            visit(name(&call), number);
        }
    }
}

/// Calls that x32 does not share with x86-64; arch/x86/entry/syscalls/syscall_64.tbl, "x32".
const X32_CALLS: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// Calls of x86-64 alone; the same table, "64".
const NOT_IN_X32: [&str; 14] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
    "uprobe",
    "map_shadow_stack",
];

/// The private calls of arch/arm/include/uapi/asm/unistd.h, and a second name.
const ARM_CALLS: [(&str, u32); 7] = [
    ("breakpoint", 0x000f_0001),
    ("cacheflush", 0x000f_0002),
    ("usr26", 0x000f_0003),
    ("usr32", 0x000f_0004),
    ("set_tls", 0x000f_0005),
    ("get_tls", 0x000f_0006),
    ("sync_file_range2", 341),
];

/// What a call of the 32-bit x86 multiplexers `socketcall(2)` and `ipc(2)` is called when made directly:
/// a rule for the one is a rule for the other, or the multiplexer would be a way around it.
pub(super) fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    let find = |calls: &[(&str, u64)]| calls.iter().find(|(own, _)| *own == name).map(|(_, number)| *number);
    find(&SOCKETCALL)
        .map(|number| ("socketcall", number))
        .or_else(|| find(&IPC).map(|number| ("ipc", number)))
}

/// linux/net.h
const SOCKETCALL: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// linux/ipc.h
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];
