//! The life of a container through `wharf-oci`, as an engine or a person leads it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Scratch, eventually};
use nix::sys::signal::Signal;
use serde_json::json;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::PermissionsExt as _;

fn status(scratch: &Scratch, id: &str) -> String {
    scratch.oci(["state", id]).ok().json()["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    common::require_root!();
    let scratch = Scratch::new("life");
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| spec["annotations"] = json!({"org.example.key": "value"}));
    let id = scratch.name("life");

    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    let state = scratch.oci(["state", &id]).ok().json();
    assert_eq!(state["ociVersion"], "1.0.2");
    assert_eq!(state["id"], id.as_str());
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle.arg());
    assert_eq!(state["rootfs"], bundle.rootfs().to_str().unwrap());
    assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
    assert_eq!(state["owner"], "");
    let pid = state["pid"].as_i64().unwrap();
    let command = |pid: i64| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!command(pid).starts_with(b"/bin/sleep"), "the program must not run before start");

    scratch.oci(["start", &id]).ok();
    assert_eq!(status(&scratch, &id), "running");
    assert_eq!(command(pid), b"/bin/sleep\x001000\x00");

    scratch.oci(["kill", &id, "KILL"]).ok();
    eventually("it stops", || status(&scratch, &id) == "stopped");
    assert_eq!(scratch.oci(["state", &id]).ok().json()["pid"], 0);
    scratch.oci(["delete", &id]).ok();
    scratch.oci(["state", &id]).fails_with(&[&id, "does not exist"]);
    scratch.assert_clean();
}

#[test]
fn commands_that_do_not_fit_the_status_are_refused_and_change_nothing() {
    common::require_root!();
    let scratch = Scratch::new("refuse");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("refuse");
    let oci = |args: &[&str]| scratch.oci(args);

    oci(&["start", &id]).fails_with(&["does not exist"]);
    oci(&["kill", &id]).fails_with(&["does not exist"]);
    oci(&["delete", &id]).fails_with(&["does not exist"]);
    oci(&["delete", "--force", &id]).ok();

    oci(&["create", "--bundle", bundle.arg(), &id]).ok();
    oci(&["create", "--bundle", bundle.arg(), &id]).fails_with(&["container with given ID already exists"]);
    assert_eq!(status(&scratch, &id), "created");

    oci(&["start", &id]).ok();
    oci(&["start", &id]).fails_with(&["cannot start an already running container"]);
    oci(&["delete", &id]).fails_with(&["is not stopped: running", "--force"]);
    oci(&["resume", &id]).fails_with(&["cannot resume", "running"]);
    assert_eq!(status(&scratch, &id), "running");

    oci(&["kill", &id, "9"]).ok();
    eventually("it stops", || status(&scratch, &id) == "stopped");
    oci(&["start", &id]).fails_with(&["cannot start a container that has stopped"]);
    oci(&["kill", &id, "TERM"]).fails_with(&["container not running"]);
    oci(&["exec", &id, "/bin/true"]).fails_with(&["container not running"]);
    oci(&["pause", &id]).fails_with(&["cannot pause", "stopped"]);
    oci(&["delete", &id]).ok();
}

#[test]
fn a_created_container_can_be_deleted_and_its_program_never_runs() {
    common::require_root!();
    let scratch = Scratch::new("unstarted");
    let bundle = scratch.bundle(&["/bin/touch", "/ran"]);
    let id = scratch.name("unstarted");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["delete", &id]).ok();
    assert!(!bundle.rootfs().join("ran").exists());
    scratch.assert_clean();
}

#[test]
fn run_exits_with_the_programs_status_and_leaves_nothing() {
    common::require_root!();
    let scratch = Scratch::new("status");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        let bundle = scratch.bundle(&["/bin/sh", "-c", script]);
        assert_eq!(scratch.run(&bundle).code, Some(code), "{script}");
    }
    let bundle = scratch.bundle(&["/bin/sh", "-c", "trap 'exit 3' TERM; kill -TERM $$ & wait"]);
    assert_eq!(scratch.run(&bundle).code, Some(3));
    assert_eq!(scratch.oci(["list", "--quiet"]).ok().stdout, "");
    scratch.assert_clean();
}

