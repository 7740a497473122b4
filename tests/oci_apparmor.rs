//! AppArmor for real: scripts/vm boots a kernel that has it enabled.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
use common::{Bundle, Call, Scratch, program_exists, require, require_root};
use serde_json::json;
use std::path::PathBuf;

/// A profile in the kernel for the time of a test: all is allowed but to read one file.
struct Profile {
    name: String,
    file: PathBuf,
}

impl Profile {
    fn load(scratch: &Scratch, stem: &str, denied: &str) -> Self {
        let name = scratch.name(stem);
        let file = scratch.path().join(format!("{stem}.profile"));
        let rules = format!("file, capability, network, signal, ptrace, unix, audit deny {denied} r,");
        std::fs::write(&file, format!("profile {name} flags=(attach_disconnected) {{ {rules} }}\n")).unwrap();
        Self::parser("--replace", &file).ok();
        Self { name, file }
    }

    fn parser(verb: &str, file: &PathBuf) -> Call {
        Call::new("apparmor_parser").args([verb, "--skip-cache", "--quiet"]).arg(file)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        Self::parser("--remove", &self.file).outcome();
    }
}

fn is_enabled() -> bool {
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    modules.trim().split(',').any(|module| module == "apparmor") && program_exists("apparmor_parser")
}

macro_rules! require_apparmor {
    () => {
        require_root!();
        require!(is_enabled(), "needs a kernel with AppArmor enabled, and apparmor_parser");
    };
}

/// What a process shows of itself, and which of two files it may read.
const SCRIPT: &str = "cat /proc/self/attr/current; cat /first; cat /second; true";

/// A container with this profile and the files `/first` and `/second`.
fn confined(scratch: &Scratch, profile: &str, program: &[&str]) -> Bundle {
    let mut bundle = scratch.bundle(program);
    bundle.write("first", "first\n");
    bundle.write("second", "second\n");
    bundle.edit(|spec| spec["process"]["apparmorProfile"] = json!(profile));
    bundle
}

#[test]
fn a_container_runs_under_its_apparmor_profile_with_and_without_no_new_privs() {
    require_apparmor!();
    let scratch = Scratch::new("aarun");
    let profile = Profile::load(&scratch, "aarun", "/first");
    for no_new_privs in [true, false] {
        let mut bundle = confined(&scratch, &profile.name, &["/bin/sh", "-c", SCRIPT]);
        bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(no_new_privs));
        let outcome = scratch.run(&bundle);
        assert_eq!(outcome.stdout, format!("{} (enforce)\nsecond\n", profile.name), "{outcome}");
        assert!(outcome.stderr.contains("can't open '/first': Permission denied"), "{outcome}");
    }
    let bundle = confined(&scratch, "unconfined", &["/bin/sh", "-c", SCRIPT]);
    assert_eq!(scratch.run(&bundle).stdout, "unconfined\nfirst\nsecond\n");
    scratch.assert_clean();
}

#[test]
fn exec_joins_under_the_containers_apparmor_profile_or_the_one_it_is_given() {
    require_apparmor!();
    let scratch = Scratch::new("aaexec");
    let own = Profile::load(&scratch, "aaown", "/first");
    let other = Profile::load(&scratch, "aaother", "/second");
    let bundle = confined(&scratch, &own.name, &["/bin/sleep", "1000"]);
    let id = scratch.name("aaexec");
    scratch.oci(["run", "--detach", "--bundle", bundle.arg(), &id]).ok();
    let told = |options: &[&str]| {
        let call = scratch.oci(["exec"]).args(options).args([&id, "/bin/sh", "-c", SCRIPT]);
        call.ok().stdout
    };
    assert_eq!(told(&[]), format!("{} (enforce)\nsecond\n", own.name));
    assert_eq!(told(&["--apparmor", &other.name]), format!("{} (enforce)\nfirst\n", other.name));
    let absent = scratch.name("aaabsent");
    let refused = scratch.oci(["exec", "--apparmor", &absent, &id, "/bin/true"]);
    refused.fails_with(&["process.apparmorProfile", &absent, "is it loaded"]);
    assert_eq!(scratch.oci(["state", &id]).ok().json()["status"], "running");
    scratch.oci(["delete", "--force", &id]).ok();
    scratch.assert_clean();
}

#[test]
fn an_apparmor_profile_that_is_not_loaded_is_told_by_path_and_nothing_is_left() {
    require_apparmor!();
    let scratch = Scratch::new("aaabsent");
    let absent = scratch.name("aaabsent");
    let bundle = confined(&scratch, &absent, &["/bin/true"]);
    let id = scratch.name("refused");
    for command in ["create", "run"] {
        let call = scratch.oci([command, "--bundle", bundle.arg(), &id]);
        call.fails_with(&["process.apparmorProfile", &absent, "is it loaded", "No such file or directory"]);
        assert_eq!(scratch.oci(["list", "--quiet"]).ok().stdout, "");
        assert!(!scratch.oci_root().join(&id).exists());
    }
    scratch.assert_clean();
}
