//! `linux.resources`, compiled into values ready to be written; runtime-spec config-linux.md#control-groups.
mod block_io;
mod cpu;
mod device_list;
pub(super) mod devices;
mod memory;

use super::hierarchies::Home;
use super::{Error, Hierarchies};
use oci_spec::runtime::LinuxResources;
use std::collections::HashMap;

/// One value for one file of the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
    /// JSON path, for errors.
    pub(super) at: String,
    /// Not an error when the kernel does not have the file: the value is what it does anyway.
    pub(super) optional: bool,
}

/// Limits ready to be written to a cgroup of this host.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resources {
    pub(super) v1: Vec<Write>,
    pub(super) v2: Vec<Write>,
    pub(super) devices: devices::Rules,
    /// The config has device rules of its own; an update without leaves the filter as it is.
    pub(super) has_device_rules: bool,
}

impl Resources {
    /// Compiles `linux.resources`: everything that cannot be honoured on this host is found here,
    /// before anything exists.
    ///
    /// # Errors
    /// Names the JSON path, such as `linux.resources.memory.limit`, and what the host lacks.
    pub fn compile(spec: Option<&LinuxResources>, hierarchies: &Hierarchies) -> Result<Self, Error> {
        let mut compiler = Compiler { hierarchies, resources: Self::default() };
        // Without any rule the default ones still apply: a container never starts with the host's devices open.
        let rules = spec.and_then(|spec| spec.devices().as_deref()).unwrap_or_default();
        compiler.resources.devices = devices::Rules::compile(rules)?;
        compiler.resources.has_device_rules = !rules.is_empty();
        if hierarchies.home("devices") == Home::V1 {
            // What v1 cannot express is to be found before anything exists.
            compiler.resources.devices.v1_list()?;
        }
        let Some(spec) = spec else { return Ok(compiler.resources) };
        if let Some(memory) = spec.memory() {
            compiler.memory(memory)?;
        }
        if let Some(cpu) = spec.cpu() {
            compiler.cpu(cpu)?;
        }
        if let Some(pids) = spec.pids() {
            // runtime-spec: -1 is no limit; Docker says 0 for the same.
            let value = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
            compiler.set("pids", "pids.limit", [Some("pids.max"), Some("pids.max")], value)?;
        }
        if let Some(block_io) = spec.block_io() {
            compiler.block_io(block_io)?;
        }
        compiler.hugepages(spec)?;
        compiler.network(spec)?;
        compiler.rdma(spec)?;
        compiler.unified(spec.unified().as_ref())?;
        Ok(compiler.resources)
    }

    /// Controllers that v2 must enable for these writes.
    pub(super) fn v2_controllers(&self) -> impl Iterator<Item = &'static str> {
        self.v2.iter().map(|write| write.controller)
    }
}

struct Compiler<'a> {
    hierarchies: &'a Hierarchies,
    resources: Resources,
}

