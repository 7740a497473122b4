//! `linux.intelRdt`: cache and memory bandwidth of a class of service, and their monitoring, through the
//! resctrl file system; Documentation/filesystems/resctrl.rst, runtime-spec config-linux.md#intelrdt.
use super::{ContainerId, Error};
use oci_spec::runtime::LinuxIntelRdt;
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where the kernel's documentation has it mounted.
const MOUNT: &str = "/sys/fs/resctrl";
/// `RDTGROUP_SUPER_MAGIC` of linux/magic.h.
const RESCTRL_MAGIC: u64 = 0x0765_5821;

/// The groups of a container, as its record remembers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Directory of the class of service.
    class: PathBuf,
    /// Whether the class goes with the container; one that the config names may have other users.
    owned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitoring: Option<PathBuf>,
}

/// What a config asks for.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) record: Record,
    /// Lines for the schemata file; none leaves it alone.
    schemata: Vec<String>,
    /// Whether the class must be there already.
    preconfigured: bool,
}

impl Groups {
    /// Checks the config against what this machine can do.
    pub(super) fn compile(rdt: &LinuxIntelRdt, id: &ContainerId) -> Result<Self, Error> {
        let mount = Path::new(MOUNT);
        let is_mounted = rustix::fs::statfs(mount).is_ok_and(|statfs| statfs.f_type as u64 == RESCTRL_MAGIC);
        if !is_mounted {
            let reason = format!(
                "{MOUNT} is not mounted; it needs a processor with RDT or the like: mount -t resctrl resctrl {MOUNT}"
            );
            return Err(Error::config("linux.intelRdt", reason));
        }
        Self::compile_below(mount, rdt, id)
    }

    fn compile_below(mount: &Path, rdt: &LinuxIntelRdt, id: &ContainerId) -> Result<Self, Error> {
        let named = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
        let class = match named {
            None => mount.join(id.as_str()),
            Some("/") => mount.to_owned(),
            Some(name) if is_name(name) => mount.join(name),
            Some(name) => {
                let reason =
                    format!("{name:?} is no name of a directory; give a single name, or / for the root");
                return Err(Error::config("linux.intelRdt.closID", reason));
            }
        };
        let schemata = schemata(mount, rdt)?;
        let monitored = rdt.enable_monitoring().unwrap_or(false);
        if monitored && !mount.join("info/L3_MON").exists() {
            return Err(lacks("linux.intelRdt.enableMonitoring", "monitoring"));
        }
        let owned = named.is_none() && !class.exists();
        let preconfigured = named.is_some() && schemata.is_empty();
        if preconfigured && !class.exists() {
            let reason = format!(
                "{} does not exist, and there is no schema to make it with; make it or give schemata",
                class.display()
            );
            return Err(Error::config("linux.intelRdt.closID", reason));
        }
        let monitoring = monitored.then(|| class.join("mon_groups").join(id.as_str()));
        Ok(Self { record: Record { class, owned, monitoring }, schemata, preconfigured })
    }

    /// Makes what is not there; a class that is must have the schemata that the config wants.
    pub(super) fn make(&self) -> Result<(), Error> {
        let Record { class, monitoring, .. } = &self.record;
        if !self.preconfigured {
            match fs::create_dir(class) {
                Ok(()) => write_schemata(class, &self.schemata)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists && self.record.owned => {
                    return Err(failed("make", class, error));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => self.compare_schemata()?,
                Err(error) => return Err(failed("make", class, error)),
            }
        }
        match monitoring {
            Some(group) => fs::create_dir(group).map_err(|error| failed("make", group, error)),
            None => Ok(()),
        }
    }

    fn compare_schemata(&self) -> Result<(), Error> {
        let file = self.record.class.join("schemata");
        let text = fs::read_to_string(&file).map_err(|error| failed("read", &file, error))?;
        let present = domains(text.lines());
        for (domain, wanted) in domains(self.schemata.iter().map(String::as_str)) {
            if present.get(&domain) != Some(&wanted) {
                let (resource, cache) = domain;
                let reason = format!(
                    "{} exists with another schema for {resource}:{cache} than the config's {wanted}; make them agree",
                    self.record.class.display()
                );
                return Err(Error::config("linux.intelRdt.closID", reason));
            }
        }
        Ok(())
    }
}

impl Record {
    /// Files that take the pid of every process of the container.
    pub(super) fn task_files(&self) -> Vec<PathBuf> {
        [Some(&self.class), self.monitoring.as_ref()]
            .into_iter()
            .flatten()
            .map(|group| group.join("tasks"))
            .collect()
    }

