//! The harness judged by its own measure: a check that cannot fail proves nothing.

mod common;

use common::{Call, Scratch};
use std::time::Duration;

#[test]
fn a_program_over_its_time_is_killed_and_told() {
    let panic = std::panic::catch_unwind(|| {
        Call::new("sleep").arg("60").limit(Duration::from_millis(100)).outcome();
    });
    let text = *panic.expect_err("the limit holds").downcast::<String>().unwrap();
    assert!(text.contains("did not end in time") && text.contains("sleep 60"), "{text}");
}

#[test]
fn output_of_a_background_process_does_not_hold_the_call() {
    let outcome = Call::new("sh").args(["-c", "echo started; sleep 2 & exit 3"]).outcome();
    assert_eq!((outcome.code, outcome.text()), (Some(3), "started"));
    assert!(outcome.took < Duration::from_secs(2));
}

#[test]
fn a_process_left_behind_is_found_and_ended() {
    let scratch = Scratch::new("left");
    let marked = scratch.path().join("marked");
    std::fs::write(&marked, "sleep 60\n").unwrap();
    let mut left = Call::new("sh").arg(&marked).spawn();
    common::eventually("the process is seen", || !scratch.leftovers().is_empty());
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(scratch)));
    assert!(dropped.is_err(), "a leftover fails the test");
    common::eventually("the process was ended", || !left.is_running());
}

#[test]
fn a_cgroup_left_behind_is_found_and_removed() {
    common::require_root!();
    let scratch = Scratch::new("group");
    let top = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    let group = std::path::Path::new(top.unwrap()).join(scratch.name("left"));
    std::fs::create_dir(&group).unwrap();
    assert_eq!(scratch.leftovers().len(), 1);
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(scratch)));
    assert!(dropped.is_err() && !group.exists());
}
