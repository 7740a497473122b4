//! What a test needs of the machine; a test that cannot run says so aloud, and scripts/test counts it.

use std::io::Write as _;
use std::path::Path;

/// Leaves the test, aloud, unless the condition holds: `require!(condition, "needs {}", what)`.
macro_rules! require {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            $crate::common::skip(&format!($($reason)+));
            return;
        }
    };
}
pub(crate) use require;

/// Leaves the test, aloud, when it does not run as root.
macro_rules! require_root {
    () => {
        $crate::common::require!($crate::common::is_root(), "needs root")
    };
}
pub(crate) use require_root;

/// Prints the line that scripts/test counts. It bypasses libtest's capture, which a passing test's
/// output would otherwise vanish in.
pub(crate) fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}").expect("stderr takes the line");
}

/// Whether the effective user is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program of the machine is on PATH.
pub(crate) fn program_exists(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// Whether systemd is the first process.
pub(crate) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether the running kernel is at least `major.minor`.
pub(crate) fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("kernel release");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Where this machine keeps its cgroup controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupHost {
    /// One cgroup2 mount at /sys/fs/cgroup.
    V2,
    /// Controllers on v1 hierarchies, perhaps with a cgroup2 mount beside them.
    V1OrHybrid,
}

impl CgroupHost {
    /// This machine.
    pub(crate) fn here() -> Self {
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { Self::V2 } else { Self::V1OrHybrid }
    }
}
