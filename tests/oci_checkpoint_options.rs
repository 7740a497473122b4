//! Options of `checkpoint` and `restore`, each by what it does.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::criu::{self, require_criu};
use common::{Bundle, Call, Scratch, eventually, program_exists, require};
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A container that runs a script, the criu that saves it, and the directories of its images.
struct Saved {
    scratch: Scratch,
    criu: PathBuf,
    bundle: Bundle,
    id: String,
}

impl Saved {
    fn running(criu: PathBuf, name: &str, script: &str) -> Self {
        let scratch = Scratch::new(name);
        let bundle = scratch.bundle(&["/bin/sh", "-c", script]);
        let id = scratch.name(name);
        let container = Self { scratch, criu, bundle, id };
        container.run();
        container
    }

    fn run(&self) {
        self.scratch.oci(["run", "--detach", "--bundle", self.bundle.arg(), &self.id]).ok();
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn checkpoint(&self, image: &str, options: &[&str]) -> Call {
        let call = self.scratch.oci(["checkpoint", "--image-path"]).arg(self.directory(image)).args(options);
        criu::with(call.arg(&self.id), &self.criu)
    }

    fn restore(&self, image: &str, options: &[&str]) -> Call {
        let call = self.scratch.oci(["restore", "--detach", "--image-path"]).arg(self.directory(image));
        criu::with(call.args(["--bundle", self.bundle.arg()]).args(options).arg(&self.id), &self.criu)
    }

    fn pid(&self) -> String {
        self.scratch.oci(["state", &self.id]).ok().json()["pid"].to_string()
    }

    /// A file of the container; empty as long as it is not there.
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.bundle.rootfs().join(name)).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.bundle.rootfs().join(name), text).unwrap();
    }

    fn end(&self) {
        self.scratch.oci(["delete", "--force", &self.id]).ok();
        self.scratch.assert_clean();
    }
}

/// Fills 8 MiB of memory, says so, and answers a line on /ask with what is left of it; one process alone, for
/// busybox's children would have the same memory.
const MEMORY: &str = "x=$(head -c 8388608 /dev/zero | tr '\\0' x); mkfifo /ask; exec 8<>/ask; echo full > /filled; \
     read -r line <&8; echo ${#x} > /answer; read -r line <&8";
const MEMORY_SIZE: u64 = 8_388_608;

/// Bytes of memory in an image, as the file system counts them.
fn pages(image: &Path) -> u64 {
    let entries = std::fs::read_dir(image).unwrap().map(Result::unwrap);
    let pages = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|entry| entry.metadata().unwrap().blocks() * 512).sum()
}

/// linux/capability.h
const CAP_SYS_RESOURCE: u32 = 24;

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() >> number & 1 == 1
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_series_of_images_holds_what_has_changed_and_dedup_drops_what_is_replaced() {
    common::require_root!();
    let found = require_criu!();
    require!(criu::has_feature(&found, "mem_dirty_track"), "needs a kernel that tracks changes of memory");
    let container = Saved::running(found, "criuseries", MEMORY);
    eventually("it is full", || container.read("filled") == "full\n");
    container.checkpoint("first", &["--pre-dump"]).ok();
    assert_eq!(container.scratch.oci(["state", &container.id]).ok().json()["status"], "running");
    assert!(pages(&container.directory("first")) >= MEMORY_SIZE);
    container.checkpoint("second", &["--parent-path", "../first", "--leave-running"]).ok();
    let parent = std::fs::read_link(container.directory("second/parent")).unwrap();
    assert_eq!(parent, Path::new("../first"));
    assert!(pages(&container.directory("second")) < MEMORY_SIZE);
    let absolute = container.directory("first");
    let refused = ["--parent-path", absolute.to_str().unwrap()];
    container.checkpoint("third", &refused).fails_with(&["--parent-path", "must be relative"]);
    container.checkpoint("third", &["--parent-path", "../absent"]).fails_with(&["is no directory"]);
    container.checkpoint("third", &["--parent-path", "../second", "--auto-dedup"]).ok();
    container.restore("third", &[]).ok();
    container.write("ask", "how much\n");
    eventually("it has its memory", || container.read("answer") == format!("{MEMORY_SIZE}\n"));
    container.end();
}

