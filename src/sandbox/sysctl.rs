//! `linux.sysctl`: only what belongs to one of the container's own namespaces may be written.
use super::namespaces::Namespaces;
use super::plan::Error;
use super::step::Step;
use oci_spec::runtime::LinuxNamespaceType;
use std::collections::HashMap;
use std::ffi::CString;

/// Namespaced IPC settings, see `sysvipc(7)` and `ipc_namespaces(7)`.
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Compiles the settings in a stable order.
pub(super) fn compile(sysctl: &HashMap<String, String>, namespaces: &Namespaces) -> Result<Vec<Step>, Error> {
    let mut settings: Vec<_> = sysctl.iter().collect();
    settings.sort();
    settings.into_iter().map(|(key, value)| setting(key, value, namespaces)).collect()
}

fn setting(key: &str, value: &str, namespaces: &Namespaces) -> Result<Step, Error> {
    let at = format!("linux.sysctl.{key}");
    let dotted = with_dots(key);
    let plain = dotted.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    if !plain || dotted.split(['.', '/']).any(str::is_empty) {
        return Err(Error::config(&at, "is not the name of a setting"));
    }
    let needed = owner(&dotted).ok_or_else(|| {
        Error::config(
            &at,
            "is not namespaced, so writing it would change the host; set it on the host instead",
        )
    })?;
    if !namespaces.isolates(needed) {
        return Err(Error::config(&at, format!("needs a {needed} namespace of the container's own")));
    }
    if value.contains(['\0', '\n']) {
        return Err(Error::config(&at, "the value must be one line"));
    }
    let path: String = dotted.chars().map(swap).collect();
    let nul = |_| Error::config(&at, "holds a NUL byte");
    Ok(Step::Sysctl {
        path: CString::new(format!("sys/{path}")).map_err(nul)?,
        value: CString::new(value).map_err(nul)?,
    })
}

fn swap(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        c => c,
    }
}

/// sysctl(8): whichever of `.` and `/` comes first separates; with `/` first, a `.` is part of a name.
fn with_dots(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'/' => key.chars().map(swap).collect(),
        _ => key.to_owned(),
    }
}

fn owner(key: &str) -> Option<LinuxNamespaceType> {
    if key.starts_with("net.") {
        Some(LinuxNamespaceType::Network)
    } else if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
        Some(LinuxNamespaceType::Ipc)
    } else if key == "kernel.domainname" || key == "kernel.hostname" {
        Some(LinuxNamespaceType::Uts)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile_one(key: &str, value: &str) -> Result<Vec<Step>, Error> {
        let namespaces =
            Namespaces { new: (libc::CLONE_NEWNET | libc::CLONE_NEWIPC) as u64, joins: Vec::new() };
        compile(&HashMap::from([(key.to_owned(), value.to_owned())]), &namespaces)
    }

    #[test]
    fn host_wide_settings_are_refused_by_name() {
        for key in ["kernel.core_pattern", "kernel/core_pattern", "vm.swappiness", "kernel.hostname"] {
            assert!(compile_one(key, "1").unwrap_err().to_string().contains(key), "{key}");
        }
    }

    #[test]
    fn a_path_cannot_climb_out_of_its_namespace() {
        for key in ["net...kernel.core_pattern", "net./../kernel/core_pattern", "net.", "net.a\0b"] {
            assert!(compile_one(key, "1").is_err(), "{key}");
        }
    }

    #[test]
    fn a_value_cannot_smuggle_a_second_line() {
        assert!(compile_one("net.ipv4.ip_forward", "1\nkernel.core_pattern=x").is_err());
    }

    #[test]
    fn dots_in_interface_names_are_kept_with_slashes_first() {
        let [Step::Sysctl { path, .. }] = &compile_one("net/ipv4/conf/eth0.1/rp_filter", "1").unwrap()[..]
        else {
            panic!("one step expected");
        };
        assert_eq!(path.to_str().unwrap(), "sys/net/ipv4/conf/eth0.1/rp_filter");
    }
}
