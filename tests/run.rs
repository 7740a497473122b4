//! `wharf run`, `exec` and `rm` as a user sees them.

mod common;

use common::{Scratch, eventually, http_get};
use nix::sys::signal::Signal;
use std::time::Duration;

#[test]
fn a_foreground_run_shows_the_output_and_exits_with_the_status() {
    common::require_root!();
    let scratch = Scratch::new("run");
    scratch.load("shell");
    let outcome =
        scratch.wharf(["run", "--rm", "shell", "sh", "-c", "echo out; echo err >&2; exit 3"]).exits(3);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    let outcome = scratch.wharf(["run", "--rm", "shell", "sh", "-c", "kill -9 $$"]).outcome();
    // Process 1 cannot kill itself from inside, so the shell goes on to its end.
    assert_eq!(outcome.code, Some(0), "{outcome}");
    assert_eq!(scratch.wharf(["ps", "-a", "--json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn large_binary_output_arrives_whole_and_in_order() {
    common::require_root!();
    let scratch = Scratch::new("bulk");
    scratch.load("shell");
    let outcome = scratch.wharf(["run", "--rm", "shell", "seq", "1", "300000"]).ok();
    let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(outcome.stdout == expected, "{} bytes of {}", outcome.stdout.len(), expected.len());
}

#[test]
fn standard_input_reaches_the_instance_with_i_only() {
    common::require_root!();
    let scratch = Scratch::new("stdin");
    scratch.load("shell");
    let with = scratch.wharf(["run", "--rm", "-i", "shell", "wc", "-c"]).stdin("x".repeat(100_000)).ok();
    assert_eq!(with.text(), "100000");
    let without = scratch.wharf(["run", "--rm", "shell", "wc", "-c"]).stdin("x").ok();
    assert_eq!(without.text(), "0");
}

#[test]
fn a_signal_to_the_foreground_run_reaches_the_instance() {
    common::require_root!();
    let scratch = Scratch::new("sig");
    scratch.load("shell");
    let script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let run = scratch.wharf(["run", "--rm", "shell", "sh", "-c", script]).spawn();
    eventually("the instance is ready", || run.stdout().contains("ready"));
    run.signal(Signal::SIGTERM);
    let outcome = run.wait();
    assert_eq!(outcome.code, Some(7), "{outcome}");
    assert_eq!(outcome.stdout, "ready\ngot it\n");
}

#[test]
fn an_instance_that_ignores_ctrl_c_ends_at_the_second() {
    common::require_root!();
    let scratch = Scratch::new("int");
    scratch.load("shell");
    let script = "trap '' INT; echo ready; while :; do sleep 0.05; done";
    let mut run = scratch.wharf(["run", "--rm", "shell", "sh", "-c", script]).spawn();
    eventually("the instance is ready", || run.stdout().contains("ready"));
    run.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(300));
    assert!(run.is_running(), "the first is the instance's to handle");
    run.signal(Signal::SIGINT);
    assert_eq!(run.wait().code, Some(137));
}

#[test]
fn options_shape_what_the_instance_sees() {
    common::require_root!();
    let scratch = Scratch::new("opts");
    scratch.load("shell");
    let data = scratch.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "from the host\n").unwrap();
    let bind = format!("{}:/data:ro", data.display());
    let script = "id -u; id -g; pwd; hostname; echo $GREETING; cat /data/file; touch /data/x 2>&1; touch /tmp/x && echo tmp";
    let outcome = scratch
        .wharf([
            "run",
            "--rm",
            "-u",
            "1000:2000",
            "-w",
            "/tmp",
            "-h",
            "box",
            "-e",
            "GREETING=hi",
            "-v",
            &bind,
        ])
        .args(["--read-only", "--tmpfs", "/tmp:mode=1777", "shell", "sh", "-c", script])
        .ok();
    let expected = "1000\n2000\n/tmp\nbox\nhi\nfrom the host\n";
    assert!(outcome.stdout.starts_with(expected), "{outcome}");
    assert!(
        outcome.stdout.contains("Read-only file system") && outcome.stdout.ends_with("tmp\n"),
        "{outcome}"
    );
    assert!(!data.join("x").exists());
}

#[test]
fn capabilities_are_dropped_and_added() {
    common::require_root!();
    let scratch = Scratch::new("caps");
    scratch.load("shell");
    let sets = |options: &[&str]| {
        let command = ["shell", "grep", "-E", "Cap(Eff|Amb|Inh)", "/proc/self/status"];
        scratch.wharf(["run", "--rm"]).args(options).args(command).ok().stdout
    };
    let none = "0000000000000000";
    assert_eq!(sets(&["--cap-drop", "ALL"]), format!("CapInh:\t{none}\nCapEff:\t{none}\nCapAmb:\t{none}\n"));
    assert!(sets(&["--cap-drop", "all", "--cap-add", "chown"]).contains("CapEff:\t0000000000000001\n"));
    assert!(sets(&[]).contains("CapEff:\t00000000a80425fb\n"), "Docker's default set");
}

#[test]
fn a_published_port_leads_to_the_instance_and_is_free_afterwards() {
    common::require_root!();
    let scratch = Scratch::new("port");
    scratch.load("web");
    let name = scratch.name("web");
    let port = free_port();
    let publish = format!("{port}:8080");
    scratch.wharf(["run", "-d", "--name", &name, "-e", "GREETING=moin", "-p", &publish, "web"]).ok();
    let address = ([127, 0, 0, 1], port).into();
    eventually("it answers", || {
        http_get(address, "/").is_ok_and(|(code, body)| code == 200 && body.contains("moin"))
    });
    let other = scratch.name("other");
    scratch
        .wharf(["run", "-d", "--name", &other, "-p", &publish, "web"])
        .fails_with(&["address already in use", &port.to_string()]);
    assert_eq!(
        scratch.wharf(["ps", "-a", "--json"]).ok().json().as_array().unwrap().len(),
        1,
        "nothing half-made"
    );
    scratch.wharf(["stop", &name]).ok();
    drop(std::net::TcpListener::bind(("0.0.0.0", port)).expect("the port is free"));
}

#[test]
fn a_port_that_another_program_holds_is_refused_and_leaves_no_instance() {
    common::require_root!();
    let scratch = Scratch::new("held");
    scratch.load("web");
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = holder.local_addr().expect("its address").port();
    let publish = format!("{port}:8080");
    for detach in [&[][..], &["-d"]] {
        let run = scratch.wharf(["run", "-p", &publish]).args(detach).arg("web");
        let refused = run.fails_with(&["address already in use", &port.to_string(), "choose another port"]);
        assert_eq!(refused.code, Some(125), "{refused}");
    }
    assert_eq!(scratch.wharf(["ps", "-a", "--json"]).ok().json(), serde_json::json!([]));
    scratch.assert_clean();
    // It is the port that was refused, and nothing else about the call.
    drop(holder);
    scratch.wharf(["run", "-d", "--name", &scratch.name("web"), "-p", &publish, "web"]).ok();
}

#[test]
fn the_first_process_is_the_service_or_a_reaper() {
    common::require_root!();
    let scratch = Scratch::new("init");
    scratch.load("shell");
    let direct = scratch.wharf(["run", "--rm", "shell", "sh", "-c", "echo $$"]).ok();
    assert_eq!(direct.text(), "1");
    let script = "(sleep 0.1 & ) ; sleep 0.5; ps -o pid,stat | grep -c Z; exit 4";
    let reaped = scratch.wharf(["run", "--rm", "--init", "shell", "sh", "-c", script]).exits(4);
    assert_eq!(reaped.text(), "0", "no zombie is left\n{reaped}");

    // The first real-time signal of glibc, which musl keeps for itself: init systems are told to end by one.
    let name = scratch.name("realtime");
    let script = "trap 'exit 6' 34; echo ready; while :; do sleep 0.05; done";
    scratch.wharf(["run", "-d", "--init", "--name", &name, "shell", "sh", "-c", script]).ok();
    eventually("the handler is set", || scratch.wharf(["logs", &name]).ok().stdout == "ready\n");
    scratch.wharf(["kill", "--signal", "RTMIN", &name]).ok();
    eventually("it has ended", || scratch.inspect(&name)["last_exit"]["code"] == 6);
}

#[test]
fn exec_joins_a_running_instance_and_exits_with_the_status() {
    common::require_root!();
    let scratch = Scratch::new("exec");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch.wharf(["run", "-d", "--name", &name, "-e", "A=1", "shell", "sleep", "100"]).ok();
    let outcome = scratch.wharf(["exec", "-e", "B=2", &name, "sh", "-c", "echo $A$B; cat; exit 9"]).exits(9);
    assert_eq!(outcome.stdout, "12\n");
    let input = scratch.wharf(["exec", "-i", &name, "cat"]).stdin("through\n").ok();
    assert_eq!(input.stdout, "through\n");
    let user = scratch.wharf(["exec", "-u", "1", &name, "id", "-u"]).ok();
    assert_eq!(user.text(), "1");
    let named = scratch.wharf(["exec", "-u", "app", &name, "sh", "-c", "id -un; echo $HOME"]).ok();
    assert_eq!(named.stdout, "app\n/home/app\n");
    scratch.wharf(["exec", "-u", "nobody-here", &name, "true"]).fails_with(&["nobody-here", "/etc/passwd"]);
    assert_eq!(scratch.wharf(["exec", &name, "nosuch"]).outcome().code, Some(127));
    assert_eq!(scratch.wharf(["exec", &name, "/etc/passwd"]).outcome().code, Some(126));
    scratch.wharf(["stop", "-t", "0", &name]).ok();
    scratch.wharf(["exec", &name, "true"]).fails_with(&["is not running"]);
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address").port()
}
