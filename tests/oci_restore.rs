//! `restore` beyond memory and files: terminals, hooks, and what is left behind when it fails.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::criu::{self, require_criu};
use common::{Bundle, Call, Scratch, eventually, program_exists, require};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Numbers the lines that are typed into its terminal.
const ECHO: &str =
    "i=0; while read -r line; do i=$((i+1)); echo got $line $i; test $line != end || exit 7; done";

fn terminal_bundle(scratch: &Scratch) -> Bundle {
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", ECHO]);
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
    bundle
}

fn receive(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().unwrap();
    wharf::cli::terminal::receive_descriptor(connection.as_fd()).unwrap()
}

/// Types a line and waits for the text that answers it.
fn answers(master: &OwnedFd, typed: &str, wanted: &str) {
    rustix::io::write(master, typed.as_bytes()).unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    while !text.contains(wanted) {
        let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&patience)).unwrap();
        assert!(ready > 0, "no {wanted:?} in {text:?}");
        let count = rustix::io::read(master, &mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[test]
fn a_terminal_is_restored_and_its_master_goes_to_the_console_socket() {
    common::require_root!();
    let found = require_criu!();
    let scratch = Scratch::new("criutty");
    let bundle = terminal_bundle(&scratch);
    let (id, image) = (scratch.name("criutty"), scratch.path().join("image"));
    let image = image.to_str().unwrap();
    let path = scratch.path().join("console.sock");
    let (listener, socket) = (UnixListener::bind(&path).unwrap(), path.to_str().unwrap());
    scratch.oci(["run", "--detach", "--console-socket", socket, "--bundle", bundle.arg(), &id]).ok();
    let master = receive(&listener);
    answers(&master, "hello\n", "got hello 1");
    // Another terminal, of a process that exec started: nobody is there to have it after the restore.
    let asleep = ["exec", "--detach", "--tty", "--console-socket", socket, &id, "/bin/sleep", "1000"];
    scratch.oci(asleep).ok();
    let other = receive(&listener);
    criu::with(scratch.oci(["checkpoint", "--image-path", image, &id]), &found).ok();
    drop((master, other));
    let restore = |arguments: &[&str]| {
        let call = scratch.oci(["restore", "--image-path", image, "--bundle", bundle.arg()]);
        criu::with(call, &found).args(arguments).arg(&id)
    };
    restore(&["--detach"]).fails_with(&["cannot allocate tty", "--console-socket"]);
    let absent = scratch.path().join("absent.sock");
    restore(&["--detach", "--console-socket", absent.to_str().unwrap()])
        .fails_with(&["console socket", "absent.sock"]);
    scratch.oci(["state", &id]).fails_with(&["does not exist"]);
    restore(&["--detach", "--console-socket", socket]).ok();
    let master = receive(&listener);
    answers(&master, "again\n", "got again 2");
    scratch.oci(["kill", &id, "KILL"]).ok();
    eventually("it ends", || scratch.oci(["state", &id]).ok().json()["status"] == "stopped");
    scratch.oci(["delete", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn a_restore_in_the_foreground_copies_between_the_callers_terminal_and_the_containers() {
    common::require_root!();
    let found = require_criu!();
    require!(program_exists("script"), "needs script(1)");
    let scratch = Scratch::new("criuttyfg");
    let bundle = terminal_bundle(&scratch);
    let (id, image) = (scratch.name("criuttyfg"), scratch.path().join("image"));
    let image = image.to_str().unwrap();
    let path = scratch.path().join("console.sock");
    let (listener, socket) = (UnixListener::bind(&path).unwrap(), path.to_str().unwrap());
    scratch.oci(["run", "--detach", "--console-socket", socket, "--bundle", bundle.arg(), &id]).ok();
    let master = receive(&listener);
    answers(&master, "hello\n", "got hello 1");
    criu::with(scratch.oci(["checkpoint", "--image-path", image, &id]), &found).ok();
    drop(master);
    let restore = scratch.oci(["restore", "--image-path", image, "--bundle", bundle.arg(), &id]);
    let mut running = criu::with(restore, &found).in_terminal(33, 77).spawn();
    eventually("it runs", || scratch.oci(["state", &id]).outcome().stdout.contains("running"));
    running.write("end\r");
    let outcome = running.wait();
    assert!(outcome.stdout.contains("got end 2"), "{outcome}");
    assert_eq!(outcome.code, Some(7), "{outcome}");
    scratch.assert_clean();
}

/// A hook that appends its word, the state, and the link of its own mount namespace.
fn tell(word: &str, log: &Path) -> Value {
    let script = format!("echo \"{word} $(cat) $(readlink /proc/self/ns/uts)\" >> {}", log.display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// A saved container, its image and the call that restores it from a bundle with these hooks.
fn saved(scratch: &Scratch, found: &Path, id: &str) -> (Bundle, String) {
    let bundle = scratch.bundle(&["/bin/sh", "-c", "while true; do sleep 0.1; done"]);
    let image = scratch.path().join("image").to_str().unwrap().to_owned();
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), id]).ok();
    criu::with(scratch.oci(["checkpoint", "--image-path", &image, id]), found).ok();
    (bundle, image)
}

fn restore(scratch: &Scratch, found: &Path, bundle: &Bundle, image: &str, id: &str) -> Call {
    let call = scratch.oci(["restore", "--detach", "--image-path", image, "--bundle", bundle.arg(), id]);
    criu::with(call, found)
}

#[test]
fn the_hooks_of_create_run_in_a_restore_and_those_before_the_program_do_not() {
    common::require_root!();
    let found = require_criu!();
    let scratch = Scratch::new("criuhooks");
    let id = scratch.name("criuhooks");
    let (mut bundle, image) = saved(&scratch, &found, &id);
    let log = scratch.path().join("log");
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    bundle.edit(|spec| {
        for kind in kinds {
            spec["hooks"][kind] = json!([tell(kind, &log)]);
        }
    });
    restore(&scratch, &found, &bundle, &image, &id).ok();
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].clone();
    let names = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/uts")).unwrap();
    let (inside, outside) = (names(&pid.to_string()), names("self"));
    scratch.oci(["delete", "--force", &id]).ok();
    let text = std::fs::read_to_string(&log).unwrap();
    let told: Vec<(&str, Value, &str)> = text
        .lines()
        .map(|line| {
            let (word, rest) = line.split_once(' ').unwrap();
            let (state, place) = rest.rsplit_once(' ').unwrap();
            (word, serde_json::from_str(state).unwrap(), place)
        })
        .collect();
    let words: Vec<&str> = told.iter().map(|(word, ..)| *word).collect();
    assert_eq!(words, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    for (word, state, place) in &told {
        let (status, of_state) = match *word {
            "poststart" => ("running", pid.clone()),
            "poststop" => ("stopped", json!(0)),
            // As the container's own processes know it.
            "createContainer" => ("creating", json!(1)),
            _ => ("creating", pid.clone()),
        };
        assert_eq!((state["status"].as_str(), &state["pid"]), (Some(status), &of_state), "{word}");
        assert_eq!(
            (state["id"].as_str(), state["bundle"].as_str()),
            (Some(&*id), Some(bundle.arg())),
            "{word}"
        );
        let expected = if *word == "createContainer" { &inside } else { &outside };
        assert_eq!(Path::new(place), expected, "{word}");
    }
    scratch.assert_clean();
}

#[test]
fn a_hook_that_fails_undoes_the_restore() {
    common::require_root!();
    let found = require_criu!();
    let scratch = Scratch::new("criuhookbad");
    let id = scratch.name("criuhookbad");
    let (mut bundle, image) = saved(&scratch, &found, &id);
    let log = scratch.path().join("log");
    let failing = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 3"]});
    for kind in ["prestart", "createRuntime", "createContainer", "poststart"] {
        let _ = std::fs::remove_file(&log);
        bundle.edit(|spec| {
            spec["hooks"] = json!({"poststop": [tell("poststop", &log)]});
            spec["hooks"][kind] = json!([failing]);
        });
        let words = [&format!("hooks.{kind}[0]"), "exit status 3", "no luck"];
        restore(&scratch, &found, &bundle, &image, &id).fails_with(&words);
        scratch.oci(["state", &id]).fails_with(&["does not exist"]);
        assert!(std::fs::read_to_string(&log).unwrap().starts_with("poststop "), "{kind}");
        eventually("nothing is left", || scratch.leftovers().is_empty());
    }
    // Nothing of the image is used up by that.
    bundle.edit(|spec| spec["hooks"] = json!({}));
    restore(&scratch, &found, &bundle, &image, &id).ok();
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}
