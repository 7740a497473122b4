//! The profile an instance gets unless told otherwise: what Docker's allows and refuses, and why.
//!
//! Everything is refused with `EPERM` but the calls below, which stay within the caller's own namespaces,
//! or need a capability that the profile is asked for. Refused for good, whatever the capabilities:
//! - `add_key`, `keyctl`, `request_key`: key rings know no namespace;
//! - `io_uring_*`: it makes other calls that no filter sees, and has been a way out of the kernel's checks
//!   again and again;
//! - `userfaultfd`: stops the kernel in the middle of a copy, the favourite of exploits;
//! - `kexec_*`, `swapon`, `pivot_root`, `nfsservctl`, `vm86`, …: nothing a service does.
use super::default_calls::{ALWAYS, BY_CAPABILITY};
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
