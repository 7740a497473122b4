//! `linux.seccomp` through wharf-oci, seen from inside and by an agent.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Running, Scratch, eventually};
use serde_json::{Value, json};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A socket that agents listen on.
struct Agent {
    socket: UnixListener,
    path: PathBuf,
}

impl Agent {
    fn listen(scratch: &Scratch) -> Self {
        let path = scratch.path().join("agent.sock");
        Self { socket: UnixListener::bind(&path).unwrap(), path }
    }

    /// A profile that lets everything pass but notifies about these calls.
    fn profile(&self, names: &[&str]) -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": self.path, "listenerMetadata": "from the test",
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}]
        })
    }

    /// The message of one process, and the listener that came with it.
    fn receive(&self) -> (Value, OwnedFd) {
        let (stream, _) = self.socket.accept().unwrap();
        let mut bytes = vec![0; 65536];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
        let received =
            rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags).unwrap();
        let mut descriptors = ancillary.drain().flat_map(|message| match message {
            rustix::net::RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let listener = descriptors.next().expect("a descriptor");
        assert!(descriptors.next().is_none(), "one descriptor");
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        assert_eq!(link, Path::new("anon_inode:seccomp notify"));
        (serde_json::from_slice(&bytes[..received.bytes]).unwrap(), listener)
    }
}

fn run(scratch: &Scratch, script: &str, change: impl FnOnce(&mut Value)) -> (Running, String) {
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", script]);
    bundle.edit(change);
    let id = scratch.name("seccomp");
    (scratch.oci(["run", "--bundle", bundle.arg(), &id]).spawn(), id)
}

#[test]
fn an_agent_gets_the_listener_and_answers_with_and_without_no_new_privs() {
    common::require_root!();
    let scratch = Scratch::new("agent");
    let agent = Agent::listen(&scratch);
    for no_new_privileges in [true, false] {
        let script = "mkdir /made 2>&1; echo done";
        let (running, id) = run(&scratch, script, |spec| {
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            spec["annotations"] = json!({"org.example": "web"});
            spec["linux"]["seccomp"] = agent.profile(&["mkdir", "mkdirat"]);
        });
        let (message, listener) = agent.receive();
        let state = scratch.oci(["state", &id]).ok().json();
        assert_eq!(message["fds"], json!(["seccompFd"]));
        assert_eq!(message["metadata"], "from the test");
        assert_eq!(message["pid"], state["pid"]);
        assert_eq!(message["ociVersion"], state["ociVersion"]);
        assert_eq!(message["state"]["id"], json!(id));
        assert_eq!(message["state"]["pid"], state["pid"]);
        assert_eq!(message["state"]["annotations"], json!({"org.example": "web"}));
        eventually("the program runs", || scratch.oci(["state", &id]).ok().json()["status"] == "running");
        assert_eq!(running.stdout(), "", "mkdir waits for the agent's answer");
        // The kernel answers for an agent that is gone: ENOSYS, seccomp_unotify(2).
        drop(listener);
        let outcome = running.wait();
        assert!(outcome.stdout.contains("Function not implemented"), "{outcome}");
        assert!(outcome.stdout.ends_with("done\n"), "{outcome}");
    }
}

#[test]
fn a_profile_may_notify_about_the_calls_that_a_runtime_itself_lives_on() {
    common::require_root!();
    let scratch = Scratch::new("own");
    let agent = Agent::listen(&scratch);
    let mut bundle = scratch.bundle(&["/bin/true"]);
    let calls = ["sendto", "sendmsg", "recvfrom", "accept4", "close", "write", "memfd_create"];
    bundle.edit(|spec| spec["linux"]["seccomp"] = agent.profile(&calls));
    let id = scratch.name("own");
    let running = scratch.oci(["run", "--bundle", bundle.arg(), &id]).spawn();
    let (_, listener) = agent.receive();
    assert!(running.wait().success());
    drop(listener);
}

#[test]
fn every_exec_has_a_listener_of_its_own() {
    common::require_root!();
    let scratch = Scratch::new("exec");
    let agent = Agent::listen(&scratch);
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| spec["linux"]["seccomp"] = agent.profile(&["mkdir", "mkdirat"]));
    let id = scratch.name("exec");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    let start = scratch.oci(["start", &id]).spawn();
    let (first, _first_listener) = agent.receive();
    assert!(start.wait().success());
    assert_eq!(first["state"]["status"], "created");
    let exec = scratch.oci(["exec", &id, "/bin/mkdir", "/made"]).spawn();
    let (second, listener) = agent.receive();
    assert_eq!(second["state"]["pid"], first["pid"]);
    assert_ne!(second["pid"], first["pid"]);
    assert_eq!(second["state"]["status"], "running");
    drop(listener);
    let outcome = exec.wait();
    assert!(outcome.stderr.contains("Function not implemented"), "{outcome}");
}

#[test]
fn an_agent_that_is_not_there_is_told_and_nothing_stays() {
    common::require_root!();
    let scratch = Scratch::new("absent");
    let agent = Agent::listen(&scratch);
    let profile = agent.profile(&["mkdir"]);
    drop(agent);
    let mut bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    bundle.edit(|spec| spec["linux"]["seccomp"] = profile);
    let id = scratch.name("absent");
    scratch.oci(["run", "--bundle", bundle.arg(), &id]).fails_with(&[
        "agent.sock",
        "linux.seccomp.listenerPath",
        "refused",
    ]);
    scratch.assert_clean();
}

#[test]
fn listeners_without_a_place_to_go_are_refused_by_path() {
    common::require_root!();
    let scratch = Scratch::new("refused");
    let refused = |profile: Value, texts: &[&str]| {
        let mut bundle = scratch.bundle(&["/bin/true"]);
        bundle.edit(|spec| spec["linux"]["seccomp"] = profile);
        scratch.oci(["run", "--bundle", bundle.arg(), &scratch.name("refused")]).fails_with(texts);
    };
    let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
    let allow = "SCMP_ACT_ALLOW";
    refused(json!({"defaultAction": allow, "syscalls": rule}), &["linux.seccomp.listenerPath"]);
    refused(
        json!({"defaultAction": allow, "syscalls": rule, "listenerPath": "relative"}),
        &["linux.seccomp.listenerPath"],
    );
    refused(json!({"defaultAction": allow, "listenerMetadata": "x"}), &["linux.seccomp.listenerMetadata"]);
    refused(
        json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}),
        &["linux.seccomp.defaultAction"],
    );
    let flags = json!({"defaultAction": allow, "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]});
    refused(flags, &["linux.seccomp.flags[0]"]);
}

#[test]
fn actions_reach_the_program_and_a_profile_may_refuse_the_runtimes_own_calls() {
    common::require_root!();
    let scratch = Scratch::new("actions");
    let inside = |syscalls: Value, script: &str| {
        let (running, _) = run(&scratch, script, |spec| {
            let flags =
                ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"];
            spec["linux"]["seccomp"] =
                json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "syscalls": syscalls});
        });
        running.wait()
    };
    let errno =
        json!([{"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]);
    let outcome = inside(errno, "mkdir /made 2>&1");
    assert!(outcome.stdout.contains("No space left on device"), "{outcome}");
    let kill = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]);
    assert_eq!(inside(kill, "mkdir /made; echo $?").text(), "159", "128 + SIGSYS");
    let own = json!([{"names": ["sendto", "sendmsg", "accept4", "recvfrom", "prlimit64"], "action": "SCMP_ACT_ERRNO"}]);
    assert_eq!(inside(own, "echo runs").stdout, "runs\n");
}
