//! What `wharf run` does until the instance's first output is seen: bounds that no later change loses unseen.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::cgroups::CGROUP2_ONLY;
use common::trace::{TracedCall, memory_kib, traced_calls};
use common::{Call, Scratch, eventually, program_exists, require};
use std::collections::{BTreeMap, BTreeSet};

/// What all processes of a traced `run` did until its caller had the first line.
struct Cost {
    /// System calls by name, without those of the instance's own program.
    calls: BTreeMap<String, u32>,
    /// What was executed.
    programs: Vec<String>,
    /// Processes made, threads not counted.
    processes: usize,
    /// Files brought to the disk, by path.
    synced: Vec<String>,
}

fn cost(scratch: &Scratch, options: &[&str]) -> Cost {
    let trace = scratch.path().join("trace");
    // The same on every host: v1 hierarchies cost calls of their own. Without its controllers, no limit.
    let ready = Call::new(CGROUP2_ONLY).args(["strace", "-f", "-y", "-qq", "-s", "16", "-o"]).arg(&trace);
    let wharf = std::env::var_os("WHARF_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_wharf").into());
    let call = ready.arg(wharf).arg("--root").arg(scratch.root()).args(["run", "--rm", "--pids", "0"]);
    let call = call.args(options);
    assert_eq!(call.args(["shell", "echo", "hi"]).ok().stdout, "hi\n");
    until_first_output(&std::fs::read_to_string(&trace).unwrap())
}

fn until_first_output(trace: &str) -> Cost {
    let mut cost = Cost { calls: BTreeMap::new(), programs: Vec::new(), processes: 0, synced: Vec::new() };
    let mut instances = BTreeSet::new();
    let calls: Vec<_> = traced_calls(trace).collect();
    // The instance writes it first, and the command in the foreground last.
    let writes = |call: &TracedCall<'_>| {
        call.name == "write" && call.rest.starts_with("1<") && call.rest.contains("\"hi\\n\"")
    };
    let end = calls.iter().rposition(writes).unwrap();
    for TracedCall { pid, name, rest: arguments } in &calls[..=end] {
        if instances.contains(pid) {
            continue;
        }
        *cost.calls.entry((*name).to_owned()).or_insert(0) += 1;
        if name.starts_with("execve") && !arguments.contains("ENOENT") {
            let program = arguments.split('"').nth(1).unwrap_or_default();
            if program == "/bin/echo" {
                instances.insert(*pid);
            }
            cost.programs.push(program.to_owned());
        }
        if ["clone3", "clone", "fork", "vfork"].contains(name) && !arguments.contains("CLONE_THREAD") {
            cost.processes += 1;
        }
        if ["fsync", "fdatasync", "syncfs", "sync"].contains(name) {
            cost.synced.push((*arguments).to_owned());
        }
    }
    cost
}

impl Cost {
    fn total(&self) -> u32 {
        self.calls.values().sum()
    }

    /// Only the runtime's own record of a container, which is in memory unless `--root` says otherwise.
    fn assert_nothing_synced(&self) {
        let others: Vec<_> = self.synced.iter().filter(|file| !file.contains("/run/containers/")).collect();
        assert!(others.is_empty(), "brought to the disk before the first output: {others:?}");
    }
}

#[test]
fn the_first_output_waits_for_no_disk_and_no_process_too_many() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    let scratch = Scratch::new("runcost");
    scratch.load("shell");
    let cost = cost(&scratch, &["--network", "none"]);
    cost.assert_nothing_synced();
    // The supervisor, and the instance.
    assert_eq!(cost.processes, 2, "{:?}", cost.programs);
    assert_eq!(cost.programs.len(), 3, "wharf, its supervisor and the program: {:?}", cost.programs);
    // Some 700, in a debug build 800. 290 of them are the container's, which tests/oci_cost.rs bounds.
    let total = cost.total();
    assert!((200..=850).contains(&total), "{total} system calls: {:#?}", cost.calls);
}

#[test]
fn the_bridge_costs_one_more_process_and_the_second_instance_on_it_none() {
    common::require_root!();
    require!(program_exists("strace"), "needs strace");
    require!(program_exists("nft"), "needs nft");
    let scratch = Scratch::new("bridgecost");
    scratch.load("shell");
    let first = cost(&scratch, &[]);
    first.assert_nothing_synced();
    assert_eq!(first.processes, 3, "nft beside supervisor and instance: {:?}", first.programs);
    let name = scratch.name("stays");
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sleep", "1000"]).ok();
    let second = cost(&scratch, &[]);
    second.assert_nothing_synced();
    assert_eq!(second.processes, 2, "the rules are there already: {:?}", second.programs);
}

/// A supervisor that waits has given back what starting took: what is its own is some heap, stack and data. The pages of
/// the program's file, which all supervisors share, count too where it is the only one.
#[test]
fn a_supervisor_that_waits_is_small() {
    common::require_root!();
    let scratch = Scratch::new("small");
    scratch.load("shell");
    let name = scratch.name("idle");
    scratch.wharf(["run", "-d", "--network", "none", "--name", &name, "shell", "sleep", "1000"]).ok();
    let supervisor = scratch.inspect(&name)["supervisor_pid"].as_i64().unwrap();
    let kib = |field| memory_kib(supervisor, field);
    // 256 KiB in a release build, 400 in a debug build, whose stack frames are larger.
    eventually("its own memory is below 448 KiB", || kib("Private_Dirty") <= 448);
    // A debug build is executed from many more pages of its file: 3 MiB.
    let most = if cfg!(debug_assertions) { 4096 } else { 1024 };
    eventually("with the file's pages below the bound", || kib("Pss") <= most);
}
