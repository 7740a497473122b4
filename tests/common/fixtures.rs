//! The images and root file systems that rootfs-fixtures/build makes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Directory of the built fixtures; builds them first when they are missing.
/// `WHARF_FIXTURES` names a directory of ready ones (scripts/vm sets it).
pub(crate) fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        if let Some(ready) = std::env::var_os("WHARF_FIXTURES") {
            return PathBuf::from(ready);
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target directory");
        let directory = target.join("fixtures");
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs-fixtures/build");
        let made = Command::new(&build).arg(&directory).output().expect("rootfs-fixtures/build runs");
        assert!(
            made.status.success(),
            "{} {}: {}",
            build.display(),
            directory.display(),
            String::from_utf8_lossy(&made.stderr)
        );
        directory
    })
}

/// Path of an image archive: `image_archive("web.tar")`, `"shell.tar.gz"`, `"shell.docker.tar"`.
pub(crate) fn image_archive(file: &str) -> PathBuf {
    let path = directory().join(file);
    assert!(path.is_file(), "no fixture {}", path.display());
    path
}

/// A plain root file system of busybox. Shared by all tests: copy it, never write to it.
pub(crate) fn busybox_rootfs() -> PathBuf {
    directory().join("busybox-rootfs")
}
