//! Where this host keeps each controller: cgroup v2, v1, or some of both.
use super::{Error, Record};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::record;
use oci_spec::runtime::LinuxResources;
use std::path::{Path, PathBuf};

const MOUNT_POINT: &str = "/sys/fs/cgroup";
const MOUNT_TABLE: &str = "/proc/self/mountinfo";
/// Controllers that cgroup2 has no counterpart of, so that hosts of cgroup2 mount them beside it.
const ONLY_V1: [&str; 2] = ["net_cls", "net_prio"];
/// linux/magic.h
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// One mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct V1 {
    pub(super) mount: PathBuf,
    /// Controllers, or `name=systemd` for a named hierarchy.
    pub(super) controllers: Vec<String>,
}

/// The mounted cgroup2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct V2 {
    pub(super) mount: PathBuf,
    /// What its root's cgroup.controllers lists.
    pub(super) controllers: Vec<String>,
}

/// Where this host keeps each controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    pub(super) v1: Vec<V1>,
    pub(super) v2: Option<V2>,
    /// Only what belongs to a caller that is not root of the host: [`Hierarchies::delegated`].
    pub(super) delegated: bool,
}

/// Which hierarchy a controller lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    V1,
    V2,
    Absent,
}

impl Hierarchies {
    /// Looks at /sys/fs/cgroup, and at the mount table where that is not cgroup2 alone.
    ///
    /// # Errors
    /// When no cgroup hierarchy is mounted.
    pub fn detect() -> Result<Self, Error> {
        let mount = Path::new(MOUNT_POINT);
        let unified = rustix::fs::statfs(mount).is_ok_and(|stat| stat.f_type as u64 == CGROUP2_SUPER_MAGIC);
        let mut found = if unified {
            Self { v2: Some(V2 { mount: mount.to_owned(), controllers: Vec::new() }), ..Self::default() }
        } else {
            Self::read_table()?
        };
        if let Some(v2) = &mut found.v2 {
            let path = v2.mount.join("cgroup.controllers");
            let text = record::read(&path).map_err(|errno| Error::file("read", &path)(errno.into()))?;
            let text = String::from_utf8_lossy(&text);
            v2.controllers = text.split_whitespace().map(str::to_owned).collect();
        }
        if found.v1.is_empty() && found.v2.is_none() { Err(Error::NotMounted) } else { Ok(found) }
    }

    /// The same, and on a host of cgroup2 the v1 hierarchies of net_cls and net_prio too when
    /// `linux.resources.network` asks for them, wherever they are mounted. Other containers are spared the
    /// reading of the mount table, which is long on a busy host.
    ///
    /// # Errors
    /// When no cgroup hierarchy is mounted.
    pub fn detect_for(resources: Option<&LinuxResources>) -> Result<Self, Error> {
        let mut found = Self::detect()?;
        let wanted = resources.is_some_and(|resources| resources.network().is_some());
        if wanted && found.is_unified() {
            let beside = |v1: &V1| v1.controllers.iter().any(|name| ONLY_V1.contains(&name.as_str()));
            found.v1 = Self::read_table()?.v1.into_iter().filter(beside).collect();
        }
        Ok(found)
    }

    /// These, and the v1 hierarchies that a group is in already.
    pub(super) fn with_those_of(&self, record: &Record) -> Self {
        let mut all = self.clone();
        for (controllers, directory) in &record.v1 {
            if !all.v1.iter().any(|v1| v1.controllers == *controllers) {
                all.v1.push(V1 { mount: directory.clone(), controllers: controllers.clone() });
            }
        }
        all
    }

    /// Whether cgroup2 alone is at /sys/fs/cgroup.
    pub(super) fn is_unified(&self) -> bool {
        self.v2.as_ref().is_some_and(|v2| v2.mount == Path::new(MOUNT_POINT))
    }

    fn read_table() -> Result<Self, Error> {
        let path = Path::new(MOUNT_TABLE);
        Ok(Self::parse(&std::fs::read_to_string(path).map_err(Error::file("read", path))?))
    }

    /// Reads a mount table, see `proc_pid_mountinfo(5)`. A hierarchy that is mounted twice counts once.
    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for Mount { point: mount, fstype, options, .. } in mountinfo::parse(mountinfo) {
            match fstype {
                "cgroup2" if found.v2.is_none() => {
                    found.v2 = Some(V2 { mount, controllers: Vec::new() });
                }
                "cgroup" => {
                    let ignored = ["rw", "ro", "xattr", "clone_children", "noprefix"];
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|word| !ignored.contains(word) && !word.starts_with("release_agent="))
                        .map(str::to_owned)
                        .collect();
                    if !found.v1.iter().any(|v1| v1.controllers == controllers) {
                        found.v1.push(V1 { mount, controllers });
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// v1 first: a controller that is bound to v1 cannot be used by v2 at the same time.
    pub(super) fn home(&self, controller: &str) -> Home {
        if self.v1.iter().any(|v1| v1.controllers.iter().any(|name| name == controller)) {
            return Home::V1;
        }
        // On v2 the device filter and the freezer are no controllers, they are always there.
        let built_in = matches!(controller, "devices" | "freezer");
        match &self.v2 {
            Some(v2) if built_in || v2.controllers.iter().any(|name| name == controller) => Home::V2,
            _ => Home::Absent,
        }
    }

    /// Where to look for a controller, for an error's text.
    pub(super) fn place(&self) -> String {
        match &self.v2 {
            Some(v2) if self.v1.is_empty() => v2.mount.join("cgroup.controllers").display().to_string(),
            _ => format!("{MOUNT_POINT} (v1 and v2)"),
        }
    }
}

#[cfg(test)]
impl Hierarchies {
    /// A pure v2 host with these controllers.
    pub(super) fn unified(controllers: &[&str]) -> Self {
        let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        Self { v2: Some(V2 { mount: MOUNT_POINT.into(), controllers }), ..Self::default() }
    }

    /// A host with these controllers on v1, one hierarchy each.
    pub(super) fn legacy(controllers: &[&str]) -> Self {
        let hierarchy = |name: &&str| V1 {
            mount: Path::new(MOUNT_POINT).join(name),
            controllers: vec![(*name).to_owned()],
        };
        Self { v1: controllers.iter().map(hierarchy).collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:29 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn a_hybrid_mount_table_gives_each_hierarchy_once() {
        let found = Hierarchies::parse(HYBRID);
        assert_eq!(found.v2.as_ref().unwrap().mount, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.v1.len(), 2);
        assert_eq!(found.v1[1].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found.home("cpuacct"), Home::V1);
        assert_eq!(found.home("memory"), Home::Absent);
        assert_eq!(found.home("devices"), Home::V2);
    }

    #[test]
    fn what_is_mounted_beside_cgroup2_has_its_controllers_and_is_not_shown_to_containers() {
        let group = vec!["net_cls".to_owned(), "net_prio".to_owned()];
        let record = Record { v1: vec![(group, "/mnt/net/wharf/one".into())], ..Record::default() };
        let found = Hierarchies::unified(&["cpu"]);
        assert_eq!(found.home("net_cls"), Home::Absent);
        let found = found.with_those_of(&record);
        assert_eq!((found.home("net_cls"), found.home("cpu")), (Home::V1, Home::V2));
        assert!(!found.has_v1());
        assert!(Hierarchies::parse(HYBRID).has_v1());
        assert_eq!(found.with_those_of(&record), found);
    }

    #[test]
    fn this_host_has_some_hierarchy() {
        let found = Hierarchies::detect().unwrap();
        assert!(found.v2.is_some() || !found.v1.is_empty());
    }
}
