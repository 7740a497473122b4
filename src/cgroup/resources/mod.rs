//! `linux.resources`, compiled into values ready to be written; runtime-spec config-linux.md#control-groups.
mod block_io;
mod cpu;
mod device_list;
mod device_tree;
pub(super) mod devices;
mod hugepages;
mod memory;
mod network;
mod rdma;
mod unified;

use super::hierarchies::Home;
use super::{Error, Hierarchies};
use oci_spec::runtime::LinuxResources;
use std::path::Path;

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
    /// Another file and value that mean the same, for kernels without the first.
    pub(super) instead: Option<(String, String)>,
}

impl Write {
    fn new(controller: &'static str, file: &str, value: String, at: String) -> Self {
        Self { controller, file: file.to_owned(), value, at, optional: false, instead: None }
    }

    /// File and value for the kernel that made this directory.
    pub(super) fn for_directory(&self, directory: &Path) -> (&str, &str) {
        match &self.instead {
            Some((file, value)) if !directory.join(&self.file).exists() => (file, value),
            _ => (&self.file, &self.value),
        }
    }
}

/// Limits ready to be written to a cgroup of this host.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resources {
    pub(super) v1: Vec<Write>,
    pub(super) v2: Vec<Write>,
    pub(super) devices: devices::Rules,
    /// The config has device rules of its own; an update without leaves the filter as it is.
    pub(super) has_device_rules: bool,
    warnings: Vec<String>,
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
            compiler.pids(pids.limit())?;
        }
        if let Some(block_io) = spec.block_io() {
            compiler.block_io(block_io)?;
        }
        compiler.hugepages(spec.hugepage_limits().as_deref().unwrap_or_default())?;
        if let Some(network) = spec.network() {
            compiler.network(network)?;
        }
        compiler.rdma(spec.rdma().as_ref())?;
        compiler.unified(spec.unified().as_ref())?;
        Ok(compiler.resources)
    }

    /// What of the config has no effect, and that is no reason to refuse it.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is written, in its order; for reading.
    pub fn to_json(&self) -> serde_json::Value {
        let writes = self.v2.iter().chain(&self.v1).map(|write| {
            serde_json::json!({"controller": write.controller, "file": write.file, "value": write.value, "for": write.at})
        });
        writes.collect()
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
    ) -> Result<&mut Write, Error> {
        let home = self.home(controller, field)?;
        let (file, version, writes) = match home {
            Home::V1 => (files[0], "v1", &mut self.resources.v1),
            _ => (files[1], "v2", &mut self.resources.v2),
        };
        let at = format!("linux.resources.{field}");
        let Some(file) = file else {
            let reason = format!("cgroup {version} cannot express it; remove it from the config");
            return Err(Error::config(&at, reason));
        };
        let index = writes.len();
        writes.push(Write::new(controller, file, value, at));
        Ok(&mut writes[index])
    }

    fn warn(&mut self, field: &str, reason: &str) {
        self.resources.warnings.push(format!("linux.resources.{field}: {reason}; ignored"));
    }

    fn home(&self, controller: &'static str, field: &str) -> Result<Home, Error> {
        let hint = match controller {
            "net_cls" | "net_prio" => {
                "it exists on cgroup v1 only; mount it (mount -t cgroup -o net_cls,net_prio none DIR), or remove the setting"
            }
            _ => "enable it in the kernel or on its command line, or remove the limit",
        };
        match self.hierarchies.home(controller) {
            Home::Absent => Err(Error::NoController {
                path: format!("linux.resources.{field}"),
                controller,
                place: self.hierarchies.place(),
                hint,
            }),
            home => Ok(home),
        }
    }

    /// config-linux.md#pids since 1.3: -1 is no limit, and 0 a limit like any other. It is the same as 1,
    /// no fork at all, except that with 1 the first process can be cloned into the group.
    fn pids(&mut self, limit: i64) -> Result<(), Error> {
        let value = if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() };
        self.set("pids", "pids.limit", [Some("pids.max"), Some("pids.max")], value)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
