//! What a test may leave on the host: mounts, cgroups, network links and rules, processes.
//!
//! Found by what carries the scratch's path or id, so that tests running beside this one do not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// By what the things of one scratch are known.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    path: String,
    id: String,
    links: BTreeSet<String>,
}

impl Marks {
    /// Reads the names of network links out of the state below `path` while it is there.
    pub(crate) fn of(path: &Path, id: &str) -> Self {
        let mut links = BTreeSet::new();
        collect_links(path, 0, &mut links);
        Self { path: path.to_string_lossy().into_owned(), id: format!("-{id}"), links }
    }
    fn matches(&self, text: &str) -> bool {
        text.contains(&self.path) || self.names(text)
    }
    /// Whether the id stands in the text as a whole: `-12x1` is no mark of `-12x10`.
    fn names(&self, text: &str) -> bool {
        text.match_indices(&self.id)
            .any(|(at, id)| !text[at + id.len()..].starts_with(|next: char| next.is_ascii_alphanumeric()))
    }
}

/// Everything found, one line each.
pub(crate) fn find(marks: &Marks) -> Vec<String> {
    let mounts = mounts(marks).into_iter().map(|line| format!("mount: {line}"));
    let groups = cgroups(marks).into_iter().map(|path| format!("cgroup: {}", path.display()));
    let links = links(marks).into_iter().map(|name| format!("link: {name}"));
    let rules = rules(marks).into_iter().map(|line| format!("nft: {line}"));
    let processes = processes(marks).into_iter().map(|pid| format!("process: {}", describe(pid)));
    mounts.chain(groups).chain(links).chain(rules).chain(processes).collect()
}

/// What is still found after the few moments that dying processes and their namespaces may take.
pub(crate) fn settle(marks: &Marks) -> Vec<String> {
    let start = Instant::now();
    loop {
        let left = find(marks);
        if left.is_empty() || start.elapsed() > super::wait::patience(Duration::from_secs(3)) {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends and removes what a failed test left: processes by pid, then mounts, cgroups and links.
pub(crate) fn sweep(marks: &Marks) {
    for pid in processes(marks) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let start = Instant::now();
    while !processes(marks).is_empty() && start.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(10));
    }
    for line in mounts(marks).iter().rev() {
        if let Some(target) = line.split(' ').nth(4) {
            let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
        }
    }
    for group in cgroups(marks).iter().rev() {
        let _ = fs::remove_dir(group);
    }
    for link in links(marks) {
        let _ = Command::new("ip").args(["link", "delete", &link]).output();
    }
}

/// Processes whose command line, cgroup or own mount table names the scratch.
pub(crate) fn processes(marks: &Marks) -> Vec<i32> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let pids = entries(Path::new("/proc")).into_iter().filter_map(|path| {
        path.file_name()?.to_str()?.parse::<i32>().ok().filter(|&pid| pid != std::process::id() as i32)
    });
    let belongs = |pid: &i32| {
        let read = |file: &str| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned()
        };
        let elsewhere = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok().is_some_and(|ns| Some(ns) != own);
        let ours = marks.matches(&read("cmdline").replace('\0', " "))
            || marks.names(&read("cgroup"))
            || (elsewhere && read("mountinfo").contains(&marks.path));
        ours && !ended(*pid)
    };
    pids.filter(belongs).collect()
}

/// A zombie waits for its parent, not for us.
fn ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn describe(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
}

fn mounts(marks: &Marks) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mount table");
    table.lines().filter(|line| line.contains(&marks.path)).map(str::to_owned).collect()
}

fn cgroups(marks: &Marks) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = waiting.pop() {
        if directory.file_name().is_some_and(|name| marks.names(&name.to_string_lossy())) {
            found.push(directory.clone());
        }
        waiting.extend(entries(&directory).into_iter().filter(|path| path.is_dir() && !path.is_symlink()));
    }
    found
}

fn links(marks: &Marks) -> Vec<String> {
    let names = entries(Path::new("/sys/class/net"));
    let names = names.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
    names.filter(|name| marks.links.contains(name)).collect()
}

fn rules(marks: &Marks) -> Vec<String> {
    let Ok(ruleset) = Command::new("nft").args(["list", "ruleset"]).output() else { return Vec::new() };
    let ruleset = String::from_utf8_lossy(&ruleset.stdout).into_owned();
    // A root's table is named after its bridge: wharf_DIGEST and wh-DIGEST.
    let names_link = |line: &str| {
        let table = |link: &String| {
            link.strip_prefix("wh-").is_some_and(|digest| line.contains(&format!("wharf_{digest} ")))
        };
        marks.links.iter().any(|link| line.contains(&format!("\"{link}\"")) || table(link))
    };
    ruleset.lines().filter(|line| marks.matches(line) || names_link(line)).map(str::to_owned).collect()
}

/// Values of `"veth"` and `"bridge"` in the JSON files below a directory.
fn collect_links(directory: &Path, depth: u32, links: &mut BTreeSet<String>) {
    if depth > 5 {
        return;
    }
    for path in entries(directory) {
        if path.is_symlink()
            || path.ends_with("rootfs")
            || path.ends_with("layers")
            || path.ends_with("images")
        {
            continue;
        }
        if path.is_dir() {
            collect_links(&path, depth + 1, links);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            let value = serde_json::from_slice(&fs::read(&path).unwrap_or_default()).unwrap_or_default();
            collect_named(&value, links);
        }
    }
}

fn collect_named(value: &serde_json::Value, links: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            let named = ["veth", "bridge"].into_iter().filter_map(|key| fields.get(key)?.as_str());
            links.extend(named.map(str::to_owned));
            fields.values().for_each(|field| collect_named(field, links));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_named(item, links)),
        _ => (),
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
