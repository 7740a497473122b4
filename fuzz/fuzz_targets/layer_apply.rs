//! Any bytes as a layer: applied below a directory that stands among sentinels, in both forms of whiteouts.
//! Whatever the bytes are, nothing outside of the directory may change. libFuzzer bounds time and memory, the
//! limits given here bound what is unpacked; scripts/fuzz runs it.
#![no_main]

use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use wharf::image::{LayerLimits, WhiteoutForm, apply_layer};

/// In memory, and always the same, so that inputs can aim at it.
const ARENA: &str = "/dev/shm/wharf-fuzz";
const LIMITS: LayerLimits = LayerLimits { bytes: Some(1 << 20), entries: 200 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static ARENA_OF_THIS_PROCESS: OnceLock<Arena> = OnceLock::new();
    let arena = ARENA_OF_THIS_PROCESS.get_or_init(Arena::new);
    let stream = with_checksums(data);
    for form in [WhiteoutForm::Overlay, WhiteoutForm::Remove] {
        arena.apply(&stream, form);
    }
});

/// What must not change, and the directory in its midst.
struct Arena {
    before: BTreeMap<PathBuf, Seen>,
    _lock: File,
}

/// Type and mode, inode, links, size and owner, and when any of it or the content last changed.
type Seen = (u32, u64, u64, u64, (u32, u32), (i64, i64), (i64, i64));

impl Arena {
    fn new() -> Self {
        fs::create_dir_all(ARENA).expect("the arena");
        let lock = File::open(ARENA).expect("the arena");
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .expect("one run at a time: another one has the arena");
        let _ = fs::remove_dir_all(root());
        let outside = Path::new(ARENA).join("outside");
        fs::create_dir_all(outside.join("directory")).expect("a sentinel");
        for name in ["file", "directory/file"] {
            fs::write(outside.join(name), "untouched").expect("a sentinel");
        }
        Self { before: seen(), _lock: lock }
    }

    fn apply(&self, stream: &[u8], form: WhiteoutForm) {
        fs::create_dir(root()).expect("the root");
        // Something for whiteouts to remove, and for names to stand in the way of.
        let lower = root().join("d/sub");
        fs::create_dir_all(&lower).expect("a lower directory");
        fs::write(lower.join("deep"), "lower").expect("a lower file");
        std::os::unix::fs::symlink("d", root().join("way")).expect("a lower symlink");
        let directory = File::open(root()).expect("the root");
        // Most bytes are refused; that they are told why is for other tests.
        let _ = apply_layer(stream, directory.as_fd(), form, LIMITS);
        fs::remove_dir_all(root()).expect("the root is still what it was");
        assert_eq!(seen(), self.before, "something outside of the root has changed");
    }
}

fn root() -> PathBuf {
    Path::new(ARENA).join("root")
}

/// Everything of the arena but the root, while there is none. The arena itself changes with the root.
fn seen() -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut waiting = entries(Path::new(ARENA));
    while let Some(path) = waiting.pop() {
        let stat = fs::symlink_metadata(&path).expect("a sentinel");
        if stat.is_dir() {
            waiting.extend(entries(&path));
        }
        let (owner, size) = ((stat.uid(), stat.gid()), stat.size());
        let times = ((stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec()));
        found.insert(path, (stat.mode(), stat.ino(), stat.nlink(), size, owner, times.0, times.1));
    }
    found
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a sentinel");
    entries.map(|entry| entry.expect("a sentinel").path()).collect()
}

/// An attacker's checksums are right, so each block that looks like a header gets one: POSIX 1003.1 pax(1),
/// "ustar Interchange Format".
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut stream = data.to_vec();
    for block in stream.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    stream
}
