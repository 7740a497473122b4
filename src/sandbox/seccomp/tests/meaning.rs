//! A program is held against a plain reading of random profiles.
use super::*;
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};
use proptest::prelude::*;

/// What a profile means, read straight from it, without tables, ranges or jumps.
fn meaning(profile: &LinuxSeccomp, family: Family, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let value = |action: LinuxSeccompAction, errno: Option<u32>| action.as_u32(errno);
    let default = value(profile.default_action(), profile.default_errno_ret());
    let members = family.members();
    let architecture = members.iter().find(|a| {
        a.audit() == arch
            && a.numbers().contains(&number)
            && (**a == members[0] || profile.architectures().iter().flatten().any(|listed| a.is(*listed)))
    });
    let refuses = !matches!(default & 0xffff_0000, 0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000);
    let Some(architecture) = architecture else {
        let skipped = arch == 0xc000_003e && number == u32::MAX && family == Family::X86;
        return match (skipped, refuses) {
            (false, _) => KILL_PROCESS,
            (true, true) => ENOSYS,
            (true, false) => default,
        };
    };
    let mut name = None;
    let mut newest = None;
    let private = architecture.private_numbers();
    let is_private = |n: u32| private.as_ref().is_some_and(|p| p.contains(&n));
    let calls = || profile.syscalls().iter().flatten();
    architecture.for_each_call(|own, n| {
        if n == number && (name.is_none() || calls().any(|c| c.names().iter().any(|l| l == own))) {
            name = Some(own);
        }
        if !is_private(n) && calls().any(|c| c.names().iter().any(|listed| listed == own)) {
            newest = newest.max(Some(n));
        }
    });
    let wide = |v: u64| if architecture.is_32_bit() { v & 0xffff_ffff } else { v };
    let matches = |arg: &LinuxSeccompArg| {
        let (a, v) = (wide(args[arg.index()]), wide(arg.value()));
        match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => a != v,
            LinuxSeccompOperator::ScmpCmpLt => a < v,
            LinuxSeccompOperator::ScmpCmpLe => a <= v,
            LinuxSeccompOperator::ScmpCmpEq => a == v,
            LinuxSeccompOperator::ScmpCmpGe => a >= v,
            LinuxSeccompOperator::ScmpCmpGt => a > v,
            LinuxSeccompOperator::ScmpCmpMaskedEq => a & v == arg.value_two().unwrap_or(0) & v,
        }
    };
    let speaking: Vec<_> = calls()
        .filter(|c| c.names().iter().any(|n| Some(n.as_str()) == name))
        .filter(|c| value(c.action(), c.errno_ret()) != default)
        .collect();
    if let Some(alone) = speaking.iter().find(|c| c.args().iter().flatten().next().is_none()) {
        return value(alone.action(), alone.errno_ret());
    }
    for call in speaking {
        let args = call.args().as_deref().unwrap_or_default();
        let mut indices: Vec<_> = args.iter().map(LinuxSeccompArg::index).collect();
        indices.sort_unstable();
        indices.dedup();
        let met =
            if indices.len() == args.len() { args.iter().all(matches) } else { args.iter().any(matches) };
        if met {
            return value(call.action(), call.errno_ret());
        }
    }
    let unknown = refuses && !is_private(number) && newest.is_some_and(|newest| number > newest);
    if unknown { ENOSYS } else { default }
}

/// Names that several architectures share, or one alone; no multiplexed ones, which `meaning` ignores.
const NAMES: [&str; 24] = [
    "read",
    "write",
    "open",
    "close",
    "lseek",
    "mmap",
    "rt_sigaction",
    "ioctl",
    "clone",
    "execve",
    "openat",
    "openat2",
    "statx",
    "mseal",
    "epoll_wait",
    "futex",
    "arch_prctl",
    "cacheflush",
    "set_tls",
    "readv",
    "newfstatat",
    "prctl",
    "personality",
    "file_setattr",
];

fn a_profile() -> impl Strategy<Value = Value> {
    let value = prop_oneof![0u64..4, Just(0x1_0000_0001), Just(u64::MAX), Just(0xffff_ffff), any::<u64>()];
    let op = prop::sample::select(vec![
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ]);
    let arg = (0u32..6, value.clone(), value, op).prop_map(
        |(index, value, two, op)| json!({"index": index, "value": value, "valueTwo": two, "op": op}),
    );
    let action = || {
        prop::sample::select(vec![
            json!({"action": "SCMP_ACT_ALLOW"}),
            json!({"action": "SCMP_ACT_KILL_PROCESS"}),
            json!({"action": "SCMP_ACT_LOG"}),
            json!({"action": "SCMP_ACT_ERRNO"}),
            json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 22}),
            json!({"action": "SCMP_ACT_TRACE", "errnoRet": 7}),
        ])
    };
    let names = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..6);
    let call = (names, action(), prop::collection::vec(arg, 0..3)).prop_map(|(names, mut call, args)| {
        call["names"] = json!(names);
        call["args"] = json!(args);
        call
    });
    let architectures = prop::sample::subsequence(
        vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        0..=5,
    );
    (action(), architectures, prop::collection::vec(call, 0..24)).prop_map(|(default, architectures, calls)| {
        let mut profile = json!({"defaultAction": default["action"], "architectures": architectures, "syscalls": calls});
        if let Some(errno) = default.get("errnoRet") {
            profile["defaultErrnoRet"] = errno.clone();
        }
        profile
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_program_decides_what_the_profile_means(
        value in a_profile(),
        args in prop::collection::vec(prop::array::uniform6(prop_oneof![0u64..4, Just(u64::MAX), any::<u64>()]), 2),
        numbers in prop::collection::vec(any::<u32>(), 2),
    ) {
        let profile = profile(value);
        for family in [Family::X86, Family::Arm] {
            let program = compile_for(&profile, family).unwrap();
            let mut probes = numbers.clone();
            probes.extend([0, 469, 470, 511, 512, 0x3fff_ffff, 0x4000_0000, 0x4000_0223, 0x4000_0224, u32::MAX - 1, u32::MAX]);
            for architecture in family.members() {
                architecture.for_each_call(|name, number| if NAMES.contains(&name) {
                    probes.extend([number.saturating_sub(1), number, number + 1]);
                });
            }
            for architecture in [Architecture::X86_64, Architecture::X86, Architecture::Aarch64, Architecture::Arm] {
                let arch = architecture.audit();
                for number in &probes {
                    for args in &args {
                        prop_assert_eq!(
                            run(&program.instructions, arch, *number, *args).action,
                            meaning(&profile, family, arch, *number, *args),
                            "{:?} {:#x} {:x?}", architecture, number, args
                        );
                    }
                }
            }
        }
    }
}
