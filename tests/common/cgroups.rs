//! Where the kernel says that a process is, and what its limits are there.
use std::path::{Path, PathBuf};

/// The script that runs a command in a mount namespace where cgroup2 is all there is, as on most hosts; here it has the
/// controllers that v1 left over.
pub(crate) const CGROUP2_ONLY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/bench.d/cgroup2-only");

/// Controllers, empty for cgroup2, and directory of each hierarchy that a process is in.
pub(crate) fn groups(pid: &str) -> Vec<(String, PathBuf)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let directory = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let mount = match controllers {
            "" if unified => "",
            "" => "unified",
            named => named.trim_start_matches("name="),
        };
        Some((controllers.to_owned(), Path::new("/sys/fs/cgroup").join(mount).join(path)))
    };
    text.lines().filter_map(directory).collect()
}

/// What the first of these files that exists in any of a process's groups holds.
pub(crate) fn limit(pid: &str, files: &[&str]) -> Option<String> {
    let groups = groups(pid);
    let paths = files.iter().flat_map(|file| groups.iter().map(move |(_, directory)| directory.join(file)));
    paths.filter_map(|path| std::fs::read_to_string(path).ok()).next().map(|text| text.trim().to_owned())
}
