//! The runtime's own executable, as seen and reached from inside.

use crate::common::{self, Call, Scratch, eventually, is_on_read_only_mount};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A copy of the runtime of our own to lose: the built one is busy in other tests, which would hide a
/// successful write behind ETXTBSY.
fn own_runtime(scratch: &Scratch) -> (PathBuf, Vec<u8>) {
    let copy = scratch.path().join("runtime");
    std::fs::copy(common::wharf_oci(), &copy).unwrap();
    let bytes = std::fs::read(&copy).unwrap();
    (copy, bytes)
}

fn call(runtime: &Path, scratch: &Scratch, args: &[&str]) -> Call {
    Call::new(runtime).arg("--root").arg(scratch.oci_root()).args(args)
}

#[test]
fn cve_2019_5736_an_entry_point_that_is_the_runtime_itself_cannot_overwrite_it() {
    common::require_root!();
    let scratch = Scratch::new("exe");
    let (runtime, before) = own_runtime(&scratch);
    for args in [&["/proc/self/exe", "--version"][..], &["/evil"]] {
        let bundle = scratch.bundle(args);
        bundle.write("evil", "#!/proc/self/exe --version\n");
        call(&runtime, &scratch, &["run", "--bundle", bundle.arg(), &scratch.name("evil")]).outcome();
        assert!(std::fs::read(&runtime).unwrap() == before, "the runtime was overwritten by {args:?}");
    }
}

/// Holds every foreign process's executable open for reading, then opens that descriptor again for
/// writing, until it is no longer busy: the published exploit.
const OVERWRITE: &str = r#"
echo $$ > /ready
while [ ! -e /stop ]; do
  for process in /proc/[0-9]*; do
    [ "$process" != /proc/$$ ] || continue
    {
      echo seen >> /seen
      tries=0
      while [ $tries -lt 50 ]; do
        { echo overwritten > /proc/self/fd/9; } && echo "written: $process" >> /written && break
        tries=$((tries + 1))
      done
    } 9<"$process/exe"
  done
done 2>/dev/null
"#;

#[test]
fn cve_2019_5736_a_process_inside_that_reopens_the_entering_runtime_cannot_overwrite_it() {
    common::require_root!();
    let scratch = Scratch::new("exec");
    let (runtime, before) = own_runtime(&scratch);
    let bundle = scratch.bundle(&["/bin/sh", "/overwrite"]);
    bundle.write("overwrite", OVERWRITE);
    let id = scratch.name("evil");
    call(&runtime, &scratch, &["create", "--bundle", bundle.arg(), &id]).ok();
    call(&runtime, &scratch, &["start", &id]).ok();
    eventually("the attack runs", || bundle.rootfs().join("ready").exists());
    let seen = bundle.rootfs().join("seen");
    let mut rounds = 0;
    while rounds < 30 || (!seen.exists() && rounds < 300) {
        // The first enters with the runtime as its program, the others stay visible for a moment.
        let program = if rounds % 3 == 0 { "/proc/self/exe" } else { "/bin/true" };
        call(&runtime, &scratch, &["exec", &id, program, "--version"]).outcome();
        call(&runtime, &scratch, &["exec", &id, "/bin/sleep", "0.02"]).ok();
        rounds += 1;
    }
    std::fs::write(bundle.rootfs().join("stop"), "").unwrap();
    assert!(seen.exists(), "the attack got hold of no executable at all; it proves nothing");
    assert!(std::fs::read(&runtime).unwrap() == before, "the runtime was overwritten");
    call(&runtime, &scratch, &["delete", "--force", &id]).ok();
}

/// Before its program is there, the container's process is the runtime: its executable, and everything that is mapped of it.
#[test]
fn cve_2019_5736_nothing_of_a_waiting_process_leads_to_the_runtime_for_writing() {
    common::require_root!();
    let scratch = Scratch::new("maps");
    let (runtime, _) = own_runtime(&scratch);
    let bundle = scratch.bundle(&["/bin/true"]);
    let id = scratch.name("waits");
    call(&runtime, &scratch, &["create", "--bundle", bundle.arg(), &id]).ok();
    let pid = call(&runtime, &scratch, &["state", &id]).ok().json()["pid"].as_i64().unwrap();
    let own = std::fs::metadata(&runtime).unwrap();
    let is_runtime = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino()))
    };
    let process = PathBuf::from(format!("/proc/{pid}"));
    let mut ways = vec![process.join("exe")];
    for directory in ["fd", "map_files"] {
        let entries = std::fs::read_dir(process.join(directory)).unwrap();
        ways.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| is_runtime(path)));
    }
    assert!(is_runtime(&ways[0]), "{:?}", std::fs::read_link(&ways[0]));
    assert!(ways.len() > 3, "code, constants and data are mapped: {ways:?}");
    for way in &ways {
        assert!(is_on_read_only_mount(way), "{way:?}");
    }
    call(&runtime, &scratch, &["delete", "--force", &id]).ok();
}
