//! Hooks run on the host: nothing of the image may steer them.

use crate::common::{self, Scratch};
use serde_json::json;

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
