use super::arch::{Architecture, Family};
use super::interpreter::run;
use super::*;
use oci_spec::runtime::Arch;
use proptest::prelude::*;
use serde_json::{Value, json};

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}
const EPERM: u32 = errno(1);
const ENOSYS: u32 = errno(38);

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn program(value: Value, family: Family) -> Program {
    compile_for(&profile(value), family).unwrap()
}

fn number(architecture: Architecture, name: &str) -> u32 {
    let mut found = None;
    architecture.for_each_call(|own, number| {
        if own == name {
            found = Some(number);
        }
    });
    found.unwrap_or_else(|| panic!("{architecture:?} has no {name}"))
}

fn judge(program: &Program, architecture: Architecture, name: &str, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    run(&program.instructions, architecture.audit(), number(architecture, name), all).action
}

#[test]
fn every_action_has_its_value() {
    let cases = [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, KILL_PROCESS),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(0), errno(0)),
        ("SCMP_ACT_ERRNO", Some(4095), errno(4095)),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(65535), 0x7ff0_ffff),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
    ];
    for (action, ret, expected) in cases {
        let mut call = json!({"names": ["getpid"], "action": action});
        if let Some(ret) = ret {
            call["errnoRet"] = json!(ret);
        }
        let value = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/s", "syscalls": [call]});
        let program = program(value, Family::X86);
        assert_eq!(judge(&program, Architecture::X86_64, "getpid", &[]), expected, "{action} {ret:?}");
        assert_eq!(judge(&program, Architecture::X86_64, "gettid", &[]), ALLOW);
        assert_eq!(program.listener, action == "SCMP_ACT_NOTIFY");
    }
}

#[test]
fn every_operator_compares_all_64_bits() {
    const V: u64 = 0x1_0000_0005;
    let cases: [(&str, [bool; 5]); 6] = [
        ("SCMP_CMP_NE", [true, true, false, true, true]),
        ("SCMP_CMP_LT", [true, true, false, false, false]),
        ("SCMP_CMP_LE", [true, true, true, false, false]),
        ("SCMP_CMP_EQ", [false, false, true, false, false]),
        ("SCMP_CMP_GE", [false, false, true, true, true]),
        ("SCMP_CMP_GT", [false, false, false, true, true]),
    ];
    let arguments = [5, V - 1, V, V + 1, 0x2_0000_0000];
    for (op, expected) in cases {
        let program = program(
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
                "names": ["lseek"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": V, "op": op}]
            }]}),
            Family::X86,
        );
        for (argument, matches) in arguments.iter().zip(expected) {
            let action = judge(&program, Architecture::X86_64, "lseek", &[0, *argument]);
            assert_eq!(action, if matches { EPERM } else { ALLOW }, "{op} {argument:#x}");
        }
    }
}

#[test]
fn masked_equality_looks_at_the_mask_alone() {
    let program = program(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["lseek"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 0xf_0000_00f0_u64, "valueTwo": 0x3_0000_0035_u64, "op": "SCMP_CMP_MASKED_EQ"}]
        }]}),
        Family::X86,
    );
    for (argument, action) in [
        (0x3_0000_0030, EPERM),
        (0xf3_ffff_ff3f, EPERM),
        (0x3_0000_0040, ALLOW),
        (0x2_0000_0030, ALLOW),
        (0x30, ALLOW),
    ] {
        assert_eq!(judge(&program, Architecture::X86_64, "lseek", &[0, argument]), action, "{argument:#x}");
    }
}

#[test]
fn arguments_of_32_bit_architectures_have_32_bits() {
    let program = program(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [{
            "names": ["personality"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": u64::MAX, "op": "SCMP_CMP_EQ"}]
        }]}),
        Family::X86,
    );
    assert_eq!(judge(&program, Architecture::X86, "personality", &[0xffff_ffff]), EPERM);
    assert_eq!(judge(&program, Architecture::X86_64, "personality", &[0xffff_ffff]), ALLOW);
    assert_eq!(judge(&program, Architecture::X86_64, "personality", &[u64::MAX]), EPERM);
}

#[test]
fn arguments_of_a_rule_are_joined_by_and_unless_they_share_an_index() {
    let rule = |second: u32| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["lseek"], "action": "SCMP_ACT_ERRNO", "args": [
                {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"},
                {"index": second, "value": 2, "op": "SCMP_CMP_EQ"}
            ]
        }]})
    };
    let both = program(rule(2), Family::X86);
    let any = program(rule(1), Family::X86);
    for (args, with_and, with_or) in [
        ([0, 1, 2], EPERM, EPERM),
        ([0, 1, 0], ALLOW, EPERM),
        ([0, 2, 0], ALLOW, EPERM),
        ([0, 0, 2], ALLOW, ALLOW),
    ] {
        assert_eq!(judge(&both, Architecture::X86_64, "lseek", &args), with_and, "{args:?}");
        assert_eq!(judge(&any, Architecture::X86_64, "lseek", &args), with_or, "{args:?}");
    }
}

#[test]
fn a_rule_without_arguments_decides_alone_and_the_first_of_several() {
    let program = program(
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["read"], "action": "SCMP_ACT_LOG"}
        ]}),
        Family::X86,
    );
    assert_eq!(judge(&program, Architecture::X86_64, "read", &[7]), ALLOW);
}

