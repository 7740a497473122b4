//! Two thousand containers, eight at a time: none fails, none is lost, nothing of them stays.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Outcome, Scratch};
use std::sync::atomic::{AtomicU32, Ordering};

const RUNS: u32 = 2000;
const AT_ONCE: usize = 8;

#[test]
fn two_thousand_runs_eight_at_a_time_all_succeed_and_leave_nothing() {
    common::require_root!();
    let scratch = Scratch::new("soak");
    let bundle = scratch.bundle(&["/bin/sh", "-c", "echo alive; exit 7"]);
    let next = AtomicU32::new(0);
    let failed: Vec<Outcome> = std::thread::scope(|scope| {
        let worker = || {
            let mut failed = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < RUNS {
                let outcome = scratch.run(&bundle);
                if outcome.code != Some(7) || outcome.stdout != "alive\n" || !outcome.stderr.is_empty() {
                    failed.push(outcome);
                }
            }
            failed
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{} of {RUNS} failed, the first:\n{}", failed.len(), failed[0]);
    let left: Vec<_> =
        std::fs::read_dir(scratch.oci_root()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(scratch.leftovers(), Vec::<String>::new());
}