#[test]
fn a_page_server_gets_the_memory_in_place_of_the_image() {
    common::require_root!();
    let found = require_criu!();
    let container = Saved::running(found, "criuserver", MEMORY);
    eventually("it is full", || container.read("filled") == "full\n");
    let (server, port) = (container.directory("server"), free_port().to_string());
    std::fs::create_dir(&server).unwrap();
    let call =
        criu::program(&container.criu).args(["page-server", "--address", "127.0.0.1", "--port", &port]);
    let running = call.arg("--images-dir").arg(&server).spawn();
    let address = format!("127.0.0.1:{port}");
    eventually("it listens", || listens(&port));
    container.checkpoint("image", &["--page-server", &address]).ok();
    assert!(running.wait().success());
    assert_eq!(pages(&container.directory("image")), 0);
    assert!(pages(&server) >= MEMORY_SIZE);
    for entry in std::fs::read_dir(&server).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), container.directory("image").join(entry.file_name())).unwrap();
    }
    container.restore("image", &[]).ok();
    container.write("ask", "how much\n");
    eventually("it has its memory", || container.read("answer") == format!("{MEMORY_SIZE}\n"));
    container.end();
}

/// Whether somebody listens on a port of this machine, without a connection, which would be taken for the
/// one that is awaited.
fn listens(port: &str) -> bool {
    let port = format!(":{:04X}", port.parse::<u16>().unwrap());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(1).is_some_and(|address| address.ends_with(&port)) && fields.nth(1) == Some("0A")
    })
}

#[test]
fn memory_moves_lazily_and_the_status_descriptor_tells_when_it_can() {
    common::require_root!();
    let found = require_criu!();
    require!(has_capability(CAP_SYS_RESOURCE), "needs CAP_SYS_RESOURCE, for pipes as large as CRIU's");
    require!(
        criu::has_feature(&found, "uffd-noncoop"),
        "needs a kernel with userfaultfd for other processes"
    );
    let container = Saved::running(found, "criulazy", MEMORY);
    eventually("it is full", || container.read("filled") == "full\n");
    let (image, status, port) =
        (container.directory("image"), container.directory("status"), free_port().to_string());
    let script = "exec 5>$1; shift; exec \"$@\"";
    let call = Call::new("/bin/sh").args(["-c", script, "sh"]).arg(&status).arg(common::wharf_oci());
    let call = call.arg("--root").arg(container.scratch.oci_root()).args(["checkpoint", "--image-path"]);
    let call = call.arg(&image).args(["--lazy-pages", "--status-fd", "5", "--page-server"]);
    let call = call.arg(format!("127.0.0.1:{port}")).arg(&container.id);
    let saving = criu::with(call, &container.criu).spawn();
    eventually("pages can be asked for", || std::fs::read(&status).unwrap_or_default() == [0]);
    assert!(pages(&image) < MEMORY_SIZE);
    let call = criu::program(&container.criu).args(["lazy-pages", "--page-server", "--address", "127.0.0.1"]);
    let call = call.args(["--port", &port, "--images-dir"]).arg(&image).arg("--work-dir").arg(&image);
    let server = call.spawn();
    eventually("it listens", || image.join("lazy-pages.socket").exists());
    let other = container.scratch.name("lazily");
    let call = container.scratch.oci(["restore", "--detach", "--lazy-pages", "--image-path"]).arg(&image);
    criu::with(call.args(["--bundle", container.bundle.arg(), &other]), &container.criu).ok();
    container.write("ask", "how much\n");
    eventually("it has its memory", || container.read("answer") == format!("{MEMORY_SIZE}\n"));
    assert!(server.wait().success());
    assert!(saving.wait().success());
    // What was saved has been deleted, as by any checkpoint.
    container.scratch.oci(["state", &container.id]).fails_with(&["does not exist"]);
    container.scratch.oci(["delete", "--force", &other]).ok();
    container.scratch.assert_clean();
}

#[test]
fn established_connections_are_saved_when_that_is_allowed_and_go_on() {
    common::require_root!();
    let found = require_criu!();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    // Kernel 6.16 refuses this for sockets other than Unix ones, and CRIU 4.1 gives up then.
    let readable = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PassCred).is_ok();
    require!(readable, "needs a kernel whose TCP sockets this criu can read");
    let script = "nc -l -p 7777 -e /bin/cat & sleep 1; mkfifo /in; nc 127.0.0.1 7777 < /in > /out & \
                  exec 9>/in; echo one >&9; until test -e /go; do sleep 0.1; done; echo two >&9; wait";
    let container = Saved::running(found, "criutcp", script);
    eventually("it talks", || container.read("out") == "one\n");
    let refused = ["criu dump failed", "--tcp-established"];
    container.checkpoint("image", &["--leave-running"]).fails_with(&refused);
    container.checkpoint("image", &["--tcp-established"]).ok();
    container.write("go", "");
    container.restore("image", &["--tcp-established"]).ok();
    eventually("it goes on", || container.read("out") == "one\ntwo\n");
    container.end();
}

