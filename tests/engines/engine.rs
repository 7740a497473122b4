//! An engine of one test: its daemon, where it has one, and the end of all it made.
use crate::common::{Call, Running, Scratch, systemd_runs};
use nix::sys::signal::Signal;
use std::path::Path;

/// Everything of one engine is below the scratch, and its cgroups carry the scratch's name. Dropping it
/// ends the daemon and takes back what engines leave behind by design: mounts and parent cgroups.
#[derive(Debug)]
pub(crate) struct Engine {
    daemon: Option<Running>,
    /// How to remove every container.
    clear: Vec<String>,
    pub(crate) scratch: Scratch,
}

impl Engine {
    pub(crate) fn new(name: &str, clear: fn(&Scratch) -> Vec<String>) -> Self {
        let scratch = Scratch::new(name);
        Self { daemon: None, clear: clear(&scratch), scratch }
    }
    /// A slice of systemd for the engine's containers.
    pub(crate) fn slice(&self) -> String {
        format!("{}.slice", self.scratch.name("engine"))
    }
    /// Starts the daemon, again too, and returns when it listens at `socket`, below the scratch, and `ready`
    /// succeeds.
    pub(crate) fn start(&mut self, daemon: Call, socket: &str, ready: impl Fn() -> Call) {
        let socket = self.scratch.path().join(socket);
        // One of an earlier daemon would be taken for this one's.
        let _ = std::fs::remove_file(&socket);
        let daemon = self.daemon.insert(daemon.spawn());
        let limit = std::time::Duration::from_secs(60);
        crate::common::eventually_within(limit, "the daemon answers", || {
            assert!(daemon.is_running(), "the daemon has ended:\n{}", daemon.stderr());
            socket.exists() && ready().outcome().success()
        });
    }
    /// Ends the daemon as its service manager would; containers stay.
    pub(crate) fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::SIGTERM);
            daemon.wait();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.clear.is_empty() {
            Call::new("/bin/sh").args(["-c", &self.clear.join("\n")]).outcome();
        }
        self.stop();
        if systemd_runs() {
            // systemd keeps an empty slice that it made for a scope.
            Call::new("systemctl").args(["stop", &self.slice()]).outcome();
        }
        let name = self.scratch.name("engine");
        // Podman's monitors clean up on their own a moment after their containers, mount again for it, and
        // are in the parent's cgroup meanwhile.
        for _ in 0..200 {
            unmount_below(self.scratch.path());
            remove_cgroups(Path::new("/sys/fs/cgroup"), &name);
            if self.scratch.leftovers().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    }
}

fn unmount_below(directory: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let below: Vec<&str> = points.filter(|point| Path::new(point).starts_with(directory)).collect();
    for point in below.iter().rev() {
        let _ = nix::mount::umount2(*point, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Removes the cgroups of this name and those below them, wherever they are mounted.
fn remove_cgroups(directory: &Path, name: &str) {
    for path in directories(directory) {
        let named = path.file_name().is_some_and(|own| own == name);
        if named { remove_tree(&path) } else { remove_cgroups(&path, name) }
    }
}

fn remove_tree(directory: &Path) {
    directories(directory).iter().for_each(|path| remove_tree(path));
    // What is still in use is tried again, and shows up in the scratch's own check at last.
    let _ = std::fs::remove_dir(directory);
}

fn directories(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
}
