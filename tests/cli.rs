//! Bad input: one line that names the thing, the right exit status, and nothing left over.

mod common;

use common::{Call, Scratch};

/// Every call fails with status 125 and one line that contains the texts.
fn refused(scratch: &Scratch, args: &[&str], texts: &[&str]) {
    let outcome = scratch.wharf(args).fails_with(texts);
    assert_eq!(outcome.code, Some(125), "{outcome}");
}

#[test]
fn wrong_options_are_refused_before_anything_exists() {
    common::require_root!();
    let scratch = Scratch::new("opt");
    scratch.load("shell");
    let table: [(&[&str], &[&str]); 19] = [
        (&["--memory", "lots"], &["--memory", "lots"]),
        (&["--memory-swap", "1G"], &["--memory-swap", "--memory"]),
        (&["--cpus", "0"], &["--cpus", "0"]),
        (&["--cpus", "10000"], &["--cpus", "more than this machine has"]),
        (&["--restart", "sometimes"], &["sometimes", "on-failure"]),
        (&["--network", "vlan"], &["vlan", "bridge"]),
        (&["--network", "none", "-p", "80:80"], &["-p", "bridge"]),
        (&["-p", "70000:80"], &["70000"]),
        (&["-v", "/nonexistent-source:/data"], &["/nonexistent-source", "make it first"]),
        (&["-v", "name:/data"], &["named volumes"]),
        (&["--cap-add", "NOPE"], &["NOPE"]),
        (&["--name", "../etc"], &["../etc"]),
        (&["-e", "=x"], &["KEY=VALUE"]),
        (&["--stop-signal", "NOPE"], &["NOPE"]),
        (&["--ulimit", "nope=1"], &["nope"]),
        (&["--security-opt", "label=x"], &["label=x"]),
        (&["--rm", "--restart", "always"], &["--rm"]),
        (&["--privileged"], &["--privileged"]),
        (&["--nonsense"], &["--nonsense"]),
    ];
    for (options, texts) in table {
        let args: Vec<&str> =
            ["run", "-d"].iter().chain(options).chain(&["shell", "true"]).copied().collect();
        refused(&scratch, &args, texts);
    }
    assert_eq!(scratch.wharf(["ps", "-a", "--json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn what_is_not_there_is_named() {
    common::require_root!();
    let scratch = Scratch::new("missing");
    scratch.load("shell");
    refused(&scratch, &["run", "--pull", "never", "nosuchimage"], &["nosuchimage"]);
    refused(&scratch, &["run", "-u", "nosuchuser", "shell", "true"], &["nosuchuser"]);
    refused(&scratch, &["load", "/nonexistent.tar"], &["/nonexistent.tar"]);
    refused(&scratch, &["rmi", "nosuchimage"], &["nosuchimage"]);
    refused(&scratch, &["unpack", "nosuchimage", "/tmp/x"], &["nosuchimage"]);
    for command in ["logs", "stop", "start", "restart", "rm", "inspect", "kill", "wait", "stats"] {
        refused(&scratch, &[command, "nosuch"], &["no instance nosuch"]);
    }
    refused(&scratch, &["exec", "nosuch", "true"], &["no instance nosuch"]);
    let left: Vec<_> = std::fs::read_dir(scratch.root().join("instances"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.iter().all(|name| name == ".lock"), "{left:?}");
}

#[test]
fn a_program_that_is_missing_or_cannot_be_executed_leaves_no_instance() {
    common::require_root!();
    let scratch = Scratch::new("prog");
    scratch.load("shell");
    for (program, code) in [("nosuch", 127), ("/nosuch", 127), ("/etc/passwd", 126)] {
        for detach in [&[][..], &["-d"]] {
            let outcome = scratch.wharf(["run"]).args(detach).args(["shell", program]).fails_with(&[program]);
            assert_eq!(outcome.code, Some(code), "{outcome}");
        }
    }
    assert_eq!(scratch.wharf(["ps", "-a", "--json"]).ok().json(), serde_json::json!([]));
    let containers = std::fs::read_dir(scratch.root().join("run/containers")).unwrap();
    assert_eq!(containers.count(), 0);
}

#[test]
fn a_name_in_use_is_refused() {
    common::require_root!();
    let scratch = Scratch::new("name");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sleep", "100"]).ok();
    refused(&scratch, &["run", "-d", "--name", &name, "shell", "true"], &[&name, "in use"]);
    refused(&scratch, &["rmi", "shell"], &["used by instance", &name]);
}

#[test]
fn everyone_but_root_is_told_so() {
    common::require_root!();
    common::require!(common::program_exists("setpriv"), "needs setpriv (package util-linux)");
    let scratch = Scratch::new("user");
    let program = scratch.path().join("wharf");
    let mut wharf = scratch.wharf(["ps"]);
    std::fs::copy(wharf.command().get_program(), &program).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let refused = Call::new("setpriv").args(user).arg(&program).arg("ps").fails_with(&["root"]);
    assert_eq!(refused.code, Some(125));
    Call::new("setpriv").args(user).arg(&program).arg("--help").ok();
}

#[test]
fn listings_are_json_on_request() {
    common::require_root!();
    let scratch = Scratch::new("json");
    scratch.load("shell");
    let images = scratch.wharf(["images", "--json"]).ok().json();
    assert_eq!(images[0]["reference"], "shell:latest");
    let name = scratch.name("box");
    scratch
        .wharf(["run", "-d", "--name", &name, "--memory", "64M", "--label", "a=b", "shell", "sleep", "100"])
        .ok();
    let listed = scratch.wharf(["ps", "--json"]).ok().json();
    assert_eq!((&listed[0]["name"], &listed[0]["status"]), (&name.as_str().into(), &"running".into()));
    let inspected = scratch.inspect(&name);
    for field in ["pid", "cgroup", "limits", "address", "restart_count", "last_exit", "supervisor_pid"] {
        assert!(inspected.get(field).is_some(), "{field}");
    }
    assert_eq!(inspected["limits"]["memory_bytes"], 64 << 20);
    assert_eq!(inspected["labels"]["a"], "b");
    let stats = scratch.wharf(["stats", "--no-stream", "--json"]).ok().json();
    assert_eq!(stats[0]["name"], name.as_str());
}

#[test]
fn state_is_for_root_alone() {
    common::require_root!();
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("mode");
    scratch.load("shell");
    let name = scratch.name("box");
    scratch.wharf(["run", "-d", "--name", &name, "shell", "sleep", "100"]).ok();
    let root = scratch.root();
    for directory in ["instances", &format!("instances/{name}"), "run/control", "run/containers", "network"] {
        let mode = std::fs::metadata(root.join(directory)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{directory}");
    }
    let socket =
        std::fs::metadata(root.join("run/control").join(&name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(socket, 0o600);
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_no_panic() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = |program: &str, arguments: &[&str], stdout: bool| {
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdin(std::process::Stdio::null());
        let command = if stdout {
            command.stdout(full()).stderr(std::process::Stdio::null())
        } else {
            command.stderr(full()).stdout(std::process::Stdio::null())
        };
        command.status().unwrap().code()
    };
    let (wharf, oci) = (env!("CARGO_BIN_EXE_wharf"), env!("CARGO_BIN_EXE_wharf-oci"));
    assert_eq!(status(wharf, &["rm", "nosuch"], false), Some(125));
    assert_eq!(status(oci, &["state", "nosuch"], false), Some(1));
    assert_eq!(status(wharf, &["--help"], true), Some(125));
    for arguments in [&["features"][..], &["--help"], &["--version"], &["run", "--help"]] {
        assert_eq!(status(oci, arguments, true), Some(1), "{arguments:?}");
    }
    let told = std::process::Command::new(oci).arg("features").stdout(full()).output().unwrap().stderr;
    assert_eq!(
        String::from_utf8(told).unwrap().trim_end(),
        "wharf-oci: write to standard output: No space left on device (os error 28)"
    );
}

#[test]
fn stats_ends_when_nobody_reads_it_any_more() {
    common::require_root!();
    let scratch = Scratch::new("unread");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("--root").arg(scratch.root()).args(["stats", "--json"]);
    let mut stats = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(stats.stdout.take());
    common::eventually("it ends", || stats.try_wait().unwrap().is_some());
    assert_eq!(stats.wait().unwrap().code(), Some(0));
}