#[test]
fn a_signal_sent_to_run_reaches_the_program_and_its_death_is_128_plus_the_signal() {
    common::require_root!();
    let scratch = Scratch::new("signal");
    // A real-time signal, too: the first of glibc, which musl keeps for itself.
    for signal in [Signal::SIGUSR1 as i32, 34] {
        let handler =
            format!("trap 'echo caught; exit 5' {signal}; echo ready; while :; do sleep 0.05; done");
        let bundle = scratch.bundle(&["/bin/sh", "-c", &handler]);
        let id = scratch.name(&format!("handler-{signal}"));
        let running = scratch.oci(["run", "--bundle", bundle.arg(), &id]).spawn();
        eventually("the handler is set", || running.stdout().contains("ready"));
        running.signal_number(signal);
        let outcome = running.wait();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(5), "ready\ncaught\n"), "{outcome}");
    }

    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("killed");
    let running = scratch.oci(["run", "--bundle", bundle.arg(), &id]).spawn();
    eventually("it runs", || scratch.oci(["list", "--quiet"]).ok().stdout.contains(&id));
    eventually("it is started", || status(&scratch, &id) == "running");
    scratch.oci(["kill", &id, "SIGKILL"]).ok();
    assert_eq!(running.wait().code, Some(137));
}

#[test]
fn run_detached_returns_at_once_and_the_container_goes_on() {
    common::require_root!();
    let scratch = Scratch::new("detach");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("detach");
    let pid_file = scratch.path().join("pid");
    let pid_path = pid_file.to_str().unwrap();
    scratch.oci(["run", "--detach", "--pid-file", pid_path, "--bundle", bundle.arg(), &id]).ok();
    let state = scratch.oci(["state", &id]).ok().json();
    assert_eq!(state["status"], "running");
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn run_with_keep_leaves_a_stopped_container() {
    common::require_root!();
    let scratch = Scratch::new("keep");
    let bundle = scratch.bundle(&["/bin/true"]);
    let id = scratch.name("keep");
    scratch.oci(["run", "--keep", "--bundle", bundle.arg(), &id]).ok();
    assert_eq!(status(&scratch, &id), "stopped");
    scratch.oci(["delete", &id]).ok();
}

#[test]
fn pause_stops_every_process_until_resume() {
    common::require_root!();
    let scratch = Scratch::new("pause");
    let bundle = scratch.bundle(&["/bin/sh", "-c", "while :; do echo x >> /count; sleep 0.01; done"]);
    let id = scratch.name("pause");
    let count = || std::fs::metadata(bundle.rootfs().join("count")).map_or(0, |file| file.len());
    scratch.oci(["run", "-d", "--bundle", bundle.arg(), &id]).ok();
    eventually("it counts", || count() > 4);
    scratch.oci(["pause", &id]).ok();
    assert_eq!(status(&scratch, &id), "paused");
    let frozen = count();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(count(), frozen, "a paused container must not run");
    scratch.oci(["exec", &id, "/bin/true"]).fails_with(&["paused", "--ignore-paused"]);
    scratch.oci(["resume", &id]).ok();
    assert_eq!(status(&scratch, &id), "running");
    eventually("it counts again", || count() > frozen);
    scratch.oci(["pause", &id]).ok();
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn kill_all_reaches_processes_beside_the_first() {
    common::require_root!();
    let scratch = Scratch::new("killall");
    let script = "trap 'echo got >> /seen' USR1; echo up >> /up; while :; do sleep 0.02; done";
    let bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    let id = scratch.name("killall");
    let lines =
        |name: &str| std::fs::read_to_string(bundle.rootfs().join(name)).unwrap_or_default().lines().count();
    scratch.oci(["run", "-d", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["exec", "-d", &id, "/bin/sh", "-c", script]).ok();
    eventually("both have their handlers", || lines("up") == 2);
    scratch.oci(["kill", "--all", &id, "USR1"]).outcome();
    eventually("both got the signal", || lines("seen") == 2);
}

#[test]
fn list_shows_containers_as_runc_does() {
    common::require_root!();
    let scratch = Scratch::new("list");
    assert_eq!(
        scratch.oci(["list"]).ok().stdout,
        "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    );
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let ids = [scratch.name("a"), scratch.name("b")];
    for id in &ids {
        scratch.oci(["create", "--bundle", bundle.arg(), id]).ok();
    }
    scratch.oci(["start", &ids[1]]).ok();
    let listed = scratch.oci(["list", "--format", "json"]).ok().json();
    let field = |index: usize, name: &str| listed[index][name].as_str().unwrap().to_owned();
    assert_eq!((field(0, "id"), field(0, "status")), (ids[0].clone(), "created".to_owned()));
    assert_eq!((field(1, "id"), field(1, "status")), (ids[1].clone(), "running".to_owned()));
    assert_eq!(field(0, "owner"), "root");
    assert_eq!(scratch.oci(["list", "-q"]).ok().stdout, format!("{}\n{}\n", ids[0], ids[1]));
    let table = scratch.oci(["list"]).ok().stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().nth(2).unwrap().starts_with(&ids[1]), "{table}");
}

#[test]
fn state_is_private_and_survives_a_change_of_the_bundle() {
    common::require_root!();
    let scratch = Scratch::new("private");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "exit 4"]);
    let id = scratch.name("private");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    for path in [scratch.oci_root(), scratch.oci_root().join(&id)] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", path.display());
    }
    bundle.edit(|spec| spec["process"]["env"] = json!(["PATH=/bin", "CHANGED=1"]));
    let seen = scratch.oci(["exec", &id, "/bin/sh", "-c", "echo \"<$CHANGED>\""]).ok();
    assert_eq!(seen.text(), "<>", "the config at creation counts");
}