#[test]
fn calls_newer_than_the_profile_fail_with_enosys_only_where_the_default_refuses() {
    let refuse = |default: &str| {
        json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"], "syscalls": [
            {"names": ["read", "rt_sigaction", "openat2"], "action": "SCMP_ACT_ALLOW"},
        ]})
    };
    for (default, below, above) in [
        ("SCMP_ACT_ERRNO", EPERM, ENOSYS),
        ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS, ENOSYS),
        ("SCMP_ACT_LOG", 0x7ffc_0000, 0x7ffc_0000),
    ] {
        let program = program(refuse(default), Family::X86);
        for architecture in [Architecture::X86_64, Architecture::X32] {
            assert_eq!(judge(&program, architecture, "openat2", &[]), ALLOW);
            assert_eq!(judge(&program, architecture, "clone3", &[]), below);
            assert_eq!(judge(&program, architecture, "mseal", &[]), above, "{architecture:?} {default}");
        }
        assert_eq!(judge(&program, Architecture::X32, "readv", &[]), below, "x32's own numbers are old");
        let at = |number| run(&program.instructions, Architecture::X86_64.audit(), number, [0; 6]).action;
        assert_eq!(at(512), above, "a number of x32 without its bit");
        assert_eq!(at(u32::MAX), above);
    }
}

#[test]
fn architectures_that_are_not_listed_kill_the_process() {
    let value = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    let program = program(value, Family::X86);
    assert_eq!(judge(&program, Architecture::X86_64, "read", &[]), ALLOW);
    assert_eq!(judge(&program, Architecture::X32, "read", &[]), KILL_PROCESS);
    assert_eq!(judge(&program, Architecture::X86, "read", &[]), KILL_PROCESS);
    assert_eq!(judge(&program, Architecture::Aarch64, "read", &[]), KILL_PROCESS);
}

#[test]
fn architectures_of_other_machines_and_unknown_names_are_skipped() {
    let program = program(
        json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_S390X", "SCMP_ARCH_AARCH64"],
               "syscalls": [{"names": ["no_such_call", "s390_sthyi", "read"], "action": "SCMP_ACT_ALLOW"}]}),
        Family::X86,
    );
    assert_eq!(judge(&program, Architecture::X86_64, "read", &[]), ALLOW);
}

#[test]
fn rules_for_direct_calls_bind_the_multiplexer_too() {
    let program = program(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
               "syscalls": [{"names": ["connect", "shmget"], "action": "SCMP_ACT_ERRNO"}]}),
        Family::X86,
    );
    let x86 = Architecture::X86;
    assert_eq!(judge(&program, x86, "connect", &[]), EPERM);
    assert_eq!(judge(&program, x86, "socketcall", &[3]), EPERM);
    assert_eq!(judge(&program, x86, "socketcall", &[1]), ALLOW);
    assert_eq!(judge(&program, x86, "ipc", &[23]), EPERM);
    assert_eq!(judge(&program, x86, "ipc", &[24]), ALLOW);
}

#[test]
fn bad_profiles_are_refused_with_their_json_path() {
    let call = |extra: Value| {
        let mut call = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO"});
        for (key, value) in extra.as_object().unwrap() {
            call[key] = value.clone();
        }
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["write"], "action": "SCMP_ACT_LOG"}, call]})
    };
    let cases = [
        (call(json!({"names": []})), "linux.seccomp.syscalls[1].names: empty"),
        (call(json!({"errnoRet": 4096})), "linux.seccomp.syscalls[1].errnoRet: 4096 is above 4095"),
        (
            call(json!({"action": "SCMP_ACT_ALLOW", "errnoRet": 1})),
            "linux.seccomp.syscalls[1].errnoRet: SCMP_ACT_ALLOW returns no",
        ),
        (
            call(json!({"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
            "linux.seccomp.syscalls[1].args[0].index: 6 is not",
        ),
        (call(json!({"action": "SCMP_ACT_NOTIFY"})), "linux.seccomp.listenerPath: missing"),
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/s"}),
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "linux.seccomp.listenerMetadata: given without",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
            "linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs",
        ),
    ];
    for (value, expected) in cases {
        let error = compile_for(&profile(value), Family::X86).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn flags_are_those_of_the_profile_and_spec_allow_when_it_names_none() {
    let with =
        |flags: Value| program(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}), Family::X86).flags;
    assert_eq!(with(json!([])), 0);
    assert_eq!(with(json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"])), 0b011);
    assert_eq!(program(json!({"defaultAction": "SCMP_ACT_ALLOW"}), Family::X86).flags, 0b100);
}

#[test]
fn a_filter_the_kernel_would_not_take_is_refused() {
    let args: Vec<Value> = (0..2000).map(|v| json!({"index": 0, "value": v, "op": "SCMP_CMP_EQ"})).collect();
    let value = json!({"defaultAction": "SCMP_ACT_ALLOW",
                       "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": args}]});
    let error = compile_for(&profile(value), Family::X86).unwrap_err().to_string();
    assert!(
        error.starts_with("linux.seccomp.syscalls: the filter takes") && error.contains("4096"),
        "{error}"
    );
}

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
    let matches = |arg: &oci_spec::runtime::LinuxSeccompArg| {
        let (a, v) = (wide(args[arg.index()]), wide(arg.value()));
        match arg.op() {
            oci_spec::runtime::LinuxSeccompOperator::ScmpCmpNe => a != v,
            oci_spec::runtime::LinuxSeccompOperator::ScmpCmpLt => a < v,
            oci_spec::runtime::LinuxSeccompOperator::ScmpCmpLe => a <= v,
            oci_spec::runtime::LinuxSeccompOperator::ScmpCmpEq => a == v,
            oci_spec::runtime::LinuxSeccompOperator::ScmpCmpGe => a >= v,
            oci_spec::runtime::LinuxSeccompOperator::ScmpCmpGt => a > v,
            oci_spec::runtime::LinuxSeccompOperator::ScmpCmpMaskedEq => {
                a & v == arg.value_two().unwrap_or(0) & v
            }
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
        let mut indices: Vec<_> = args.iter().map(oci_spec::runtime::LinuxSeccompArg::index).collect();
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
