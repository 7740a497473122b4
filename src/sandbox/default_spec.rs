//! Specs to start from: the one `wharf-oci spec` writes, and the one every instance of `wharf run` grows
//! out of.
use super::seccomp;
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, LinuxSeccomp, Mount, Process, Root, Spec, User,
};
use std::path::PathBuf;

/// The oldest version of the runtime-spec that has all we use (`defaultErrnoRet` is the youngest). A newer
/// one gains nothing, and older crun refuses bundles that claim 1.2 or 1.3.
const OCI_VERSION: &str = "1.1.0";

const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const NAMESPACES: [LinuxNamespaceType; 6] = [
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Uts,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Cgroup,
];

const RUNTIME_CAPABILITIES: [Capability; 3] =
    [Capability::AuditWrite, Capability::Kill, Capability::NetBindService];

/// What root may still do inside an instance: enough for package managers, service accounts and
/// low ports, nothing that reaches beyond the instance's own namespaces.
const INSTANCE_CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

const RUNTIME_MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
    "/sys/devices/virtual/tpm",
];

/// Beside the runtime's: interrupt counts and the powercap files leak what neighbours do, keystroke timing
/// and key material included (PLATYPUS, CVE-2020-8694).
const INSTANCE_MASKED_PATHS: [&str; 2] = ["/proc/interrupts", "/sys/devices/virtual/powercap"];

const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What `wharf-oci spec` writes: the default config of the runtime-spec (as `runc spec` does): a shell on
/// a terminal, over a read-only `rootfs`, with three capabilities and without a seccomp profile.
pub fn runtime_default() -> Spec {
    let mut process = process(&RUNTIME_CAPABILITIES);
    let rlimits = Process::default().rlimits().clone();
    process
        .set_terminal(Some(true))
        .set_args(Some(vec!["sh".to_owned()]))
        .set_env(Some(vec![SEARCH_PATH.to_owned(), "TERM=xterm".to_owned()]))
        .set_rlimits(rlimits);
    let mounts = mounts(None, &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let mut spec = spec(process, true, mounts, linux(strings(&RUNTIME_MASKED_PATHS), None));
    spec.set_hostname(Some("wharf".to_owned()));
    spec
}

/// What `wharf run` starts from: Docker's defaults for capabilities, mounts, masked and read-only paths,
/// devices, sysctls and seccomp, and `no_new_privs` on top of them. The root file system is writable.
///
/// Left to the caller: `process.args`, `hostname`, the rest of the environment, the resources. A caller
/// that does not give the instance a network namespace of its own takes `linux.sysctl` out again: both of
/// its keys belong to the network namespace, and the host's is not ours to change. A caller that changes
/// the capabilities replaces the profile by [`seccomp::default_profile`] of the new ones.
pub fn instance_default() -> Spec {
    let mut process = process(&INSTANCE_CAPABILITIES);
    process.set_terminal(Some(false)).set_args(None).set_env(Some(vec![SEARCH_PATH.to_owned()]));
    let names: Vec<String> = INSTANCE_CAPABILITIES.iter().map(|c| format!("CAP_{c}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let masked = strings(&[RUNTIME_MASKED_PATHS.as_slice(), &INSTANCE_MASKED_PATHS].concat());
    let mut linux = linux(masked, Some(seccomp::default_profile(&names)));
    linux.set_sysctl(Some(
        [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    ));
    let mounts = mounts(Some(&["nosuid", "noexec", "nodev"]), &["nosuid", "noexec", "nodev", "ro"]);
    spec(process, false, mounts, linux)
}

fn spec(process: Process, readonly: bool, mounts: Vec<Mount>, linux: Linux) -> Spec {
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(readonly));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_hostname(None)
        .set_mounts(Some(mounts))
        .set_annotations(None)
        .set_linux(Some(linux));
    spec
}

/// Root with these capabilities. The inheritable and ambient sets stay empty, or a program of another
/// user would gain from them (CVE-2022-24769, CVE-2022-29162).
fn process(capabilities: &[Capability]) -> Process {
    let held: Capabilities = capabilities.iter().copied().collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(held.clone()))
        .set_effective(Some(held.clone()))
        .set_permitted(Some(held))
        .set_inheritable(None)
        .set_ambient(None);
    let mut process = Process::default();
    process
        .set_user(User::default())
        .set_cwd(PathBuf::from("/"))
        .set_capabilities(Some(sets))
        .set_rlimits(None)
        .set_no_new_privileges(Some(true))
        .set_apparmor_profile(None)
        .set_selinux_label(None);
    process
}

fn linux(masked_paths: Vec<String>, seccomp: Option<LinuxSeccomp>) -> Linux {
    let mut deny_all = LinuxDeviceCgroup::default();
    deny_all.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![deny_all]));
    let namespaces = NAMESPACES
        .iter()
        .map(|typ| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(*typ);
            namespace
        })
        .collect();
    let mut linux = Linux::default();
    linux
        .set_resources(Some(resources))
        .set_namespaces(Some(namespaces))
        .set_masked_paths(Some(masked_paths))
        .set_readonly_paths(Some(strings(&READONLY_PATHS)))
        .set_seccomp(seccomp);
    linux
}

