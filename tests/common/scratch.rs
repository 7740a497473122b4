//! A root directory of its own for one test, and the programs run below it.

use super::leftovers::{self, Marks};
use super::{Bundle, Call, Outcome, image_archive};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Everything one test makes: state below [`Scratch::root`], files beside it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    id: String,
}

impl Scratch {
    /// Makes the directory. `name` is a short word for messages and paths.
    pub(crate) fn new(name: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}x{count:x}", std::process::id());
        // Short, because Unix socket paths below it have room for 107 bytes.
        let path = std::env::temp_dir().join(format!("wharf-{name}-{id}"));
        std::fs::create_dir(&path).expect("scratch directory");
        Self { path: path.canonicalize().expect("scratch directory"), id }
    }
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// What `wharf --root` gets.
    pub(crate) fn root(&self) -> PathBuf {
        self.path.join("root")
    }
    /// What `wharf-oci --root` gets.
    pub(crate) fn oci_root(&self) -> PathBuf {
        self.path.join("oci")
    }
    /// A name no other test uses, for instances and containers.
    pub(crate) fn name(&self, stem: &str) -> String {
        format!("{stem}-{}", self.id)
    }
    /// A call of `wharf --root ROOT ARGS...`.
    pub(crate) fn wharf<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        self.wharf_at(&self.root(), args)
    }
    /// A call of `wharf` with a root that is not this scratch's usual one.
    pub(crate) fn wharf_at<A: AsRef<OsStr>>(&self, root: &Path, args: impl IntoIterator<Item = A>) -> Call {
        Call::new(program("WHARF_BIN", env!("CARGO_BIN_EXE_wharf"))).arg("--root").arg(root).args(args)
    }
    /// A call of `wharf-oci --root ROOT ARGS...`.
    pub(crate) fn oci<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        Call::new(wharf_oci()).arg("--root").arg(self.oci_root()).args(args)
    }
    /// The same call, executed by `command`, which takes it as its last arguments.
    pub(crate) fn oci_by<A: AsRef<OsStr>>(&self, command: Call, args: impl IntoIterator<Item = A>) -> Call {
        command.arg(wharf_oci()).arg("--root").arg(self.oci_root()).args(args)
    }
    /// Loads the fixture `NAME.tar`, whose image is then called NAME.
    #[track_caller]
    pub(crate) fn load(&self, name: &str) {
        self.wharf([OsStr::new("load"), image_archive(&format!("{name}.tar")).as_os_str()]).ok();
    }
    /// A new bundle on busybox that runs `args`.
    pub(crate) fn bundle(&self, args: &[&str]) -> Bundle {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        Bundle::create(self.path.join(format!("bundle{count}")), args)
    }
    /// Runs a bundle to its end with `wharf-oci run`.
    #[track_caller]
    pub(crate) fn run(&self, bundle: &Bundle) -> Outcome {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let id = self.name(&format!("run{}", COUNTER.fetch_add(1, Ordering::Relaxed)));
        self.oci(["run", "--bundle", bundle.arg(), &id]).outcome()
    }
    /// `wharf inspect NAME` as one JSON document.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str) -> serde_json::Value {
        self.wharf(["inspect", name]).ok().json()
    }
    /// Host ids of processes that belong to this scratch: their command line, their cgroup or a mount of
    /// theirs names it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        leftovers::processes(&self.marks())
    }
    /// What is on the host and belongs to this scratch, one line each. With instances running there is
    /// of course something; after their removal there must be nothing.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        leftovers::find(&self.marks())
    }
    /// Removes every instance and container through the programs, then fails unless nothing is left.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let marks = self.marks();
        self.remove_all();
        let left = leftovers::settle(&marks);
        assert!(left.is_empty(), "left behind by {}:\n  {}", self.path.display(), left.join("\n  "));
    }
    fn marks(&self) -> Marks {
        Marks::of(&self.path, &self.id)
    }
    fn remove_all(&self) {
        for name in self.listed(&self.root(), || self.wharf(["ps", "-a", "--json"]), "name") {
            self.wharf(["rm", "-f", &name]).outcome();
        }
        for id in self.listed(&self.oci_root(), || self.oci(["list", "--format", "json"]), "id") {
            self.oci(["delete", "--force", &id]).outcome();
        }
    }
    fn listed(&self, root: &Path, list: impl Fn() -> Call, key: &str) -> Vec<String> {
        if !root.is_dir() {
            return Vec::new();
        }
        let listing: serde_json::Value = serde_json::from_str(&list().outcome().stdout).unwrap_or_default();
        let rows = listing.as_array().into_iter().flatten();
        rows.filter_map(|row| row[key].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let marks = self.marks();
        let cleaned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.assert_clean()));
        leftovers::sweep(&marks);
        if std::env::var_os("WHARF_KEEP_SCRATCH").is_none() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
        if let Err(panic) = cleaned
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Path of the `wharf-oci` under test.
pub(crate) fn wharf_oci() -> PathBuf {
    program("WHARF_OCI_BIN", env!("CARGO_BIN_EXE_wharf-oci"))
}

/// The built program, or the one an environment variable names (scripts/vm runs them elsewhere).
fn program(variable: &str, built: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(built), PathBuf::from)
}
