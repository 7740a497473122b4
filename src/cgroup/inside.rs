//! What a container sees at /sys/fs/cgroup on a host whose controllers live on v1.
use super::Hierarchies;

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
    /// Whether any controller lives on v1.
    pub fn has_v1(&self) -> bool {
        !self.v1.is_empty()
    }

    /// The mounts that show a container each hierarchy; with a cgroup namespace, from its own group down.
    pub fn container_mounts(&self) -> Vec<InsideMount> {
        let v1 = self.v1.iter().map(|hierarchy| InsideMount {
            name: hierarchy.controllers.join(",").trim_start_matches("name=").to_owned(),
            fstype: "cgroup",
            data: hierarchy.controllers.iter().map(|controller| option(controller)).collect(),
        });
        let v2 = self.v2.iter().map(|_| InsideMount {
            name: "unified".to_owned(),
            fstype: "cgroup2",
            data: Vec::new(),
        });
        v1.chain(v2).collect()
    }
}

/// A named hierarchy has no controller: without `none` the kernel would look for all of them.
fn option(controller: &str) -> (String, Option<String>) {
    match controller.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (controller.to_owned(), None),
    }
}
