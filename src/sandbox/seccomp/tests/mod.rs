use super::arch::{Architecture, Family};
use super::interpreter::run;
use super::*;
use serde_json::{Value, json};

mod default_profile;
mod meaning;

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
fn calls_newer_than_the_tables_and_calls_with_two_names_are_known() {
    let value = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X32", "SCMP_ARCH_ARM"], "syscalls": [
            {"names": ["listns", "sync_file_range2"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["arm_sync_file_range", "newfstatat"], "action": "SCMP_ACT_LOG"}
        ]
    });
    for (family, architectures) in [
        (Family::X86, [Architecture::X86_64, Architecture::X32]),
        (Family::Arm, [Architecture::Aarch64, Architecture::Arm]),
    ] {
        let program = program(value.clone(), family);
        for architecture in architectures {
            assert_eq!(judge(&program, architecture, "listns", &[]), ALLOW);
            assert_eq!(judge(&program, architecture, "rseq_slice_yield", &[]), ENOSYS);
        }
        if family == Family::Arm {
            assert_eq!(judge(&program, Architecture::Arm, "arm_sync_file_range", &[]), ALLOW);
            assert_eq!(judge(&program, Architecture::Aarch64, "fstatat", &[]), 0x7ffc_0000);
        }
    }
}

#[test]
fn jumps_reach_over_more_than_255_instructions() {
    let rules: Vec<Value> = (0..480u64)
        .map(|v| {
            json!({"names": ["read", "write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 + v % 300,
                   "args": [{"index": 2, "value": v << 20, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let value =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X32"], "syscalls": rules});
    let program = program(value, Family::X86);
    assert!(program.instructions.len() > 2000);
    for architecture in [Architecture::X86_64, Architecture::X32] {
        for name in ["read", "write"] {
            for v in 0..480u64 {
                let expected = errno(u32::try_from(1 + v % 300).unwrap());
                assert_eq!(judge(&program, architecture, name, &[0, 0, v << 20]), expected, "{v}");
            }
            assert_eq!(judge(&program, architecture, name, &[0, 0, 5]), ALLOW);
        }
    }
    assert_eq!(judge(&program, Architecture::X86, "read", &[]), KILL_PROCESS);
}

#[test]
fn a_profile_that_notifies_needs_a_socket_that_can_be_connected_to() {
    let with = |path: &str| {
        let value = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                           "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
        compile(&profile(value)).map(|program| program.listener).map_err(|error| error.to_string())
    };
    assert_eq!(with("/run/agent.sock"), Ok(true));
    for path in ["agent.sock", "", &format!("/{}", "x".repeat(107))] {
        let error = with(path).unwrap_err();
        assert!(error.starts_with("linux.seccomp.listenerPath: must be an absolute path"), "{error}");
    }
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
