//! `linux.resources.network`: cgroup v1 alone has it, v2 matches sockets by the cgroup's path.
use super::Compiler;
use crate::cgroup::Error;
use oci_spec::runtime::LinuxNetwork;

impl Compiler<'_> {
    pub(super) fn network(&mut self, network: &LinuxNetwork) -> Result<(), Error> {
        if let Some(class) = network.class_id() {
            self.set("net_cls", "network.classID", [Some("net_cls.classid"), None], class.to_string())?;
        }
        for (index, priority) in network.priorities().iter().flatten().enumerate() {
            let field = format!("network.priorities[{index}]");
            let name = priority.name();
            // net_prio.ifpriomap takes them on one line.
            if name.is_empty() || name.contains(char::is_whitespace) || name.contains('\0') {
                let reason = format!("{name:?} is not the name of a network interface");
                return Err(Error::config(&format!("linux.resources.{field}.name"), reason));
            }
            let value = format!("{name} {}", priority.priority());
            self.set("net_prio", &field, [Some("net_prio.ifpriomap"), None], value)?;
        }
        Ok(())
    }
}
