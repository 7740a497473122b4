//! An engine of one test: its daemon, where it has one, and the end of all it made.
use crate::common::{Call, Running, Scratch};
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
    /// Starts the daemon, again too, and returns when `ready` succeeds.
    pub(crate) fn start(&mut self, daemon: Call, ready: impl Fn() -> Call) {
        self.daemon = Some(daemon.spawn());
        crate::common::eventually("the daemon answers", || ready().outcome().success());
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
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let below: Vec<&str> =
            points.filter(|point| Path::new(point).starts_with(self.scratch.path())).collect();
        for point in below.iter().rev() {
            let _ = nix::mount::umount2(*point, nix::mount::MntFlags::MNT_DETACH);
        }
        let name = self.scratch.name("engine");
        // A container's monitor is in the parent's cgroup and ends a moment after the container.
        for _ in 0..100 {
            if remove_cgroups(Path::new("/sys/fs/cgroup"), &name) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    }
}

/// Removes the cgroups of this name and those below them, wherever they are mounted; whether none is left.
fn remove_cgroups(directory: &Path, name: &str) -> bool {
    let mut gone = true;
    for path in directories(directory) {
        let named = path.file_name().is_some_and(|own| own == name);
        gone &= if named { remove_tree(&path) } else { remove_cgroups(&path, name) };
    }
    gone
}

fn remove_tree(directory: &Path) -> bool {
    directories(directory).iter().for_each(|path| {
        remove_tree(path);
    });
    std::fs::remove_dir(directory).is_ok()
}

fn directories(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
}
