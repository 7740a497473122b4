//! An OCI bundle on busybox, with the configuration `runc spec` would write, to be edited by the test.

use super::fixtures::busybox_rootfs;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A bundle directory: `config.json` and `rootfs`.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The directory.
    pub(crate) path: PathBuf,
    /// What config.json holds; change it through [`Bundle::edit`].
    pub(crate) spec: Value,
}

impl Bundle {
    /// Makes a bundle in a new directory: its own copy of the busybox root, and a default config that
    /// runs `args` without a terminal.
    pub(crate) fn create(path: PathBuf, args: &[&str]) -> Self {
        std::fs::create_dir(&path).expect("bundle directory");
        let copied = Command::new("cp").arg("-a").arg(busybox_rootfs()).arg(path.join("rootfs")).status();
        assert!(copied.expect("cp").success(), "copy the busybox root");
        let mut bundle = Self { path, spec: default_spec() };
        bundle.edit(|spec| spec["process"]["args"] = json!(args));
        bundle
    }
    /// Changes the configuration and writes it.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Value)) -> &mut Self {
        change(&mut self.spec);
        let text = serde_json::to_string_pretty(&self.spec).expect("JSON");
        std::fs::write(self.path.join("config.json"), text).expect("write config.json");
        self
    }
    /// Adds a mount.
    pub(crate) fn mount(&mut self, mount: Value) -> &mut Self {
        self.edit(|spec| spec["mounts"].as_array_mut().expect("mounts").push(mount))
    }
    /// The root file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }
    /// The path as an argument.
    pub(crate) fn arg(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }
    /// Writes a file of the root, mode 0755.
    pub(crate) fn write(&self, path: &str, contents: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.rootfs().join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/"))).expect("parent directory");
        std::fs::write(&file, contents).expect("write");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        file
    }
}

fn default_spec() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "sandbox",
        "mounts": default_mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"},
                {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

fn default_mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    ])
}
