//! `wharf run -t` and `exec -t`: a terminal inside, as large as the caller's, and typing that arrives.

mod common;

use common::{Scratch, eventually, program_exists, require};

#[test]
fn run_gives_a_terminal_of_the_callers_size() {
    common::require_root!();
    require!(program_exists("script"), "needs script(1)");
    let scratch = Scratch::new("tty");
    scratch.load("shell");
    let script = "tty; stty size; read line; echo got $line; exit 6";
    let mut running =
        scratch.wharf(["run", "--rm", "-it", "shell", "sh", "-c", script]).in_terminal(33, 77).spawn();
    eventually("the window has its size", || running.stdout().contains("33 77"));
    running.write("typed\r");
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(6), "{outcome}");
    assert!(outcome.stdout.contains("/dev/pts/0") && outcome.stdout.contains("got typed"), "{outcome}");
}

#[test]
fn exec_gives_a_terminal_of_the_callers_size() {
    common::require_root!();
    require!(program_exists("script"), "needs script(1)");
    let scratch = Scratch::new("exectty");
    scratch.load("shell");
    let name = scratch.name("exectty");
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sleep", "600"]).ok();
    let script = "test -t 0 && stty size; read line; echo got $line; exit 7";
    let mut running = scratch.wharf(["exec", "-it", &name, "sh", "-c", script]).in_terminal(41, 99).spawn();
    eventually("the window has its size", || running.stdout().contains("41 99"));
    running.write("typed\r");
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(7), "{outcome}");
    assert!(outcome.stdout.contains("got typed"), "{outcome}");
}

#[test]
fn what_a_detached_instance_prints_on_its_terminal_is_logged() {
    common::require_root!();
    let scratch = Scratch::new("dtty");
    scratch.load("shell");
    let name = scratch.name("dtty");
    scratch
        .wharf([
            "run",
            "-d",
            "-t",
            "--name",
            &name,
            "shell",
            "sh",
            "-c",
            "test -t 1 && echo terminal; sleep 600",
        ])
        .ok();
    eventually("it is logged", || scratch.wharf(["logs", &name]).ok().stdout.contains("terminal"));
    scratch.wharf(["stop", "-t", "0", &name]).ok();
}
