//! Mount targets that lead outside, at once or in the moment between check and use.

use crate::common::{self, Scratch};
use crate::sentinel::Sentinel;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn host_mounts(sentinel: &Sentinel) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(sentinel.arg())).count()
}

#[test]
fn cve_2019_18837_a_symlinked_target_is_resolved_inside_the_root() {
    common::require_root!();
    let scratch = Scratch::new("target");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["file"]);
    let source = scratch.path().join("source");
    std::fs::write(&source, "source\n").unwrap();
    let up = format!("../../../../../../../../..{}", sentinel.arg());
    for link in [sentinel.arg(), up.as_str()] {
        for destination in ["/link", "/link/new", "/link/a/b/c", "/deep/../link/new"] {
            for (kind, from) in [("tmpfs", "tmpfs"), ("bind", source.to_str().unwrap())] {
                let mut bundle = scratch.bundle(&["/bin/true"]);
                symlink(link, bundle.rootfs().join("link")).unwrap();
                let options = if kind == "bind" { json!(["bind"]) } else { json!([]) };
                bundle.mount(
                    json!({"destination": destination, "type": kind, "source": from, "options": options}),
                );
                scratch.run(&bundle);
                sentinel.assert_untouched();
                assert_eq!(host_mounts(&sentinel), 0);
            }
        }
    }
}

/// Swaps two names as fast as the kernel lets it, until dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, swaps, thread: Some(thread) }
    }
    fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Runs up to 1000 rounds, or as many as 15 seconds allow, against a swapper; fails below 50.
fn race(swapper: &Swapper, mut round: impl FnMut()) {
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 1000 && start.elapsed() < Duration::from_secs(15) {
        round();
        rounds += 1;
    }
    assert!(rounds >= 50 || start.elapsed() >= Duration::from_secs(15), "only {rounds} rounds");
    assert!(swapper.swaps() > rounds, "{} swaps in {rounds} rounds are no race", swapper.swaps());
}

#[test]
fn cve_2021_30465_a_target_swapped_in_a_shared_volume_never_leads_outside() {
    common::require_root!();
    let scratch = Scratch::new("swap");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["file"]);
    let volume = scratch.path().join("volume");
    std::fs::create_dir_all(volume.join("target")).unwrap();
    symlink(&sentinel.path, volume.join("trap")).unwrap();
    let mut bundle = scratch.bundle(&["/bin/true"]);
    bundle.mount(
        json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind", "rw"]}),
    );
    bundle.mount(json!({"destination": "/volume/target/made/for/you", "type": "tmpfs", "source": "tmpfs"}));
    let swapper = Swapper::start(volume.join("target"), volume.join("trap"));
    let mut started = 0;
    race(&swapper, || {
        started += u32::from(scratch.run(&bundle).success());
        sentinel.assert_untouched();
    });
    assert!(started > 0, "no round got through the mounts; the race was never run");
}

#[test]
fn a_read_only_path_swapped_for_a_symlink_never_leads_outside() {
    common::require_root!();
    let scratch = Scratch::new("swapro");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["file"]);
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "echo x > /held/new 2>/dev/null && echo WRITABLE"]);
    let (held, trap) = (bundle.rootfs().join("held"), bundle.rootfs().join("trap"));
    std::fs::create_dir(&held).unwrap();
    symlink(&sentinel.path, &trap).unwrap();
    bundle.edit(|spec| spec["linux"]["readonlyPaths"].as_array_mut().unwrap().push(json!("/held")));
    bundle.edit(|spec| spec["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/trap")));
    let swapper = Swapper::start(held, trap);
    race(&swapper, || {
        scratch.run(&bundle);
        sentinel.assert_untouched();
        assert_eq!(host_mounts(&sentinel), 0);
    });
}

#[test]
fn a_read_only_path_without_a_race_is_read_only() {
    common::require_root!();
    let scratch = Scratch::new("ropath");
    let mut bundle = scratch.bundle(&["/bin/sh", "-c", "echo x > /held/new || echo refused"]);
    std::fs::create_dir(bundle.rootfs().join("held")).unwrap();
    bundle.edit(|spec| spec["linux"]["readonlyPaths"].as_array_mut().unwrap().push(json!("/held")));
    let outcome = scratch.run(&bundle);
    assert_eq!(outcome.text(), "refused", "{outcome}");
}

#[test]
fn nothing_mounted_inside_is_seen_on_the_host() {
    common::require_root!();
    let scratch = Scratch::new("private");
    let bundle = scratch.bundle(&["/bin/sleep", "1000"]);
    let id = scratch.name("private");
    scratch.oci(["create", "--bundle", bundle.arg(), &id]).ok();
    scratch.oci(["start", &id]).ok();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let seen: Vec<_> = table.lines().filter(|line| line.contains(bundle.arg())).collect();
    assert!(seen.is_empty(), "{seen:?}");
}
