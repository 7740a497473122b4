//! Podman of a user without privileges, which runs `wharf-oci` as root of a user namespace of its own.
use crate::common::{
    Call, SUB_IDS, Scratch, User, eventually, image_archive, program_exists, require, require_root,
};
use std::os::unix::fs::PermissionsExt as _;

const IMAGE: &str = "localhost/shell";

/// Everything of Podman is below the user's home. Dropping it removes the containers, and ends the process by
/// which Podman keeps the user namespace.
struct Podman<'a>(User<'a>);

impl<'a> Podman<'a> {
    fn new(scratch: &'a Scratch) -> Self {
        let user = User::with_sub_ids(scratch);
        // Podman's own default raises hard limits, which needs CAP_SYS_RESOURCE.
        let text = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        std::fs::write(scratch.path().join("containers.conf"), text).unwrap();
        let image = scratch.path().join("image.tar");
        std::fs::copy(image_archive("shell.docker.tar"), &image).unwrap();
        std::fs::set_permissions(&image, std::fs::Permissions::from_mode(0o644)).unwrap();
        let podman = Self(user);
        podman.call(["load", "--input", image.to_str().unwrap()]).ok();
        podman
    }
    fn call<const N: usize>(&self, arguments: [&str; N]) -> Call {
        let path = |name: &str| self.0.home().join(name).display().to_string();
        let places = [("--root", path("root")), ("--runroot", path("run")), ("--tmpdir", path("tmp"))];
        let call =
            self.0.call(["podman"]).args(places.into_iter().flat_map(|(name, path)| [name.to_owned(), path]));
        let call = call.args(["--cgroup-manager=cgroupfs", "--events-backend=file", "--storage-driver=vfs"]);
        let call = call.arg(format!("--runtime={}", self.0.program())).args(arguments);
        call.env("CONTAINERS_CONF", self.0.scratch.path().join("containers.conf"))
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let lock = format!("/dev/shm/libpod_rootless_lock_{}", self.0.uid);
        self.call(["rm", "--all", "--force", "--time=0"]).outcome();
        for directory in ["tmp", "libpod/tmp"] {
            let pid =
                std::fs::read_to_string(self.0.home().join(directory).join("pause.pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        let _ = std::fs::remove_file(lock);
    }
}

#[test]
fn podman_without_root_runs_containers_and_leads_them_through_their_life() {
    require_root!();
    require!(program_exists("podman") && program_exists("conmon"), "needs podman and conmon");
    require!(program_exists("newuidmap"), "needs newuidmap (Debian: uidmap)");
    let scratch = Scratch::new("rlpodman");
    let podman = Podman::new(&scratch);
    let script = "echo out; id -u; cat /proc/self/uid_map; touch /x; exit 7";
    let outcome = podman.call(["run", "--rm", "--network=none", IMAGE, "sh", "-c", script]).exits(7);
    let (uid, sub) = (podman.0.uid.to_string(), SUB_IDS.to_string());
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert_eq!(words, ["out", "0", "0", &uid, "1", "1", &sub, "65536"], "{outcome}");
    podman.call(["run", "--rm", "--network=none", IMAGE, "nowhere"]).exits(127);
    podman.call(["run", "--rm", "--network=none", IMAGE, "/etc/passwd"]).exits(126);
    // The host's network, another user inside, and ids of the container's own.
    let user = podman.call(["run", "--rm", "--network=host", "--user=5:6", IMAGE, "id", "-u"]).ok();
    assert_eq!(user.text(), "5");
    let mapped = ["run", "--rm", "--network=none", "--uidmap=0:1:100", IMAGE, "cat", "/proc/self/uid_map"];
    let mapped = podman.call(mapped).ok();
    assert_eq!(mapped.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "100"], "{mapped}");

    let name = scratch.name("life");
    let detached = ["run", "--detach", "--network=none", "--name", &name, "--oom-score-adj=400", IMAGE];
    podman.call(detached).args(["sh", "-c", "echo logged; exec sleep 1000"]).ok();
    let told = podman.call(["exec", &name, "sh", "-c", "cat /proc/1/oom_score_adj; id -u"]).ok();
    assert_eq!(told.stdout, "400\n0\n");
    podman.call(["exec", &name, "sh", "-c", "exit 8"]).exits(8);
    assert_eq!(podman.call(["top", &name]).ok().stdout.lines().count(), 2);
    eventually("its output is logged", || podman.call(["logs", &name]).ok().stdout == "logged\n");
    podman.call(["kill", &name]).ok();
    assert_eq!(podman.call(["wait", &name]).ok().text(), "137");
    podman.call(["start", &name]).ok();
    podman.call(["stop", "--time=0", &name]).ok();
    podman.call(["rm", &name]).ok();
}
