//! A user without privileges who calls the programs: a uid that no account has, with a runtime directory of
//! its own below the scratch.

use super::{Bundle, Call, Scratch, wharf_oci};
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// Beyond all ids that distributions give out, and below those of /etc/subuid.
const UID: u32 = 54_321;
/// Where the ids begin that [`User::with_sub_ids`] gives it.
pub(crate) const SUB_IDS: u32 = 300_000;

/// The user of one scratch. Dropping it deletes its containers.
#[derive(Debug)]
pub(crate) struct User<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) uid: u32,
    home: PathBuf,
    program: PathBuf,
    /// Files to be bound over /etc/passwd, /etc/subuid and /etc/subgid.
    accounts: Option<[PathBuf; 3]>,
}

impl<'a> User<'a> {
    /// A user with the one id alone.
    pub(crate) fn new(scratch: &'a Scratch) -> Self {
        // Whoever cannot reach the build's directory can reach the scratch.
        let program = scratch.path().join("wharf-oci");
        if std::fs::hard_link(wharf_oci(), &program).is_err() {
            std::fs::copy(wharf_oci(), &program).expect("copy wharf-oci");
        }
        let home = scratch.path().join("home");
        std::fs::create_dir(&home).expect("home directory");
        for (path, mode) in [(scratch.path(), 0o755), (&home, 0o700), (&program, 0o755)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        }
        chown(&home, Some(UID), Some(UID)).expect("chown");
        Self { scratch, uid: UID, home, program, accounts: None }
    }
    /// A user to whom /etc/subuid and /etc/subgid give 65536 more ids, in a mount namespace of each call's own.
    pub(crate) fn with_sub_ids(scratch: &'a Scratch) -> Self {
        let passwd = std::fs::read_to_string("/etc/passwd").expect("accounts");
        let account = format!("{passwd}rootless:x:{UID}:{UID}::/:/bin/sh\n");
        let sub_ids = format!("rootless:{SUB_IDS}:65536\n");
        let write = |name: &str, text: &str| {
            let path = scratch.path().join(name);
            std::fs::write(&path, text).expect("write");
            path
        };
        let accounts = [write("passwd", &account), write("subuid", &sub_ids), write("subgid", &sub_ids)];
        let mut user = Self::new(scratch);
        user.accounts = Some(accounts);
        user
    }
    /// Another user's view of the same containers.
    pub(crate) fn neighbour(&self) -> Self {
        let (scratch, home, program) = (self.scratch, self.home.clone(), self.program.clone());
        Self { scratch, uid: self.uid + 1, home, program, accounts: None }
    }
    /// What `XDG_RUNTIME_DIR` and `HOME` are.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }
    /// Path of wharf-oci as the user reaches it.
    pub(crate) fn program(&self) -> &str {
        self.program.to_str().expect("UTF-8")
    }
    /// A call of any program as this user, without any capability.
    pub(crate) fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let uid = self.uid.to_string();
        let call = match &self.accounts {
            Some(files) => {
                let script = "mount --bind \"$1\" /etc/passwd && mount --bind \"$2\" /etc/subuid && \
                              mount --bind \"$3\" /etc/subgid && shift 3 && exec setpriv \"$@\"";
                Call::new("unshare").args(["--mount", "/bin/sh", "-c", script, "sh"]).args(files)
            }
            None => Call::new("setpriv"),
        };
        let call = call.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--inh-caps=-all"]);
        call.args(args).env("XDG_RUNTIME_DIR", &self.home).env("HOME", &self.home).env("USER", "rootless")
    }
    /// A call of wharf-oci as this user, with the state where it is by default.
    pub(crate) fn oci<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        self.call([self.program()]).args(args)
    }
    /// A bundle of the user's own, with what `spec --rootless` writes, that runs `args` without a terminal.
    pub(crate) fn bundle(&self, args: &[&str]) -> Bundle {
        let mut bundle = self.scratch.bundle(args);
        let owner = format!("{0}:{0}", self.uid);
        Call::new("chown").args(["-R", &owner, bundle.arg()]).ok();
        let config = bundle.path.join("config.json");
        std::fs::remove_file(&config).expect("remove config.json");
        self.oci(["spec", "--rootless", "--bundle", bundle.arg()]).ok();
        let text = std::fs::read(&config).expect("config.json was written");
        bundle.spec = serde_json::from_slice(&text).expect("JSON");
        bundle.edit(|spec| {
            spec["process"]["terminal"] = false.into();
            spec["process"]["args"] = args.into();
            spec["root"]["readonly"] = false.into();
        });
        bundle
    }
    /// Runs a bundle to its end.
    pub(crate) fn run(&self, bundle: &Bundle) -> Call {
        self.oci(["run", "--bundle", bundle.arg(), &self.scratch.name("user")])
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.home.join("wharf-oci")).into_iter().flatten().flatten() {
            self.oci([OsStr::new("delete"), OsStr::new("--force"), &entry.file_name()]).outcome();
        }
    }
}