    /// Moves a process into the groups.
    pub(super) fn add(&self, pid: Pid) -> Result<(), Error> {
        let text = pid.as_raw_nonzero().to_string();
        self.task_files()
            .iter()
            .try_for_each(|file| fs::write(file, &text).map_err(|error| failed("write", file, error)))
    }

    /// Gives the container's own class the schemata that are asked for; a class that others may be in is
    /// theirs to change. Returns what takes it back.
    pub(super) fn update(&self, rdt: &LinuxIntelRdt) -> Result<Former, Error> {
        if !self.owned {
            let reason = format!(
                "{} is not the container's own class of service, and others may be in it; write its schemata file \
                 yourself",
                self.class.display()
            );
            return Err(Error::config("linux.intelRdt.closID", reason));
        }
        let lines = schemata(self.class.parent().unwrap_or(Path::new(MOUNT)), rdt)?;
        let former = Former::of(&self.class, &lines)?;
        // Of several lines the kernel may have taken some before it refused one.
        write_schemata(&self.class, &lines).inspect_err(|_| former.put_back())?;
        Ok(former)
    }

    /// Removes what goes with the container; what is not there is no error.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let owned = self.owned.then_some(&self.class);
        for group in self.monitoring.iter().chain(owned) {
            match fs::remove_dir(group) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("remove", group, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The schemata of a class before an update: the lines of the resources that it changes.
#[derive(Debug)]
pub(super) struct Former {
    class: PathBuf,
    lines: Vec<String>,
}

impl Former {
    fn of(class: &Path, new: &[String]) -> Result<Self, Error> {
        let resource = |line: &str| line.split_once(':').map(|(resource, _)| resource.trim().to_owned());
        let changed: Vec<_> = new.iter().filter_map(|line| resource(line)).collect();
        let file = class.join("schemata");
        let text = fs::read_to_string(&file).map_err(|error| failed("read", &file, error))?;
        let is_changed = |line: &&str| resource(line).is_some_and(|resource| changed.contains(&resource));
        let lines = text.lines().filter(is_changed).map(|line| line.trim().to_owned()).collect();
        Ok(Self { class: class.to_owned(), lines })
    }

    pub(super) fn put_back(&self) {
        // The error that led here is the one to report.
        let _ = write_schemata(&self.class, &self.lines);
    }
}

/// Writes lines to a class; resources and domains that they do not name stay as they are.
fn write_schemata(class: &Path, lines: &[String]) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let file = class.join("schemata");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&file, text).map_err(|error| {
        let told = fs::read_to_string(Path::new(MOUNT).join("info/last_cmd_status")).unwrap_or_default();
        let error = if told.trim().is_empty() {
            error
        } else {
            io::Error::new(error.kind(), format!("{error} ({})", told.trim()))
        };
        failed("write", &file, error)
    })
}

/// `schemata` as it is, or the two older fields; of these, memBwSchema is the only one for bandwidth.
fn schemata(mount: &Path, rdt: &LinuxIntelRdt) -> Result<Vec<String>, Error> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let (cache, bandwidth) = (given(rdt.l3_cache_schema()), given(rdt.mem_bw_schema()));
    if let Some(lines) = rdt.schemata().as_ref().filter(|lines| !lines.is_empty()) {
        for (index, line) in lines.iter().enumerate() {
            check(mount, &format!("linux.intelRdt.schemata[{index}]"), line)?;
        }
        return Ok(lines.clone());
    }
    let mut lines = Vec::new();
    for line in cache.as_deref().unwrap_or_default().lines().map(str::trim) {
        let replaced = bandwidth.is_some() && line.starts_with("MB:");
        if !line.is_empty() && !replaced {
            check(mount, "linux.intelRdt.l3CacheSchema", line)?;
            lines.push(line.to_owned());
        }
    }
    for line in bandwidth.as_deref().unwrap_or_default().lines().map(str::trim) {
        if !line.is_empty() {
            check(mount, "linux.intelRdt.memBwSchema", line)?;
            lines.push(line.to_owned());
        }
    }
    Ok(lines)
}

/// A line is `RESOURCE:DOMAIN=VALUE;…`, of a resource that `info` lists.
fn check(mount: &Path, at: &str, line: &str) -> Result<(), Error> {
    let resource = line.split_once(':').map(|(resource, _)| resource.trim());
    let wrong =
        |resource: &&str| resource.is_empty() || resource.contains(['/', '\0', '\n']) || *resource == "..";
    let Some(resource) = resource.filter(|resource| !wrong(resource)) else {
        return Err(Error::config(at, format!("{line:?} is not of the form L3:0=f;1=f or MB:0=50")));
    };
    if line.contains('\n') || domains([line]).is_empty() {
        return Err(Error::config(at, format!("{line:?} is not one line such as L3:0=f;1=f or MB:0=50")));
    }
    if mount.join("info").join(resource).exists() {
        return Ok(());
    }
    Err(lacks(at, resource))
}

/// Values by resource and domain; the kernel pads names with blanks and writes masks without zeros.
fn domains<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for (resource, list) in lines.into_iter().filter_map(|line| line.split_once(':')) {
        for (domain, value) in list.split(';').filter_map(|entry| entry.split_once('=')) {
            let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
            found.insert((resource.trim().to_owned(), domain.trim().to_owned()), value);
        }
    }
    found
}

