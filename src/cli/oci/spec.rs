//! `wharf-oci spec`
use crate::sandbox::default_spec::runtime_default;
use anyhow::{Context as _, bail};
use clap::Args;
use oci_spec::runtime::{
    Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Mount, MountBuilder,
    Spec,
};
use serde::Serialize as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Write a config.json to start from
#[derive(Debug, Args)]
pub(super) struct SpecCommand {
    /// Directory to write it to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// A config for the caller's own rights: a user namespace whose root is the caller, and the host's network
    #[arg(long)]
    rootless: bool,
}

impl SpecCommand {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let mut spec = runtime_default();
        if self.rootless {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            make_rootless(&mut spec, uid, gid)?;
        }
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        spec.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
        text.push(b'\n');
        let path = self.bundle.join("config.json");
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("file {} exists; remove it first", path.display())
            }
            other => other.with_context(|| format!("create {}", path.display()))?,
        };
        file.write_all(&text).with_context(|| format!("write {}", path.display()))?;
        Ok(0)
    }
}

/// What a user without privileges may have: one id, which is root inside; no network namespace, which
/// they could not connect to anything; no limits, since cgroups are the host's.
fn make_rootless(spec: &mut Spec, uid: u32, gid: u32) -> anyhow::Result<()> {
    let mut linux = spec.linux().clone().unwrap_or_default();
    linux.set_resources(None);
    linux.set_namespaces(Some(rootless_namespaces(&linux)));
    linux.set_uid_mappings(Some(vec![only(uid)?])).set_gid_mappings(Some(vec![only(gid)?]));
    let mounts = spec.mounts().iter().flatten().cloned().map(rootless_mount);
    let mounts = mounts.collect::<anyhow::Result<Vec<_>>>()?;
    spec.set_linux(Some(linux)).set_mounts(Some(mounts));
    Ok(())
}

fn rootless_namespaces(linux: &Linux) -> Vec<LinuxNamespace> {
    let replaced = [LinuxNamespaceType::Network, LinuxNamespaceType::User];
    let kept = linux.namespaces().iter().flatten().filter(|namespace| !replaced.contains(&namespace.typ()));
    let mut user = LinuxNamespace::default();
    user.set_typ(LinuxNamespaceType::User);
    kept.cloned().chain([user]).collect()
}

fn only(id: u32) -> anyhow::Result<LinuxIdMapping> {
    Ok(LinuxIdMappingBuilder::default().container_id(0u32).host_id(id).size(1u32).build()?)
}

fn rootless_mount(mut mount: Mount) -> anyhow::Result<Mount> {
    if mount.destination() == Path::new("/sys") {
        // A new sysfs wants a network namespace of the same user namespace.
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        let sys = MountBuilder::default().destination("/sys").typ("none").source("/sys").options(options);
        return Ok(sys.build()?);
    }
    let mut options = mount.options().clone().unwrap_or_default();
    // Ids that the one mapping does not hold.
    options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
    if mount.options().is_some() {
        mount.set_options(Some(options));
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rootless_config_needs_no_rights_but_the_callers() {
        let mut spec = runtime_default();
        make_rootless(&mut spec, 1000, 50).expect("made");
        let spec = serde_json::to_value(&spec).expect("JSON");
        let mapping = |id: u32| serde_json::json!([{"containerID": 0, "hostID": id, "size": 1}]);
        assert_eq!(spec["linux"]["uidMappings"], mapping(1000));
        assert_eq!(spec["linux"]["gidMappings"], mapping(50));
        assert!(spec["linux"].get("resources").is_none());
        let namespaces: Vec<_> =
            spec["linux"]["namespaces"].as_array().expect("list").iter().map(|one| &one["type"]).collect();
        assert!(
            namespaces.iter().any(|kind| *kind == "user") && namespaces.iter().all(|kind| *kind != "network")
        );
        let mounts = spec["mounts"].as_array().expect("list");
        let sys = mounts.iter().find(|mount| mount["destination"] == "/sys").expect("/sys");
        assert_eq!(
            (&sys["type"], &sys["source"], &sys["options"][0]),
            (&"none".into(), &"/sys".into(), &"rbind".into())
        );
        assert!(!spec["mounts"].to_string().contains("gid="));
    }
}