#[test]
fn preserved_descriptors_reach_the_program_and_others_do_not() {
    common::require_root!();
    let scratch = Scratch::new("fds");
    let bundle = scratch.bundle(&["/bin/ls", "/proc/self/fd"]);
    let id = scratch.name("fds");
    scratch
        .oci(["run", "--preserve-fds", "2", "--bundle", bundle.arg(), &id])
        .fails_with(&["--preserve-fds", "file descriptor 3 is not open"]);
    let script = format!(
        "exec 3</dev/null 4</dev/null 5</dev/null; exec {} --root {} run --preserve-fds 1 --bundle {} {id}",
        env!("CARGO_BIN_EXE_wharf-oci"),
        scratch.oci_root().display(),
        bundle.arg()
    );
    let outcome = common::Call::new("/bin/sh").args(["-c", &script]).ok();
    let numbers: Vec<&str> = outcome.stdout.split_whitespace().collect();
    // ls itself has the directory open.
    assert_eq!(numbers, ["0", "1", "2", "3", "4"], "{outcome}");
}

#[test]
fn the_pidfd_of_a_process_is_sent_to_the_socket() {
    common::require_root!();
    let scratch = Scratch::new("pidfd");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("pidfd");
    let path = scratch.path().join("pidfd.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let socket = path.to_str().unwrap();
    scratch.oci(["create", "--bundle", bundle.arg(), "--pidfd-socket", socket, &id]).ok();
    let pid = scratch.oci(["state", &id]).ok().json()["pid"].to_string();
    assert_eq!(received_pid(&listener), pid);
    scratch.oci(["start", &id]).ok();
    let pid_file = scratch.path().join("pid");
    let file = pid_file.to_str().unwrap();
    scratch.oci(["exec", "-d", "--pidfd-socket", socket, "--pid-file", file, &id, "/bin/sleep", "1000"]).ok();
    assert_eq!(received_pid(&listener), std::fs::read_to_string(&pid_file).unwrap());
    let nowhere = scratch.path().join("nowhere");
    let other = scratch.name("other");
    let create = scratch.oci([
        "create",
        "--bundle",
        bundle.arg(),
        "--pidfd-socket",
        nowhere.to_str().unwrap(),
        &other,
    ]);
    create.fails_with(&["--pidfd-socket", "nowhere", "No such file"]);
    scratch.oci(["state", &other]).fails_with(&["does not exist"]);
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

/// The pid behind the pidfd that comes over the next connection.
fn received_pid(listener: &std::os::unix::net::UnixListener) -> String {
    let (connection, _) = listener.accept().unwrap();
    let mut word = [0; 16];
    let (count, pidfd) = wharf::sys::descriptor::receive(connection.as_fd(), &mut word).unwrap();
    assert_eq!(&word[..count], b"pidfd");
    let info = format!("/proc/self/fdinfo/{}", pidfd.as_ref().unwrap().as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().to_owned()
}

#[test]
fn no_pivot_changes_the_root_all_the_same() {
    common::require_root!();
    let scratch = Scratch::new("nopivot");
    let mut bundle = scratch.bundle(&[
        "/bin/sh",
        "-c",
        "ls /; cat /proc/self/mountinfo | wc -l; cat /from-hook; ls /proc/1 >/dev/null && echo proc",
    ]);
    std::fs::write(bundle.rootfs().join("marker"), "").unwrap();
    let id = scratch.name("nopivot");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo hooked > from-hook"]});
    for hooked in [false, true] {
        if hooked {
            bundle.edit(|spec| spec["hooks"] = json!({"createContainer": [hook]}));
        }
        let outcome = scratch.oci(["run", "--no-pivot", "--bundle", bundle.arg(), &id]).outcome();
        assert!(outcome.stdout.contains("marker") && outcome.stdout.contains("proc\n"), "{outcome}");
        assert_eq!(outcome.stdout.contains("hooked"), hooked, "{outcome}");
    }
    scratch.assert_clean();
}
