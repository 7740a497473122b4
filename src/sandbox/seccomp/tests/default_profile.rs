//! What the profile of `wharf run` lets through.
use super::*;
use oci_spec::runtime::Arch;

fn default_for(capabilities: &[&str], family: Family) -> Program {
    let mut profile = default_profile(capabilities);
    if family == Family::Arm {
        profile.set_architectures(Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]));
    }
    compile_for(&profile, family).unwrap()
}

#[test]
fn the_default_profile_refuses_alg_and_vsock_sockets_whatever_the_high_bits() {
    for (family, architectures) in [
        (Family::X86, vec![Architecture::X86_64, Architecture::X32, Architecture::X86]),
        (Family::Arm, vec![Architecture::Aarch64, Architecture::Arm]),
    ] {
        let program = default_for(&["CAP_SYS_ADMIN"], family);
        for architecture in architectures {
            for address_family in 0..48u64 {
                let expected = if matches!(address_family, 38 | 40) { EPERM } else { ALLOW };
                for high in [0, 1 << 32, u64::MAX << 32] {
                    let action = judge(&program, architecture, "socket", &[high | address_family]);
                    assert_eq!(action, expected, "{architecture:?} {address_family} {high:#x}");
                }
            }
        }
    }
    let program = default_for(&[], Family::X86);
    assert_eq!(judge(&program, Architecture::X86, "socketcall", &[1]), EPERM);
    assert_eq!(judge(&program, Architecture::X86, "socketcall", &[3]), ALLOW);
}

#[test]
fn the_default_profile_decides_call_by_call() {
    let without = default_for(&["CAP_CHOWN", "CAP_SYS_CHROOT"], Family::X86);
    let admin = default_for(&["SYS_ADMIN"], Family::X86);
    let new_user = 0x1000_0000;
    let cases: [(&str, &[u64], u32, u32); 25] = [
        ("read", &[], ALLOW, ALLOW),
        ("clone", &[0x0100_0011], ALLOW, ALLOW),
        ("clone", &[new_user], EPERM, ALLOW),
        ("clone", &[0x0200_0000], EPERM, ALLOW),
        ("clone3", &[], ENOSYS, ALLOW),
        ("unshare", &[], EPERM, ALLOW),
        ("setns", &[], EPERM, ALLOW),
        ("mount", &[], EPERM, ALLOW),
        ("open_tree_attr", &[], EPERM, ALLOW),
        ("chroot", &[], ALLOW, EPERM),
        ("bpf", &[], EPERM, ALLOW),
        ("keyctl", &[], EPERM, EPERM),
        ("add_key", &[], EPERM, EPERM),
        ("io_uring_setup", &[], EPERM, EPERM),
        ("userfaultfd", &[], EPERM, EPERM),
        ("kexec_load", &[], EPERM, EPERM),
        ("init_module", &[], EPERM, EPERM),
        ("personality", &[0xffff_ffff], ALLOW, ALLOW),
        ("personality", &[0x0004_0000], EPERM, EPERM),
        ("personality", &[1 << 32], EPERM, EPERM),
        ("ptrace", &[], ALLOW, ALLOW),
        ("statmount", &[], ALLOW, ALLOW),
        ("mseal", &[], ALLOW, ALLOW),
        ("setxattrat", &[], ALLOW, ALLOW),
        ("open_by_handle_at", &[], EPERM, EPERM),
    ];
    for (name, args, plain, privileged) in cases {
        assert_eq!(judge(&without, Architecture::X86_64, name, args), plain, "{name} {args:x?}");
        assert_eq!(judge(&admin, Architecture::X86_64, name, args), privileged, "{name} {args:x?} as admin");
    }
    let future = run(&without.instructions, Architecture::X86_64.audit(), 470, [0; 6]);
    assert_eq!(future.action, ENOSYS, "a call newer than the profile");
}

#[test]
fn a_capability_opens_its_calls_in_the_default_profile() {
    for (capability, name) in [
        ("CAP_SYS_PTRACE", "pidfd_getfd"),
        ("CAP_SYS_MODULE", "finit_module"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_SYS_RAWIO", "iopl"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_PACCT", "acct"),
        ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ] {
        let x86_64 = Architecture::X86_64;
        assert_eq!(judge(&default_for(&[], Family::X86), x86_64, name, &[]), EPERM, "{name}");
        assert_eq!(judge(&default_for(&[capability], Family::X86), x86_64, name, &[]), ALLOW, "{name}");
    }
}

/// The kernel needs no filter at all for calls it can prove are always allowed; the numbers below are what
/// the others, and kernels before 5.11, pay.
#[test]
fn the_default_profile_is_small_and_shallow() {
    let program = default_for(&[], Family::X86);
    assert!(program.instructions.len() < 400, "{} instructions", program.instructions.len());
    let arch = Architecture::X86_64;
    let executed = |name: &str| run(&program.instructions, arch.audit(), number(arch, name), [1; 6]).executed;
    for (name, most) in [("read", 7), ("write", 7), ("futex", 11), ("close", 7), ("openat", 9), ("clone", 16)]
    {
        assert!(executed(name) <= most, "{name} takes {} instructions", executed(name));
    }
    let mut deepest = 0;
    arch.for_each_call(|name, _| deepest = deepest.max(executed(name)));
    assert!(deepest <= 40, "{deepest}");
}

#[test]
fn names_in_the_default_profile_are_unique_and_known_somewhere() {
    let mut known = std::collections::HashSet::new();
    for family in [Family::X86, Family::Arm] {
        for architecture in family.members() {
            architecture.for_each_call(|name, _| {
                known.insert(name);
            });
        }
    }
    let elsewhere = ["riscv_flush_icache", "riscv_hwprobe", "utimensat_time64", "umount"];
    let mut seen = std::collections::HashSet::new();
    for call in default_profile(&[]).syscalls().iter().flatten() {
        for name in call.names() {
            assert!(seen.insert(name.clone()) || call.args().is_some(), "{name} twice");
            let name = name.as_str();
            assert!(known.contains(name) || elsewhere.contains(&name), "{name} is no system call");
        }
    }
}
