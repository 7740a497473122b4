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
        show!("{}\n", serde_json::to_string_pretty(&features()?)?)?;
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
        .apparmor(ApparmorBuilder::default().enabled(true).build()?)
        .selinux(SelinuxBuilder::default().enabled(true).build()?);
    Ok(FeaturesBuilder::default()
        .oci_version_min("1.0.0")
        .oci_version_max("1.3.0")
        .hooks(hooks.map(str::to_owned).to_vec())
        .mount_options(MOUNT_OPTIONS.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .linux(kernel_features(linux)?)
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

fn kernel_features(linux: LinuxFeatureBuilder) -> anyhow::Result<LinuxFeature> {
    let idmap = IDMapBuilder::default().enabled(true).build()?;
    let modes =
        ["DEFAULT", "BIND", "INTERLEAVE", "WEIGHTED_INTERLEAVE", "PREFERRED", "PREFERRED_MANY", "LOCAL"];
    let flags = ["NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES"];
    let policy = MemoryPolicyBuilder::default()
        .modes(modes.map(|mode| format!("MPOL_{mode}")).to_vec())
        .flags(flags.map(|flag| format!("MPOL_F_{flag}")).to_vec());
    Ok(linux
        .intel_rdt(IntelRdtBuilder::default().enabled(true).build()?)
        .memory_policy(policy.build()?)
        .mount_extensions(MountExtensionsBuilder::default().idmap(idmap).build()?)
        .net_devices(NetDevicesBuilder::default().enabled(true).build()?)
        .build()?)
}

fn capabilities() -> Vec<String> {
    let mut names: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    names.sort();
    names
}

fn cgroup() -> anyhow::Result<Cgroup> {
    let cgroup = CgroupBuilder::default().v1(true).v2(true).systemd(true).systemd_user(true).rdma(false);
    Ok(cgroup.build()?)
}

fn seccomp() -> anyhow::Result<Seccomp> {
    let operators = ["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"].map(|name| format!("SCMP_CMP_{name}"));
    let known: Vec<String> = FLAGS.iter().map(|(name, _)| format!("SECCOMP_FILTER_FLAG_{name}")).collect();
    let supported = known.iter().zip(FLAGS).filter(|(_, (_, bits))| crate::sys::seccomp::takes_flags(*bits));
    let supported: Vec<String> = supported.map(|(name, _)| name.clone()).collect();
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
        LinuxSeccompAction::ScmpActNotify,
        LinuxSeccompAction::ScmpActTrace,
        LinuxSeccompAction::ScmpActTrap,
    ];
    let seccomp = SeccompBuilder::default().enabled(true).actions(actions).operators(operators.to_vec());
    Ok(seccomp.archs(archs).known_flags(known).supported_flags(supported).build()?)
}

/// As each is installed: the last only goes with a listener.
const FLAGS: [(&str, u64); 4] = [
    ("LOG", libc::SECCOMP_FILTER_FLAG_LOG),
    ("SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    ("TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC),
    (
        "WAIT_KILLABLE_RECV",
        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    ),
];

fn annotations() -> HashMap<String, String> {
    let version = ("io.wharf.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    HashMap::from([version])
}