fn is_name(name: &str) -> bool {
    !matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data") && !name.contains(['/', '\0', '\n'])
}

fn lacks(at: &str, what: &str) -> Error {
    Error::config(at, format!("this processor has no {what} under {MOUNT}/info; remove it from the config"))
}

fn failed(action: &'static str, path: &Path, error: io::Error) -> Error {
    // The kernel has as many classes as the processor's hardware.
    let source = match Errno::from_io_error(&error) {
        Some(Errno::NOSPC) => io::Error::new(error.kind(), format!("{error}: no class of service is left")),
        _ => error,
    };
    Error::Resctrl { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A tree such as resctrl's, of a processor with cache and bandwidth allocation.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(features: &[&str]) -> Self {
            let tree = tempfile::tempdir().expect("tempdir");
            for feature in features {
                fs::create_dir_all(tree.path().join("info").join(feature)).expect("feature");
            }
            Self(tree)
        }

        fn class(&self, name: &str, schemata: &str) {
            fs::create_dir_all(self.0.path().join(name).join("mon_groups")).expect("class");
            fs::write(self.0.path().join(name).join("schemata"), schemata).expect("schemata");
        }

        fn groups(&self, rdt: &Value) -> Result<Groups, String> {
            let rdt = LinuxIntelRdt::deserialize(rdt).expect("intelRdt");
            let id: ContainerId = "web".parse().expect("id");
            Groups::compile_below(self.0.path(), &rdt, &id).map_err(|error| error.to_string())
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.0.path().join(path)).unwrap_or_default()
        }
    }

    #[test]
    fn without_a_class_the_container_has_one_of_its_own_that_goes_with_it() {
        let tree = Tree::new(&["L3", "MB"]);
        let rdt = json!({"l3CacheSchema": "L3:0=f;1=f\nMB:0=10", "memBwSchema": "MB:0=50"});
        let groups = tree.groups(&rdt).expect("compile");
        groups.make().expect("make");
        assert_eq!(tree.read("web/schemata"), "L3:0=f;1=f\nMB:0=50\n");
        assert_eq!(groups.record.task_files(), [tree.0.path().join("web/tasks")]);
        // Of the real file system the files go with their directory.
        fs::remove_file(tree.0.path().join("web/schemata")).expect("remove");
        groups.record.remove().expect("remove");
        groups.record.remove().expect("twice");
        assert!(!tree.0.path().join("web").exists());
    }

    #[test]
    fn a_class_of_others_is_joined_when_it_agrees_and_stays() {
        let tree = Tree::new(&["L3", "L3_MON"]);
        tree.class("gold", "    L3:0=00f;1=ff\n");
        let rdt = json!({"closID": "gold", "schemata": ["L3:1=ff"], "enableMonitoring": true});
        let groups = tree.groups(&rdt).expect("compile");
        groups.make().expect("make");
        assert!(tree.0.path().join("gold/mon_groups/web").is_dir());
        let files = ["gold/tasks", "gold/mon_groups/web/tasks"].map(|file| tree.0.path().join(file));
        assert_eq!(groups.record.task_files(), files);
        groups.record.remove().expect("remove");
        assert!(tree.0.path().join("gold").is_dir());
        assert!(!tree.0.path().join("gold/mon_groups/web").exists());
        let other = tree.groups(&json!({"closID": "gold", "schemata": ["L3:0=3"]})).expect("compile");
        let error = other.make().expect_err("differs").to_string();
        assert!(error.contains("linux.intelRdt.closID") && error.contains("L3:0"), "{error}");
    }

    #[test]
    fn an_update_changes_the_containers_own_class_and_can_be_taken_back() {
        let tree = Tree::new(&["L3", "MB"]);
        let update = |record: &Record, rdt: Value| {
            let rdt: LinuxIntelRdt = serde_json::from_value(rdt).expect("intelRdt");
            record.update(&rdt).map_err(|error| error.to_string())
        };
        let own = tree.groups(&json!({"l3CacheSchema": "L3:0=f"})).expect("compile").record;
        tree.class("web", "    MB:0= 50;1=100\n    L3:0=f;1=ff\n");
        let read = || fs::read_to_string(tree.0.path().join("web/schemata")).expect("schemata");
        let former = update(&own, json!({"l3CacheSchema": "L3:0=3\nMB:0=70", "memBwSchema": "MB:1=20"}));
        assert_eq!(read(), "L3:0=3\nMB:1=20\n");
        former.expect("updated").put_back();
        assert_eq!(read(), "MB:0= 50;1=100\nL3:0=f;1=ff\n");
        // What is not changed is not put back either.
        update(&own, json!({"memBwSchema": "MB:0=10"})).expect("updated").put_back();
        assert_eq!(read(), "MB:0= 50;1=100\n");
        for (rdt, words) in [
            (json!({"l3CacheSchema": "L2:0=3"}), ["linux.intelRdt.l3CacheSchema: ", "no L2"]),
            (json!({"memBwSchema": "fifty"}), ["linux.intelRdt.memBwSchema: ", "fifty"]),
        ] {
            let error = update(&own, rdt).expect_err("refused");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        tree.class("gold", "L3:0=f\n");
        let shared = tree.groups(&json!({"closID": "gold"})).expect("compile").record;
        let error = update(&shared, json!({"l3CacheSchema": "L3:0=3"})).expect_err("refused");
        assert!(error.contains("closID") && error.contains("others may be in it"), "{error}");
        assert_eq!(fs::read_to_string(tree.0.path().join("gold/schemata")).expect("schemata"), "L3:0=f\n");
    }

    #[test]
    fn what_the_processor_lacks_and_what_is_no_name_is_refused_by_path() {
        let tree = Tree::new(&["L3"]);
        for (rdt, path) in [
            (json!({"memBwSchema": "MB:0=50"}), "memBwSchema"),
            (json!({"schemata": ["L3:0=f", "L2:0=f"]}), "schemata[1]"),
            (json!({"schemata": ["../x:0=f"]}), "schemata[0]"),
            (json!({"schemata": ["L3"]}), "schemata[0]"),
            (json!({"enableMonitoring": true}), "enableMonitoring"),
            (json!({"closID": "../x"}), "closID"),
            (json!({"closID": "absent"}), "closID"),
        ] {
            let error = tree.groups(&rdt).expect_err("refused");
            assert!(error.contains(&format!("linux.intelRdt.{path}: ")), "{error}");
        }
    }
}
