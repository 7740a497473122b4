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

    /// Calls that services live on. A process that uses a sub-architecture can wait the two instructions longer.
    pub(super) fn hot_numbers(self) -> &'static [u32] {
        match self {
            Self::X86_64 => HOT_X86_64,
            Self::Aarch64 => HOT_AARCH64,
            Self::X32 | Self::X86 | Self::Arm => &[],
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
                table(x86_64::Sysno::last().id(), x86_64::Sysno::new, x86_64::Sysno::name, |name, number| {
                    let known = x86_64::Sysno::new(number as usize);
                    let number = known.map_or(Some(number), x32_number);
                    number.into_iter().for_each(|number| visit(name, X32_BIT | number));
                });
            }
        }
    }
}

macro_rules! numbers {
    ($architecture:ident: $($call:ident)*) => { &[$($architecture::Sysno::$call.id().unsigned_abs()),*] };
}

const HOT_X86_64: &[u32] = numbers!(x86_64: clock_gettime close epoll_ctl epoll_pwait epoll_wait fstat futex lseek madvise
    mmap mprotect munmap newfstatat openat poll ppoll pread64 pwrite64 read readv recvfrom recvmsg rt_sigprocmask sendmsg sendto
    statx write writev);
const HOT_AARCH64: &[u32] = numbers!(aarch64: clock_gettime close epoll_ctl epoll_pwait fstat fstatat futex lseek madvise
    mmap mprotect munmap openat ppoll pread64 pwrite64 read readv recvfrom recvmsg rt_sigprocmask sendmsg sendto statx write
    writev);

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
    for (name, number) in NEWER_CALLS {
        if number > last.unsigned_abs() {
            visit(name, number);
        }
    }
}

/// Calls newer than the tables of the syscalls crate; all architectures number them alike.
const NEWER_CALLS: [(&str, u32); 2] = [("listns", 470), ("rseq_slice_yield", 471)];

/// The number that a call of x86-64 has in x32, if any; arch/x86/entry/syscalls/syscall_64.tbl, where
/// calls of x86-64 alone are marked "64", and those that x32 numbers anew "x32".
fn x32_number(call: x86_64::Sysno) -> Option<u32> {
    use x86_64::Sysno;
    match call {
        Sysno::rt_sigaction => Some(512),
        Sysno::rt_sigreturn => Some(513),
        Sysno::ioctl => Some(514),
        Sysno::readv => Some(515),
        Sysno::writev => Some(516),
        Sysno::recvfrom => Some(517),
        Sysno::sendmsg => Some(518),
        Sysno::recvmsg => Some(519),
        Sysno::execve => Some(520),
        Sysno::ptrace => Some(521),
        Sysno::rt_sigpending => Some(522),
        Sysno::rt_sigtimedwait => Some(523),
        Sysno::rt_sigqueueinfo => Some(524),
        Sysno::sigaltstack => Some(525),
        Sysno::timer_create => Some(526),
        Sysno::mq_notify => Some(527),
        Sysno::kexec_load => Some(528),
        Sysno::waitid => Some(529),
        Sysno::set_robust_list => Some(530),
        Sysno::get_robust_list => Some(531),
        Sysno::vmsplice => Some(532),
        Sysno::move_pages => Some(533),
        Sysno::preadv => Some(534),
        Sysno::pwritev => Some(535),
        Sysno::rt_tgsigqueueinfo => Some(536),
        Sysno::recvmmsg => Some(537),
        Sysno::sendmmsg => Some(538),
        Sysno::process_vm_readv => Some(539),
        Sysno::process_vm_writev => Some(540),
        Sysno::setsockopt => Some(541),
        Sysno::getsockopt => Some(542),
        Sysno::io_setup => Some(543),
        Sysno::io_submit => Some(544),
        Sysno::execveat => Some(545),
        Sysno::preadv2 => Some(546),
        Sysno::pwritev2 => Some(547),
        Sysno::uselib
        | Sysno::_sysctl
        | Sysno::create_module
        | Sysno::get_kernel_syms
        | Sysno::query_module
        | Sysno::nfsservctl
        | Sysno::set_thread_area
        | Sysno::get_thread_area
        | Sysno::epoll_ctl_old
        | Sysno::epoll_wait_old
        | Sysno::vserver
        | Sysno::uretprobe
        | Sysno::uprobe
        | Sysno::map_shadow_stack => None,
        shared => Some(shared.id().unsigned_abs()),
    }
}

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

/// The calls that a 32-bit x86 multiplexer, `socketcall(2)` or `ipc(2)`, can make: a rule for the direct
/// call is a rule for the multiplexed one, or the multiplexer would be a way around it.
pub(super) fn multiplexed(name: &str) -> &'static [(&'static str, u64)] {
    match name {
        "socketcall" => &SOCKETCALL,
        "ipc" => &IPC,
        _ => &[],
    }
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
