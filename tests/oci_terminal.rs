//! Terminals: over a console socket to an engine, and in the foreground to the caller's own.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Bundle, Scratch, eventually, program_exists, require};
use rustix::fd::{AsFd as _, OwnedFd};
use serde_json::json;
use std::os::unix::net::UnixListener;

fn terminal_bundle(scratch: &Scratch, script: &str) -> Bundle {
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
    bundle
}

/// What can be read from a terminal's master until its last process has gone.
fn read_to_end(master: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count) = rustix::io::read(master, &mut buffer) {
        if count == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn receive(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().unwrap();
    wharf::cli::terminal::receive_descriptor(connection.as_fd()).unwrap()
}

#[test]
fn the_terminals_master_goes_to_the_console_socket() {
    common::require_root!();
    let scratch = Scratch::new("socket");
    // Deep, so that the path does not fit into an address.
    let deep = scratch.path().join("x".repeat(110));
    std::fs::create_dir(&deep).unwrap();
    let bundle = terminal_bundle(&scratch, "tty; read line; echo got $line");
    let path = deep.join("console.sock");
    let directory = std::fs::File::open(&deep).unwrap();
    use std::os::fd::AsRawFd as _;
    let listener =
        UnixListener::bind(format!("/proc/self/fd/{}/console.sock", directory.as_raw_fd())).unwrap();
    let id = scratch.name("socket");
    let socket = path.to_str().unwrap();
    scratch.oci(["create", "--console-socket", socket, "--bundle", bundle.arg(), &id]).ok();
    let master = receive(&listener);
    scratch.oci(["start", &id]).ok();
    rustix::io::write(&master, b"hello\n").unwrap();
    let text = read_to_end(&master);
    assert!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "{text}");
    assert!(text.contains("got hello"), "{text}");
    eventually("it ends", || scratch.oci(["state", &id]).ok().json()["status"] == "stopped");
}

#[test]
fn exec_sends_its_terminal_to_the_console_socket_too() {
    common::require_root!();
    let scratch = Scratch::new("exec");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let path = scratch.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let id = scratch.name("exec");
    scratch.oci(["run", "-d", "--bundle", bundle.arg(), &id]).ok();
    let socket = path.to_str().unwrap();
    let script = "test -t 0 && test -t 1 && echo a terminal";
    scratch.oci(["exec", "-d", "-t", "--console-socket", socket, &id, "/bin/sh", "-c", script]).ok();
    assert!(read_to_end(&receive(&listener)).contains("a terminal"));
}

#[test]
fn a_terminal_without_a_way_out_is_refused_before_anything_exists() {
    common::require_root!();
    let scratch = Scratch::new("refused");
    let bundle = terminal_bundle(&scratch, "true");
    let id = scratch.name("refused");
    let words = ["cannot allocate tty", "--console-socket"];
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).fails_with(&words);
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).fails_with(&words);
    let absent = scratch.path().join("absent.sock");
    scratch
        .oci(["create", "--console-socket", absent.to_str().unwrap(), "--bundle", bundle.arg(), &id])
        .fails_with(&["console socket", "absent.sock"]);
    assert!(!scratch.oci_root().join(&id).exists());
}

#[test]
fn run_in_the_foreground_copies_between_the_callers_terminal_and_the_containers() {
    common::require_root!();
    require!(program_exists("script"), "needs script(1)");
    let scratch = Scratch::new("foreground");
    let bundle = terminal_bundle(&scratch, "test -t 0 && stty size; read line; echo got $line; exit 6");
    let id = scratch.name("foreground");
    let call = scratch.oci(["run", "--bundle", bundle.arg(), &id]).in_terminal(33, 77);
    let mut running = call.spawn();
    eventually("the window has its size", || running.stdout().contains("33 77"));
    running.write("typed\r");
    let outcome = running.wait();
    assert!(outcome.stdout.contains("got typed"), "{outcome}");
    assert_eq!(outcome.code, Some(6), "{outcome}");
}

#[test]
fn run_with_a_terminal_works_without_one_of_the_callers() {
    common::require_root!();
    let scratch = Scratch::new("pipe");
    let bundle = terminal_bundle(&scratch, "read line; echo got $line; exit 2");
    let id = scratch.name("pipe");
    let outcome = scratch.oci(["run", "--bundle", bundle.arg(), &id]).stdin("piped\n").exits(2);
    assert!(outcome.stdout.contains("got piped"), "{outcome}");
}
