//! What `create` would do, without doing it.
use super::foundation::Draft;
use super::{ContainerId, Error};
use crate::sandbox::{Inputs, Plan, Rootfs, Start};
use oci_spec::runtime::{Process, Spec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};
use std::path::Path;

/// Compiles the config of a container as `create` does, and returns everything that is decided then: the
/// cgroup's files and values, and the Plan that the container's process would execute. Nothing is made. `systemd_cgroup`
/// is [`super::CreateOptions::systemd_cgroup`].
///
/// # Errors
/// Those of `create` that concern the config: they name the JSON path.
pub fn preview(id: &ContainerId, bundle: &Path, spec: &Spec, systemd_cgroup: bool) -> Result<Value, Error> {
    let draft = Draft::of(id, bundle, spec, systemd_cgroup, None)?;
    // Where the terminal would go is nobody's business yet; that it has a way out is part of the config.
    let terminal = spec.process().as_ref().and_then(Process::terminal).unwrap_or(false);
    let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let failed = |errno: rustix::io::Errno| Error::Bundle {
        action: "make a socket for",
        path: draft.record.bundle.clone(),
        source: errno.into(),
    };
    let (start, console_socket) = pair().map_err(failed)?;
    let inputs = Inputs {
        bundle: draft.record.bundle.clone(),
        cgroup: Some(draft.record.cgroup.clone()),
        console_socket: terminal.then_some(console_socket),
        start: Start::ByAnyone(start),
        ..Inputs::of(Rootfs::Directory(draft.record.rootfs.clone()))
    };
    let plan = Plan::compile(spec, inputs, &draft.hierarchies)?;
    Ok(json!({"cgroup": draft.cgroup_json(), "sandbox": plan.to_json()}))
}
