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
        false
    }

    /// The mounts that show a container each hierarchy; with a cgroup namespace, from its own group down.
    pub fn container_mounts(&self) -> Vec<InsideMount> {
        Vec::new()
    }
}