impl Compiler<'_> {
    /// Adds a write to wherever the controller lives; `files` are its names on v1 and v2, `None` where
    /// that version cannot express the setting.
    fn set(
        &mut self,
        controller: &'static str,
        field: &str,
        files: [Option<&str>; 2],
        value: String,
    ) -> Result<(), Error> {
        let home = self.home(controller, field)?;
        let (file, version) = match home {
            Home::V1 => (files[0], "v1"),
            _ => (files[1], "v2"),
        };
        let at = format!("linux.resources.{field}");
        let Some(file) = file else {
            return Err(Error::config(
                &at,
                format!("cgroup {version} cannot express it; remove it from the config"),
            ));
        };
        let write = Write { controller, file: file.to_owned(), value, at, optional: false };
        if home == Home::V1 {
            self.resources.v1.push(write);
        } else {
            self.resources.v2.push(write);
        }
        Ok(())
    }

    fn home(&self, controller: &'static str, field: &str) -> Result<Home, Error> {
        match self.hierarchies.home(controller) {
            Home::Absent => Err(Error::NoController {
                path: format!("linux.resources.{field}"),
                controller,
                place: self.hierarchies.place(),
                hint: "enable it in the kernel or on its command line, or remove the limit",
            }),
            home => Ok(home),
        }
    }

    fn hugepages(&mut self, spec: &LinuxResources) -> Result<(), Error> {
        for (index, limit) in spec.hugepage_limits().iter().flatten().enumerate() {
            let field = format!("hugepageLimits[{index}]");
            let size = limit.page_size();
            if !size.chars().all(|c| c.is_ascii_alphanumeric()) || size.is_empty() {
                let at = format!("linux.resources.{field}.pageSize");
                return Err(Error::config(&at, format!("{size:?} is not a page size such as 2MB")));
            }
            let files = [format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max")];
            let unlimited = if self.home("hugetlb", &field)? == Home::V1 { "-1" } else { "max" };
            let value = if limit.limit() < 0 { unlimited.to_owned() } else { limit.limit().to_string() };
            self.set("hugetlb", &field, [Some(&files[0]), Some(&files[1])], value)?;
        }
        Ok(())
    }

    fn network(&mut self, spec: &LinuxResources) -> Result<(), Error> {
        let Some(network) = spec.network() else { return Ok(()) };
        if let Some(class) = network.class_id() {
            self.set("net_cls", "network.classID", [Some("net_cls.classid"), None], class.to_string())?;
        }
        for (index, priority) in network.priorities().iter().flatten().enumerate() {
            let value = format!("{} {}", priority.name(), priority.priority());
            let field = format!("network.priorities[{index}]");
            self.set("net_prio", &field, [Some("net_prio.ifpriomap"), None], value)?;
        }
        Ok(())
    }

    fn rdma(&mut self, spec: &LinuxResources) -> Result<(), Error> {
        for (device, limit) in spec.rdma().iter().flatten() {
            let bound =
                |value: Option<u32>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
            let handles = bound(limit.hca_handles());
            let value = format!("{device} hca_handle={handles} hca_object={}", bound(limit.hca_objects()));
            self.set("rdma", &format!("rdma.{device}"), [Some("rdma.max"), Some("rdma.max")], value)?;
        }
        Ok(())
    }

    fn unified(&mut self, unified: Option<&HashMap<String, String>>) -> Result<(), Error> {
        let mut entries: Vec<_> = unified.into_iter().flatten().collect();
        entries.sort();
        for (file, value) in entries {
            let at = format!("linux.resources.unified.{file}");
            let plain = file.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            let Some((controller, _)) = file.split_once('.').filter(|_| plain) else {
                return Err(Error::config(&at, "is not the name of a cgroup file such as memory.high"));
            };
            let Some(v2) = &self.hierarchies.v2 else {
                return Err(Error::config(&at, "needs cgroup v2, which this host has not mounted"));
            };
            let controller = controller_name(controller);
            if controller != "cgroup" && !v2.controllers.iter().any(|name| name == controller) {
                return Err(Error::NoController {
                    path: at,
                    controller,
                    place: self.hierarchies.place(),
                    hint: "unified settings work where the controller is on cgroup v2",
                });
            }
            let write = Write { controller, file: file.clone(), value: value.clone(), at, optional: false };
            self.resources.v2.push(write);
        }
        Ok(())
    }
}

/// The v2 controllers, cgroup-v2.rst.
fn controller_name(prefix: &str) -> &'static str {
    const KNOWN: &[&str] =
        &["cgroup", "cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "pids", "rdma"];
    KNOWN.iter().find(|name| **name == prefix).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(json: &str, hierarchies: &Hierarchies) -> Result<Vec<(String, String)>, String> {
        let spec: LinuxResources = serde_json::from_str(json).unwrap();
        let resources = Resources::compile(Some(&spec), hierarchies).map_err(|error| error.to_string())?;
        let writes = resources.v1.into_iter().chain(resources.v2);
        Ok(writes.map(|write| (write.file, write.value)).collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_same_limits_on_v2_and_v1() {
        let json = r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":1000},
            "cpu":{"quota":50000,"period":100000,"shares":1024},"pids":{"limit":100}}"#;
        let v2 = Hierarchies::unified(&["cpu", "memory", "pids"]);
        let expected = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "67108864"),
            ("memory.low", "1000"),
            ("cpu.weight", "100"),
            ("cpu.max", "50000 100000"),
            ("pids.max", "100"),
        ];
        assert_eq!(compile(json, &v2).unwrap(), pairs(&expected));
        let v1 = Hierarchies::legacy(&["cpu", "memory", "pids"]);
        let expected = [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "134217728"),
            ("memory.soft_limit_in_bytes", "1000"),
            ("cpu.shares", "1024"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("pids.max", "100"),
        ];
        assert_eq!(compile(json, &v1).unwrap(), pairs(&expected));
    }

    #[test]
    fn what_the_host_lacks_is_named_with_its_json_path() {
        let v2 = Hierarchies::unified(&["cpu"]);
        let error = compile(r#"{"memory":{"limit":1}}"#, &v2).unwrap_err();
        assert!(error.starts_with("linux.resources.memory.limit: the memory controller"), "{error}");
        let error = compile(r#"{"network":{"classID":1}}"#, &v2).unwrap_err();
        assert!(error.starts_with("linux.resources.network.classID: the net_cls"), "{error}");
    }

    #[test]
    fn unified_names_cannot_be_paths() {
        let v2 = Hierarchies::unified(&["memory"]);
        assert_eq!(
            compile(r#"{"unified":{"memory.high":"5"}}"#, &v2).unwrap(),
            pairs(&[("memory.high", "5")])
        );
        assert!(compile(r#"{"unified":{"../memory.high":"5"}}"#, &v2).is_err());
        assert!(compile(r#"{"unified":{"io.max":"5"}}"#, &v2).is_err());
    }
}
