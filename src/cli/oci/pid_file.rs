//! `--pid-file`.
use anyhow::Context as _;
use rustix::process::Pid;
use std::path::Path;

/// Writes the host pid, whole or not at all: engines watch for the file.
pub(super) fn write(path: &Path, pid: Pid) -> anyhow::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().with_context(|| format!("--pid-file {}: names no file", path.display()))?);
    let temporary = path.with_file_name(name);
    let written = std::fs::write(&temporary, pid.as_raw_nonzero().to_string())
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing half-made is left; one that was never made is no matter.
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| format!("write --pid-file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_the_number_alone() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let path = scratch.path().join("pid");
        write(&path, Pid::from_raw(42).expect("not 0")).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "42");
        assert_eq!(std::fs::read_dir(scratch.path()).expect("read").count(), 1);
    }

    #[test]
    fn nothing_is_left_where_the_file_cannot_be() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let taken = scratch.path().join("directory");
        std::fs::create_dir(&taken).expect("made");
        let error = write(&taken, Pid::from_raw(42).expect("not 0")).expect_err("a directory");
        assert!(error.to_string().contains("write --pid-file"), "{error}");
        assert_eq!(std::fs::read_dir(scratch.path()).expect("read").count(), 1);
    }
}
