//! A criu that works on this machine, for `checkpoint` and `restore`.
use super::Call;
use std::path::{Path, PathBuf};

/// The directory of a criu that works here: Debian 13's as scripts/test fetches it, or the host's own.
pub(crate) fn directory() -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let mut places = std::iter::once(fetched).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.find(|directory| {
        directory.join("criu").is_file() && program(directory).arg("check").outcome().success()
    })
}

/// A call of criu itself.
pub(crate) fn program(directory: &Path) -> Call {
    Call::new(directory.join("criu"))
}

/// Whether it can do this here, such as `mem_dirty_track`; see criu(8), `--feature`.
pub(crate) fn has_feature(directory: &Path, name: &str) -> bool {
    program(directory).args(["check", "--feature", name]).outcome().success()
}

/// Has the call find that criu.
pub(crate) fn with(call: Call, directory: &Path) -> Call {
    call.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display()))
}

/// Leaves the test, aloud, without a criu; otherwise its directory.
macro_rules! require_criu {
    () => {
        match $crate::common::criu::directory() {
            Some(directory) => directory,
            None => {
                $crate::common::skip("needs a criu that knows this kernel (criu check)");
                return;
            }
        }
    };
}
pub(crate) use require_criu;
