//! Hooks run on the host: nothing of the image may steer them.

use crate::common::{self, Scratch};
use crate::sentinel::{CORE_PATTERN, Sentinel, Setting};
use serde_json::json;
use std::os::unix::fs::symlink;

#[test]
fn cve_2025_23266_a_hook_has_the_environment_of_its_own_entry_and_nothing_else() {
    common::require_root!();
    let scratch = Scratch::new("hooks");
    let seen = scratch.path().join("environment");
    let script = format!("/usr/bin/env >> {}", seen.display());
    let hook =
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["ONLY=this", "PATH=/usr/bin:/bin"]});
    let mut bundle = scratch.bundle(&["/bin/true"]);
    bundle.edit(|spec| {
        let env = ["PATH=/bin", "LD_PRELOAD=/proc/self/cwd/evil.so", "LD_LIBRARY_PATH=/evil", "SECRET=image"];
        spec["process"]["env"] = json!(env);
        spec["hooks"] =
            json!({"prestart": [hook], "createRuntime": [hook], "poststart": [hook], "poststop": [hook]});
    });
    let id = scratch.name("hooks");
    let outcome = scratch.oci(["run", "--bundle", bundle.arg(), &id]).env("CALLER", "secret").outcome();
    assert!(outcome.success(), "{outcome}");
    let environment = std::fs::read_to_string(&seen).unwrap();
    assert!(environment.matches("ONLY=this").count() >= 4, "every hook ran:\n{environment}");
    for word in ["LD_PRELOAD", "LD_LIBRARY_PATH", "SECRET", "CALLER"] {
        assert!(!environment.contains(word), "{word} reached a hook:\n{environment}");
    }
}

#[test]
fn a_symlinked_target_stays_inside_while_hooks_hold_the_old_root() {
    common::require_root!();
    let scratch = Scratch::new("heldroot");
    let sentinel = Sentinel::new(scratch.path().join("sentinel"), &["file"]);
    let source = scratch.path().join("source");
    std::fs::write(&source, "source\n").unwrap();
    let ran = scratch.path().join("ran");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo >> {}", ran.display())]});
    let up = format!("../../../../../../../../..{}", sentinel.arg());
    let mut runs = 0;
    for link in [sentinel.arg(), up.as_str()] {
        for destination in ["/link", "/link/new", "/link/a/b/c"] {
            for (kind, from, options) in
                [("tmpfs", "tmpfs", json!([])), ("bind", source.to_str().unwrap(), json!(["bind"]))]
            {
                let mut bundle = scratch.bundle(&["/bin/true"]);
                symlink(link, bundle.rootfs().join("link")).unwrap();
                // The link leads somewhere inside the root too, so that nothing stops the attack early.
                let inside = bundle.rootfs().join(&sentinel.arg()[1..]);
                std::fs::create_dir_all(inside.join("a/b")).unwrap();
                bundle.mount(
                    json!({"destination": destination, "type": kind, "source": from, "options": options}),
                );
                bundle.edit(|spec| spec["hooks"] = json!({"createContainer": [hook]}));
                runs += usize::from(scratch.run(&bundle).success());
                sentinel.assert_untouched();
                let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
                assert!(
                    !table.contains(sentinel.arg()) && !table.contains(bundle.rootfs().to_str().unwrap())
                );
            }
        }
    }
    let hooked = std::fs::read_to_string(&ran).unwrap().lines().count();
    assert!(runs > 4 && hooked >= runs, "{runs} containers ran, {hooked} hooks");
}

#[test]
fn a_start_hook_out_of_the_image_can_do_no_more_than_the_container() {
    common::require_root!();
    let scratch = Scratch::new("starthook");
    let core_pattern = Setting::of(CORE_PATTERN);
    let mut bundle = scratch.bundle(&["/bin/cat", "/tried"]);
    let tries = "exec 2>&1 >/tried; echo start; echo '|/evil' > /proc/sys/kernel/core_pattern && echo wrote; \
        mount -t tmpfs none /mnt && echo mounted; mknod /mem c 1 1 && cat /mem | head -c 1 && echo read; \
        for fd in /proc/1/fd/*; do readlink $fd | grep -q -e wharf -e bundle && echo leak $fd; done; \
        chroot /proc/1/root /bin/true && ls /proc/1/root/etc/debian_version && echo out; grep CapEff /proc/self/status; true";
    bundle.edit(|spec| {
        spec["process"]["capabilities"] = json!({"bounding": [], "effective": [], "permitted": []});
        spec["root"]["readonly"] = json!(false);
        spec["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", tries]}]});
    });
    let outcome = scratch.run(&bundle);
    assert!(outcome.stdout.starts_with("start\n"), "the hook ran: {outcome}");
    for word in ["wrote", "mounted", "read", "leak", "out\n"] {
        assert!(!outcome.stdout.contains(word), "{outcome}");
    }
    assert!(outcome.stdout.contains("CapEff:\t0000000000000000"), "{outcome}");
    core_pattern.assert_untouched();
}
