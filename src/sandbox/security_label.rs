//! AppArmor profiles and SELinux labels: `process.apparmorProfile`, `process.selinuxLabel` and
//! `linux.mountLabel`.
//!
//! The first two take effect at execve, see proc_pid_attr(5). They are written through a procfs that
//! nothing in the container can stand in for (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881).
use super::plan::Error;
use super::step::Step;
use oci_spec::runtime::{Linux, Process};
use std::ffi::{CStr, CString};
use std::path::Path;

/// Which modules the running kernel enforces labels of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Modules {
    pub(super) apparmor: bool,
    pub(super) selinux: bool,
}

impl Modules {
    /// Asks the kernel, once something in the config depends on it.
    pub(super) fn of_this_kernel() -> Self {
        let listed = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        let has = |name: &str| listed.trim().split(',').any(|module| module == name);
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        Self {
            apparmor: has("apparmor") || enabled.is_ok_and(|text| text.starts_with(b"Y")),
            // Only mounted by hosts that use it, and the securityfs above need not be there.
            selinux: has("selinux") || Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }
}

/// Whether the process is to have a label, which takes a procfs to write it to.
pub(super) fn is_wanted(process: &Process) -> bool {
    given(process.apparmor_profile()).is_some() || given(process.selinux_label()).is_some()
}

/// The labels that the process has from execve on.
pub(super) fn compile(process: &Process, modules: impl Fn() -> Modules) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    if let Some(profile) = given(process.apparmor_profile()) {
        let at = "process.apparmorProfile";
        if modules().apparmor {
            let value = text(at, &format!("exec {profile}"))?;
            steps.push(Step::ExecLabel { file: APPARMOR, value, at });
        } else if profile != "unconfined" {
            // Without AppArmor everything is unconfined.
            return Err(lacks(at, "AppArmor"));
        }
    }
    if let Some(label) = given(process.selinux_label()) {
        let at = "process.selinuxLabel";
        if !modules().selinux {
            return Err(lacks(at, "SELinux"));
        }
        steps.push(Step::ExecLabel { file: SELINUX, value: text(at, label)?, at });
    }
    Ok(steps)
}

/// Linux 5.1 gave AppArmor files of its own, so that both modules can be stacked.
const APPARMOR: &CStr = c"self/attr/apparmor/exec";
const SELINUX: &CStr = c"self/attr/exec";

/// Gives the new file systems among these steps the label of `linux.mountLabel`.
pub(super) fn label_mounts(
    linux: Option<&Linux>,
    mounts: &mut [Step],
    modules: impl Fn() -> Modules,
) -> Result<(), Error> {
    let Some(label) = linux.and_then(|linux| given(linux.mount_label())) else { return Ok(()) };
    let at = "linux.mountLabel";
    if !modules().selinux {
        return Err(lacks(at, "SELinux"));
    }
    let label = text(at, label)?;
    for step in mounts {
        if let Step::CreateMount(mount) = step
            && !HAVE_LABELS.contains(&mount.fstype.as_c_str())
        {
            mount.data.push((c"context".to_owned(), Some(label.clone())));
        }
    }
    Ok(())
}

/// File systems whose files the kernel labels itself, or that take no context.
const HAVE_LABELS: [&CStr; 5] = [c"proc", c"sysfs", c"mqueue", c"cgroup", c"cgroup2"];

fn given(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

fn lacks(at: &str, module: &str) -> Error {
    let reason = format!("this kernel has no {module} enabled; leave it out, or boot with {module}");
    Error::config(at, reason)
}

fn text(at: &str, value: &str) -> Result<CString, Error> {
    CString::new(value).map_err(|_| Error::config(at, "holds a NUL byte"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NONE: Modules = Modules { apparmor: false, selinux: false };
    const BOTH: Modules = Modules { apparmor: true, selinux: true };

    fn process(profile: &str, label: &str) -> Process {
        let mut process = Process::default();
        process.set_apparmor_profile(Some(profile.to_owned())).set_selinux_label(Some(label.to_owned()));
        process
    }

    #[test]
    fn labels_are_written_where_each_module_reads_them() {
        let steps = compile(&process("web", "system_u:system_r:container_t:s0"), || BOTH).unwrap();
        let written: Vec<_> = steps
            .iter()
            .map(|step| match step {
                Step::ExecLabel { file, value, .. } => (file.to_str().unwrap(), value.to_str().unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        let selinux = ("self/attr/exec", "system_u:system_r:container_t:s0");
        assert_eq!(written, [("self/attr/apparmor/exec", "exec web"), selinux]);
    }

    #[test]
    fn a_kernel_without_the_module_is_told_by_path() {
        for (profile, label, path) in
            [("web", "", "process.apparmorProfile"), ("", "a:b:c:s0", "process.selinuxLabel")]
        {
            let error = compile(&process(profile, label), || NONE).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{path}: this kernel has no ")), "{error}");
        }
        assert_eq!(compile(&process("unconfined", ""), || NONE).unwrap().len(), 0);
    }

    #[test]
    fn file_systems_without_labels_of_their_own_get_the_mount_label() {
        let mount = |fstype: &CStr| {
            Step::CreateMount(super::super::step::NewMount {
                slot: 0,
                fstype: fstype.to_owned(),
                source: None,
                data: Vec::new(),
                attr: 0,
                at: String::new(),
            })
        };
        let mut mounts = [mount(c"tmpfs"), mount(c"proc")];
        let linux: Linux = serde_json::from_value(json!({"mountLabel": "a:b:c:s0"})).unwrap();
        label_mounts(Some(&linux), &mut mounts, || BOTH).unwrap();
        let labelled = mounts.map(|step| match step {
            Step::CreateMount(mount) => mount.data,
            other => panic!("{other:?}"),
        });
        assert_eq!(labelled[0], [(c"context".to_owned(), Some(c"a:b:c:s0".to_owned()))]);
        assert_eq!(labelled[1], []);
        assert!(label_mounts(Some(&linux), &mut [], || NONE).unwrap_err().to_string().contains("mountLabel"));
    }
}
