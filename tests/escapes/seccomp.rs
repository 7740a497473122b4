//! System calls that the default profile keeps from a service.

use crate::common::{self, Scratch};

/// Errno of a refusal by the profile.
const EPERM: &str = "errno 1";

/// Calls by number, as `/bin/probe` takes them; x86-64.
const REFUSED: &[(&str, &str)] = &[
    ("CVE-2026-31431: socket(AF_ALG, SOCK_SEQPACKET, 0)", "41 38 5 0"),
    ("socket(AF_VSOCK, SOCK_STREAM, 0)", "41 40 1 0"),
    ("keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1)", "250 0 -3 1"),
    ("unshare(CLONE_NEWUSER)", "272 268435456"),
    ("clone(CLONE_NEWUSER | SIGCHLD)", "56 268435473 0 0 0 0"),
    ("userfaultfd(0)", "323 0"),
    ("io_uring_setup(1, NULL)", "425 1 0"),
    ("bpf(BPF_PROG_LOAD, NULL, 0)", "321 5 0 0"),
    ("perf_event_open(NULL, 0, -1, -1, 0)", "298 0 0 -1 -1 0"),
    ("open_tree(AT_FDCWD, NULL, OPEN_TREE_CLONE)", "428 -100 0 1"),
    ("setns(0, 0)", "308 0 0"),
];

#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_profile_refuses_calls_that_have_led_out() {
    common::require_root!();
    let scratch = Scratch::new("seccomp");
    scratch.load("shell");
    let name = scratch.name("calls");
    let script: Vec<_> = REFUSED.iter().map(|(_, call)| format!("/bin/probe syscall {call}")).collect();
    let script = format!("{}; true", script.join("; "));
    let outcome =
        scratch.wharf(["run", "--name", &name, "--network", "none", "shell", "/bin/sh", "-c", &script]).ok();
    let answers: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(answers.len(), REFUSED.len(), "{outcome}");
    for ((call, _), answer) in REFUSED.iter().zip(answers) {
        assert_eq!(answer, EPERM, "{call}");
    }
}

#[test]
fn a_service_is_under_a_filter_and_gains_no_privileges() {
    common::require_root!();
    let scratch = Scratch::new("filter");
    scratch.load("shell");
    let show = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
    let name = scratch.name("filter");
    let outcome =
        scratch.wharf(["run", "--name", &name, "--network", "none", "shell", "/bin/sh", "-c", show]).ok();
    assert!(outcome.stdout.contains("Seccomp:\t2"), "{outcome}");
}