fn mounts(proc_options: Option<&[&str]>, cgroup_options: &[&str]) -> Vec<Mount> {
    const KERNEL: &[&str] = &["nosuid", "noexec", "nodev"];
    vec![
        mount("/proc", "proc", "proc", proc_options),
        mount("/dev", "tmpfs", "tmpfs", Some(&["nosuid", "strictatime", "mode=755", "size=65536k"])),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            Some(&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ),
        mount("/dev/shm", "tmpfs", "shm", Some(&["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])),
        mount("/dev/mqueue", "mqueue", "mqueue", Some(KERNEL)),
        mount("/sys", "sysfs", "sysfs", Some(&["nosuid", "noexec", "nodev", "ro"])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", Some(cgroup_options)),
    ]
}

fn mount(destination: &str, typ: &str, source: &str, options: Option<&[&str]>) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(options.map(strings));
    mount
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn json_of(spec: &Spec) -> Value {
        serde_json::to_value(spec).unwrap()
    }

    fn sorted(value: &Value) -> Vec<&str> {
        let mut names: Vec<&str> = value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn runtime_default_is_a_shell_on_a_terminal_over_a_read_only_root() {
        let spec = json_of(&runtime_default());
        assert_eq!(spec["process"]["args"], json!(["sh"]));
        assert_eq!(spec["process"]["terminal"], json!(true));
        assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": true}));
        assert_eq!(
            spec["process"]["rlimits"],
            json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}])
        );
        assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": false, "access": "rwm"}]));
        assert!(spec["linux"].get("seccomp").is_none());
    }

    #[test]
    fn neither_default_has_inheritable_or_ambient_capabilities() {
        for (spec, count) in [(runtime_default(), 3), (instance_default(), 14)] {
            let sets = &json_of(&spec)["process"]["capabilities"];
            for set in ["bounding", "effective", "permitted"] {
                assert_eq!(sets[set].as_array().unwrap().len(), count);
            }
            assert!(sets.get("inheritable").is_none() && sets.get("ambient").is_none());
        }
    }

    #[test]
    fn instance_default_masks_what_docker_masks_and_more() {
        let spec = json_of(&instance_default());
        assert_eq!(
            sorted(&spec["linux"]["maskedPaths"]),
            [
                "/proc/acpi",
                "/proc/asound",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/sys/devices/virtual/powercap",
                "/sys/devices/virtual/tpm",
                "/sys/firmware",
            ]
        );
        assert_eq!(spec["process"]["noNewPrivileges"], json!(true));
        assert_eq!(spec["root"]["readonly"], json!(false));
        assert_eq!(spec["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"], json!("0"));
    }

    #[test]
    fn both_defaults_survive_a_round_trip_through_json() {
        for spec in [runtime_default(), instance_default()] {
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
        }
    }
}
