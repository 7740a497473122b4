//! `wharf-oci features`
use crate::sandbox::MOUNT_OPTIONS;
use clap::Args;
use oci_spec::runtime::{
    ApparmorBuilder, Arch, Cgroup, CgroupBuilder, Features, FeaturesBuilder, IDMapBuilder, IntelRdtBuilder,
    LinuxFeature, LinuxFeatureBuilder, LinuxNamespaceType, LinuxSeccompAction, MemoryPolicyBuilder,
    MountExtensionsBuilder, NetDevicesBuilder, Seccomp, SeccompBuilder, SelinuxBuilder,
};
use std::collections::HashMap;

/// Show what this runtime can do, as JSON (runtime-spec features.md)
#[derive(Debug, Args)]
pub(super) struct FeaturesCommand {}

impl FeaturesCommand {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        println!("{}", serde_json::to_string_pretty(&features()?)?);
        Ok(0)
    }
}

/// What is implemented, and nothing else: engines decide by it.
fn features() -> anyhow::Result<Features> {
    let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let linux = LinuxFeatureBuilder::default()
        .namespaces(NAMESPACES.to_vec())
        .capabilities(capabilities())
        .cgroup(cgroup()?)
        .seccomp(seccomp()?)
        .apparmor(ApparmorBuilder::default().enabled(false).build()?)
        .selinux(SelinuxBuilder::default().enabled(false).build()?);
    Ok(FeaturesBuilder::default()
        .oci_version_min("1.0.0")
        .oci_version_max("1.3.0")
        .hooks(hooks.map(str::to_owned).to_vec())
        .mount_options(MOUNT_OPTIONS.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .linux(unsupported(linux)?)
        .annotations(annotations())
        .build()?)
}

const NAMESPACES: [LinuxNamespaceType; 8] = [
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Time,
    LinuxNamespaceType::User,
    LinuxNamespaceType::Uts,
];

fn unsupported(linux: LinuxFeatureBuilder) -> anyhow::Result<LinuxFeature> {
    let idmap = IDMapBuilder::default().enabled(true).build()?;
    let none = MemoryPolicyBuilder::default().modes(Vec::<String>::new()).flags(Vec::<String>::new());
    Ok(linux
        .intel_rdt(IntelRdtBuilder::default().enabled(false).build()?)
        .memory_policy(none.build()?)
        .mount_extensions(MountExtensionsBuilder::default().idmap(idmap).build()?)
        .net_devices(NetDevicesBuilder::default().enabled(false).build()?)
        .build()?)
}

fn capabilities() -> Vec<String> {
    let mut names: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    names.sort();
    names
}

fn cgroup() -> anyhow::Result<Cgroup> {
    let cgroup = CgroupBuilder::default().v1(true).v2(true).systemd(false).systemd_user(false).rdma(false);
    Ok(cgroup.build()?)
}

/// SCMP_ACT_NOTIFY is missing: its listener is not handed over yet.
fn seccomp() -> anyhow::Result<Seccomp> {
    let operators = ["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"].map(|name| format!("SCMP_CMP_{name}"));
    let flags = ["LOG", "SPEC_ALLOW", "TSYNC"].map(|name| format!("SECCOMP_FILTER_FLAG_{name}"));
    let archs = if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchX32, Arch::ScmpArchX86, Arch::ScmpArchX86_64]
    };
    let actions = vec![
        LinuxSeccompAction::ScmpActAllow,
        LinuxSeccompAction::ScmpActErrno,
        LinuxSeccompAction::ScmpActKill,
        LinuxSeccompAction::ScmpActKillProcess,
        LinuxSeccompAction::ScmpActKillThread,
        LinuxSeccompAction::ScmpActLog,
        LinuxSeccompAction::ScmpActTrace,
        LinuxSeccompAction::ScmpActTrap,
    ];
    let seccomp = SeccompBuilder::default().enabled(true).actions(actions).operators(operators.to_vec());
    Ok(seccomp.archs(archs).known_flags(flags.to_vec()).supported_flags(flags.to_vec()).build()?)
}

fn annotations() -> HashMap<String, String> {
    let version = ("io.wharf.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    HashMap::from([version])
}
