//! `linux.resources.rdma`.
use super::Compiler;
use crate::cgroup::Error;
use oci_spec::runtime::LinuxRdma;
use std::collections::HashMap;

impl Compiler<'_> {
    pub(super) fn rdma(&mut self, limits: Option<&HashMap<String, LinuxRdma>>) -> Result<(), Error> {
        let mut limits: Vec<_> = limits.into_iter().flatten().collect();
        limits.sort_by_key(|(device, _)| *device);
        for (device, limit) in limits {
            let field = format!("rdma.{device}");
            let at = format!("linux.resources.{field}");
            // rdma.max takes them on one line.
            if device.is_empty() || device.contains(char::is_whitespace) || device.contains('\0') {
                return Err(Error::config(&at, "is not the name of an RDMA device such as mlx5_1"));
            }
            let handles = limit.hca_handles().map(|count| format!(" hca_handle={count}"));
            let objects = limit.hca_objects().map(|count| format!(" hca_object={count}"));
            if handles.is_none() && objects.is_none() {
                return Err(Error::config(&at, "has neither hcaHandles nor hcaObjects; give one of them"));
            }
            let value = [Some(device.clone()), handles, objects].into_iter().flatten().collect();
            self.set("rdma", &field, [Some("rdma.max"), Some("rdma.max")], value)?;
        }
        Ok(())
    }
}