#[test]
fn file_locks_are_saved_when_that_is_allowed_and_held_again() {
    common::require_root!();
    let found = require_criu!();
    let lock = |operation: i32| format!("exec 9>/lock; probe syscall {} 9 {operation}", nix::libc::SYS_flock);
    let script = format!(
        "{} >/dev/null; echo held > /state; while true; do sleep 0.1; done",
        lock(nix::libc::LOCK_EX)
    );
    let container = Saved::running(found, "criulock", &script);
    eventually("it is held", || container.read("state") == "held\n");
    container.checkpoint("image", &[]).fails_with(&["criu dump failed", "--file-locks"]);
    container.checkpoint("image", &["--file-locks"]).ok();
    container.restore("image", &["--file-locks"]).ok();
    let attempt = lock(nix::libc::LOCK_EX | nix::libc::LOCK_NB);
    let outcome = container.scratch.oci(["exec", &container.id, "/bin/sh", "-c", &attempt]).exits(1);
    assert_eq!(outcome.stdout, format!("errno {}\n", nix::libc::EAGAIN), "{outcome}");
    container.end();
}

#[test]
fn an_empty_network_namespace_has_lost_what_was_in_it() {
    common::require_root!();
    let found = require_criu!();
    require!(program_exists("nsenter") && program_exists("ip"), "needs nsenter and ip");
    let container = Saved::running(found, "criunet", "while true; do sleep 0.1; done");
    let inside = |arguments: &[&str]| {
        let pid = container.pid();
        Call::new("nsenter").args(["--target", &pid, "--net", "ip"]).args(arguments).ok().stdout
    };
    inside(&["address", "add", "10.98.76.54/32", "dev", "lo"]);
    container.checkpoint("full", &["--leave-running"]).ok();
    container.checkpoint("empty", &["--empty-ns", "network"]).ok();
    container.restore("full", &[]).ok();
    assert!(inside(&["address"]).contains("10.98.76.54"));
    container.scratch.oci(["delete", "--force", &container.id]).ok();
    container.restore("empty", &["--empty-ns", "network"]).ok();
    assert!(!inside(&["address"]).contains("10.98.76.54"));
    container.end();
}

#[test]
fn logs_go_to_the_work_path_and_modes_and_profiles_reach_criu() {
    common::require_root!();
    let found = require_criu!();
    let container = Saved::running(found, "criumode", "while true; do sleep 0.1; done");
    let work = container.directory("work");
    let with_work = ["--work-path", work.to_str().unwrap()];
    container.checkpoint("image", &with_work).ok();
    assert!(work.join("dump.log").exists() && !container.directory("image/dump.log").exists());
    // The container's own cgroup is there before CRIU looks.
    let log = work.join("restore.log").to_str().unwrap().to_owned();
    for options in [["--manage-cgroups-mode", "strict"], ["--lsm-profile", "smack:none"]] {
        let call = container.restore("image", &with_work).args(options);
        call.fails_with(&["criu restore failed: ", "Error (criu/", &log]);
    }
    for mode in ["ignore", "soft", "full"] {
        container.restore("image", &["--manage-cgroups-mode", mode]).ok();
        container.scratch.oci(["delete", "--force", &container.id]).ok();
    }
    container.restore("image", &["--no-pivot"]).fails_with(&["--no-pivot", "CRIU"]);
    container.end();
}

#[test]
fn a_saved_image_may_name_namespaces_that_are_joined_by_path() {
    common::require_root!();
    let found = require_criu!();
    require!(program_exists("nsenter") && program_exists("ip"), "needs nsenter and ip");
    let pod = Saved::running(found.clone(), "criupod", "while true; do sleep 0.1; done");
    let mut member = Saved {
        bundle: pod.scratch.bundle(&["/bin/sh", "-c", "while true; do sleep 0.1; done"]),
        id: pod.scratch.name("member"),
        scratch: Scratch::new("criumember"),
        criu: found,
    };
    let path = format!("/proc/{}/ns/net", pod.pid());
    member.bundle.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.iter_mut().find(|namespace| namespace["type"] == "network").unwrap()["path"] = json!(path);
    });
    member.run();
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(network(&member.pid()), network(&pod.pid()));
    member.checkpoint("image", &[]).ok();
    member.restore("image", &[]).ok();
    assert_eq!(network(&member.pid()), network(&pod.pid()));
    member.end();
    pod.end();
}
