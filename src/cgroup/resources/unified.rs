//! `linux.resources.unified`: values for files of cgroup v2 by their names.
use super::{Compiler, Write};
use crate::cgroup::Error;
use std::collections::HashMap;

/// The v2 controllers, cgroup-v2.rst.
const CONTROLLERS: &[&str] =
    &["cgroup", "cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "pids", "rdma"];

/// Files that move, stop or end processes, or change what the group is: wharf's own business.
const NO_LIMITS: &[&str] = &[
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.procs",
    "cgroup.subtree_control",
    "cgroup.threads",
    "cgroup.type",
];

impl Compiler<'_> {
    pub(super) fn unified(&mut self, unified: Option<&HashMap<String, String>>) -> Result<(), Error> {
        let mut entries: Vec<_> = unified.into_iter().flatten().collect();
        entries.sort();
        for (file, value) in entries {
            let at = format!("linux.resources.unified.{file}");
            let controller = self.controller_of(file, &at)?;
            if value.trim().is_empty() || value.contains('\0') {
                return Err(Error::config(&at, format!("{value:?} is no value for a cgroup file")));
            }
            // Files such as io.max take one line a write.
            for line in value.lines().filter(|line| !line.trim().is_empty()) {
                self.resources.v2.push(Write::new(controller, file, line.to_owned(), at.clone()));
            }
        }
        Ok(())
    }

    fn controller_of(&self, file: &str, at: &str) -> Result<&'static str, Error> {
        let plain = file.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let prefix = file.split_once('.').filter(|(_, rest)| plain && !rest.is_empty());
        let Some((prefix, _)) = prefix else {
            return Err(Error::config(at, "is not the name of a cgroup file such as memory.high"));
        };
        if NO_LIMITS.contains(&file) {
            return Err(Error::config(at, "is no limit; the runtime alone writes it"));
        }
        let Some(controller) = CONTROLLERS.iter().find(|name| **name == prefix).copied() else {
            return Err(Error::config(at, format!("cgroup v2 has no controller {prefix}")));
        };
        let Some(v2) = &self.hierarchies.v2 else {
            return Err(Error::config(at, "needs cgroup v2, which this host has not mounted"));
        };
        if controller != "cgroup" && !v2.controllers.iter().any(|name| name == controller) {
            return Err(Error::NoController {
                path: at.to_owned(),
                controller,
                place: self.hierarchies.place(),
                hint: "unified settings work where the controller is on cgroup v2",
            });
        }
        Ok(controller)
    }
}
