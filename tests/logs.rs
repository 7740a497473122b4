//! `wharf logs`

mod common;

use common::{Scratch, eventually};

#[test]
fn lines_come_back_on_the_stream_they_went_to() {
    common::require_root!();
    let scratch = Scratch::new("logs");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch
        .wharf(["run", "-d", "--name", &name, "shell", "sh", "-c", "echo one; echo two >&2; printf three"])
        .ok();
    scratch.wharf(["wait", &name]).ok();
    let logs = scratch.wharf(["logs", &name]).ok();
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("one\nthree", "two\n"));
    let stamped = scratch.wharf(["logs", "-t", "--tail", "1", &name]).ok().stdout;
    assert!(stamped.starts_with("20") && stamped.ends_with("Z three"), "{stamped}");
}

#[test]
fn following_ends_with_the_instance_and_misses_nothing() {
    common::require_root!();
    let scratch = Scratch::new("follow");
    scratch.load("shell");
    let name = scratch.name("box");
    let script = "for i in $(seq 1 50); do echo $i; sleep 0.02; done; echo end";
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sh", "-c", script]).ok();
    let follow = scratch.wharf(["logs", "-f", &name]).ok();
    let expected: String = (1..=50).map(|number| format!("{number}\n")).chain(["end\n".to_owned()]).collect();
    assert_eq!(follow.stdout, expected);
}

#[test]
fn logs_are_rotated_and_bounded() {
    common::require_root!();
    let scratch = Scratch::new("rotate");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch
        .wharf([
            "run",
            "-d",
            "--name",
            &name,
            "--log-size",
            "64K",
            "--log-files",
            "3",
            "shell",
            "seq",
            "1",
            "100000",
        ])
        .ok();
    scratch.wharf(["wait", &name]).ok();
    let directory = scratch.root().join("instances").join(&name);
    let logs = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let logs = logs.filter(|entry| entry.file_name().to_string_lossy().starts_with("log"));
    let sizes: Vec<u64> = logs.map(|entry| entry.metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    // A file is rotated before the write that follows its limit; one write is a pipe's fill of records.
    assert!(sizes.iter().all(|size| *size < 600_000), "{sizes:?}");
    let last = scratch.wharf(["logs", "--tail", "2", &name]).ok();
    assert_eq!(last.stdout, "99999\n100000\n");
}

#[test]
fn output_of_a_service_that_is_not_root_is_kept_through_dev_stdout() {
    common::require_root!();
    let scratch = Scratch::new("reopen");
    scratch.load("shell");
    let name = scratch.name("box");
    let script = "echo reopened > /dev/stdout; echo also > /proc/self/fd/2";
    scratch.wharf(["run", "-d", "--name", &name, "-u", "app", "shell", "sh", "-c", script]).ok();
    eventually("both lines are logged", || {
        let logs = scratch.wharf(["logs", &name]).ok();
        logs.stdout == "reopened\n" && logs.stderr == "also\n"
    });
}
