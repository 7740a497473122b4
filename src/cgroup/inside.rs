//! What a container sees at /sys/fs/cgroup on a host whose controllers live on v1.
use super::{Hierarchies, Record};
use std::path::Path;

const UNIFIED: &str = "unified";

/// One mount below the container's /sys/fs/cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsideMount {
    /// Directory name, such as `cpu,cpuacct` or `unified`.
    pub name: String,
    /// `cgroup` or `cgroup2`.
    pub fstype: &'static str,
    /// Options that name the hierarchy, such as `cpu` or `name=systemd`.
    pub data: Vec<(String, Option<String>)>,
}

impl Hierarchies {
    /// Whether /sys/fs/cgroup shows v1 hierarchies; what is mounted elsewhere beside cgroup2 is the host's.
    pub fn has_v1(&self) -> bool {
        !self.v1.is_empty() && !self.is_unified()
    }

    /// The mounts that show a container each hierarchy; with a cgroup namespace, from its own group down.
    pub fn container_mounts(&self) -> Vec<InsideMount> {
        let v1 = self.v1.iter().map(|hierarchy| InsideMount {
            name: name_inside(&hierarchy.controllers),
            fstype: "cgroup",
            data: hierarchy.controllers.iter().map(|controller| option(controller)).collect(),
        });
        let v2 = self.v2.iter().map(|_| InsideMount {
            name: UNIFIED.to_owned(),
            fstype: "cgroup2",
            data: Vec::new(),
        });
        v1.chain(v2).collect()
    }
}

impl Record {
    /// The group's directory in cgroup2.
    pub fn unified(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// The group's directory in the hierarchy that a container sees by this name, see
    /// [`Hierarchies::container_mounts`].
    pub fn directory_of(&self, name: &str) -> Option<&Path> {
        let v1 = self.v1.iter().find(|(controllers, _)| name_inside(controllers) == name);
        let v1 = v1.map(|(_, directory)| directory.as_path());
        v1.or_else(|| self.unified().filter(|_| name == UNIFIED))
    }
}

fn name_inside(controllers: &[String]) -> String {
    controllers.join(",").trim_start_matches("name=").to_owned()
}

/// A named hierarchy has no controller: without `none` the kernel would look for all of them.
fn option(controller: &str) -> (String, Option<String>) {
    match controller.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (controller.to_owned(), None),
    }
}
