//! Policies of images from archives, and the file itself. tests/registry has those of signatures.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Call, Scratch, image_archive};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn write(scratch: &Scratch, document: &Value) -> PathBuf {
    let path = scratch.path().join("policy.json");
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

/// The shell image in a directory of the scratch.
fn archive(scratch: &Scratch, form: &str) -> PathBuf {
    let directory = scratch.path().join("archives");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(form);
    std::fs::copy(image_archive(form), &path).unwrap();
    path
}

fn load(scratch: &Scratch, policy: &Path, archive: &Path) -> Call {
    scratch.wharf(["load", "--policy"]).arg(policy).arg(archive)
}

fn run(scratch: &Scratch, policy: &Path) -> Call {
    let call = scratch.wharf(["run", "--rm", "--network", "none", "--pull", "never", "--policy"]);
    call.arg(policy).args(["shell", "echo", "works"])
}

#[track_caller]
fn assert_empty(scratch: &Scratch) {
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json(), json!([]));
    let blobs = scratch.root().join("images/blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
}

const ACCEPT: &str = "insecureAcceptAnything";

#[test]
fn the_narrowest_scope_of_a_path_decides_and_the_default_where_there_is_none() {
    common::require_root!();
    for (form, transport) in [("shell.tar", "oci-archive"), ("shell.docker.tar", "docker-archive")] {
        let scratch = Scratch::new("scopes");
        let path = archive(&scratch, form);
        let directory = path.parent().unwrap().display().to_string();
        let file = path.display().to_string();
        let rule = |kind: &str| json!([{"type": kind}]);
        for (scopes, default, accepted) in [
            (json!({}), "reject", false),
            (json!({}), ACCEPT, true),
            (json!({"": rule(ACCEPT)}), "reject", true),
            (json!({&directory: rule(ACCEPT)}), "reject", true),
            (json!({&directory: rule(ACCEPT), &file: rule("reject")}), ACCEPT, false),
            (json!({&directory: rule("reject"), &file: rule(ACCEPT)}), "reject", true),
            (json!({"/elsewhere": rule(ACCEPT)}), "reject", false),
        ] {
            let here = Scratch::new("here");
            let policy = write(&here, &json!({"default": rule(default), "transports": {transport: scopes}}));
            let outcome = load(&here, &policy, &path).outcome();
            assert_eq!(outcome.success(), accepted, "{scopes} {default}: {outcome}");
            if !accepted {
                assert!(outcome.code == Some(125) && outcome.stderr.contains("rejects it"), "{outcome}");
                assert_empty(&here);
            }
        }
    }
}

#[test]
fn standard_input_is_in_no_directory() {
    common::require_root!();
    let scratch = Scratch::new("pipe");
    let rule = |kind: &str| json!([{"type": kind}]);
    let bytes = std::fs::read(image_archive("shell.tar")).unwrap();
    let mut document =
        json!({"default": rule("reject"), "transports": {"oci-archive": {"/tmp": rule(ACCEPT)}}});
    let piped = |policy: PathBuf| scratch.wharf(["load", "--policy"]).arg(policy).stdin(bytes.clone());
    piped(write(&scratch, &document)).fails_with(&["rejects it"]);
    document["transports"]["oci-archive"][""] = rule(ACCEPT);
    piped(write(&scratch, &document)).ok();
}

#[test]
fn what_was_loaded_before_the_policy_changed_obeys_the_new_one() {
    common::require_root!();
    let scratch = Scratch::new("changed");
    let path = archive(&scratch, "shell.tar");
    let accept = write(&scratch, &json!({"default": [{"type": ACCEPT}]}));
    load(&scratch, &accept, &path).ok();
    assert_eq!(run(&scratch, &accept).ok().text(), "works");
    let directory = path.parent().unwrap().display().to_string();
    let rule = |kind: &str| json!([{"type": kind}]);
    let by_path = |kind: &str| json!({"default": rule("reject"), "transports": {"oci-archive": {&directory: rule(kind)}}});
    // It is judged by where it came from, though that may be gone.
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert_eq!(run(&scratch, &write(&scratch, &by_path(ACCEPT))).ok().text(), "works");
    run(&scratch, &write(&scratch, &by_path("reject"))).fails_with(&[
        "shell:latest",
        &directory,
        "rejects it",
    ]);
    assert_eq!(scratch.wharf(["ps", "-a", "--json"]).ok().json(), json!([]));
}

#[test]
fn an_archive_cannot_bring_an_image_under_a_name_that_has_requirements_of_its_own() {
    common::require_root!();
    let scratch = Scratch::new("name");
    let path = archive(&scratch, "shell.tar");
    let document = json!({
        "default": [{"type": ACCEPT}], "transports": {"docker": {"docker.io/library": [{"type": "reject"}]}},
    });
    let policy = write(&scratch, &document);
    load(&scratch, &policy, &path).fails_with(&["shell:latest", "docker.io/library", "rejects it"]);
    assert_empty(&scratch);
    load(&scratch, &policy, &path).args(["--tag", "localhost/shell"]).ok();
}

#[test]
fn a_pinned_digest_lets_that_image_in_and_no_other() {
    common::require_root!();
    let scratch = Scratch::new("pin");
    scratch.load("shell");
    scratch.load("web");
    let images = scratch.wharf(["images", "--json"]).ok().json();
    let digest = |at: usize| images[at]["digest"].as_str().unwrap().to_owned();
    let pin = |digest: &str| json!({"default": [{"type": "wharf.pinnedDigest", "digests": [digest]}]});
    assert_eq!(run(&scratch, &write(&scratch, &pin(&digest(0)))).ok().text(), "works");
    run(&scratch, &write(&scratch, &pin(&digest(1)))).fails_with(&["pinned", &digest(0)]);
    let here = Scratch::new("here");
    load(&here, &write(&here, &pin(&digest(1))), &image_archive("shell.tar")).fails_with(&["pinned"]);
    assert_empty(&here);
    load(&here, &write(&here, &pin(&digest(0))), &image_archive("shell.tar")).ok();
}

#[test]
fn all_requirements_of_a_scope_must_be_met() {
    common::require_root!();
    let scratch = Scratch::new("all");
    for kinds in [[ACCEPT, "reject"], ["reject", ACCEPT]] {
        let policy = write(&scratch, &json!({"default": kinds.map(|kind| json!({"type": kind}))}));
        load(&scratch, &policy, &image_archive("shell.tar")).fails_with(&["rejects it"]);
    }
}

#[test]
fn what_cannot_be_verified_here_is_refused_where_it_is_asked_for_and_nowhere_else() {
    common::require_root!();
    let key = |kind: &str| json!({"type": kind, "keyType": "GPGKeys", "keyPath": "/etc/pki/rpm-gpg/key"});
    let fulcio = json!({"type": "sigstoreSigned", "fulcio": {"caPath": "/ca", "oidcIssuer": "x", "subjectEmail": "y"}});
    let rekor = json!({"type": "sigstoreSigned", "keyPath": "/key", "rekorPublicKeyPath": "/rekor"});
    for (requirement, word) in [(key("signedBy"), "OpenPGP"), (fulcio, "Fulcio"), (rekor, "Rekor")] {
        let scratch = Scratch::new("gpg");
        let scoped = json!({
            "default": [{"type": ACCEPT}], "transports": {"docker": {"registry.example": [requirement]}},
        });
        load(&scratch, &write(&scratch, &scoped), &image_archive("shell.tar")).ok();
        let scratch = Scratch::new("gpg");
        let policy = write(&scratch, &json!({"default": [requirement]}));
        load(&scratch, &policy, &image_archive("shell.tar")).fails_with(&[word, "docs/policy.md"]);
        assert_empty(&scratch);
    }
}

#[test]
fn an_imported_image_is_judged_by_the_scope_of_tarballs() {
    common::require_root!();
    let scratch = Scratch::new("import");
    let empty = vec![0; 10240];
    let import = |policy: &Value| {
        let path = write(&scratch, policy);
        scratch.wharf(["import", "--policy"]).arg(path).args(["-", "made"]).stdin(empty.clone())
    };
    import(&json!({"default": [{"type": "reject"}]})).fails_with(&["made:latest", "rejects it"]);
    assert_empty(&scratch);
    let tarball =
        json!({"default": [{"type": "reject"}], "transports": {"tarball": {"": [{"type": ACCEPT}]}}});
    import(&tarball).ok();
}

#[test]
fn a_policy_that_is_not_understood_to_its_last_word_lets_nothing_in() {
    common::require_root!();
    let scratch = Scratch::new("strict");
    let path = scratch.path().join("policy.json");
    let key = |fields: &str| format!(r#"{{"default":[{{"type":"sigstoreSigned",{fields}}}]}}"#);
    let cases: Vec<(String, &[&str])> = vec![
        (String::new(), &["EOF"]),
        ("[]".to_owned(), &["the document"]),
        ("{}".to_owned(), &["default"]),
        (r#"{"default":[]}"#.to_owned(), &["default", "is empty"]),
        (r#"{"default":[{"type":"accept"}]}"#.to_owned(), &["default[0]", "accept"]),
        (r#"{"default":[{"type":"reject","why":1}]}"#.to_owned(), &["default[0]", "why"]),
        (r#"{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}"#.to_owned(), &["default[0]", "type"]),
        (r#"{"default":[{"type":"reject"}],"extra":1}"#.to_owned(), &["extra"]),
        (r#"{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}"#.to_owned(), &["default"]),
        (r#"{"default":[{"type":"reject"}]} x"#.to_owned(), &["trailing"]),
        (r#"{"default":[{"type":"reject"}],"transports":{"dockr":{}}}"#.to_owned(), &["transports.dockr"]),
        (
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"a":[{"type":"reject"}]}}}"#
                .to_owned(),
            &["twice"],
        ),
        (
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"what"}]}}}"#.to_owned(),
            &["transports.docker", "what"],
        ),
        (
            r#"{"default":[{"type":"reject"}],"transports":{"oci":{"relative":[{"type":"reject"}]}}}"#.to_owned(),
            &["relative", "absolute"],
        ),
        (
            r#"{"default":[{"type":"reject"}],"transports":{"oci":{"/a:b":[{"type":"reject"}]}}}"#.to_owned(),
            &["/a:b", "colon"],
        ),
        (r#"{"default":[{"type":"wharf.pinnedDigest","digests":["sha256:1"]}]}"#.to_owned(), &["digests", "sha256:1"]),
        (r#"{"default":[{"type":"wharf.pinnedDigest","digests":[]}]}"#.to_owned(), &["default[0].digests"]),
        (key(r#""keyPath":"/nonexistent""#), &["default[0]", "/nonexistent", "No such file"]),
        (key(r#""keyPath":"relative""#), &["relative", "absolute"]),
        (key(r#""keyPath":"/etc/passwd""#), &["/etc/passwd", "PUBLIC KEY"]),
        (key(r#""keyData":"?""#), &["keyData", "base64"]),
        (key(r#""keyPath":"/a","keyData":"YQ==""#), &["exactly one"]),
        (key(r#""signedIdentity":{"type":"matchExact"}"#), &["exactly one"]),
        (key(r#""keyPath":"/a","signedIdentity":{"type":"matchNothing"}"#), &["default[0]", "matchNothing"]),
        (key(r#""keyPath":"/a","keyType":"x""#), &["default[0]", "keyType"]),
    ];
    for (text, reasons) in cases {
        std::fs::write(&path, &text).unwrap();
        let mut all = reasons.to_vec();
        all.push("policy.json");
        let outcome = load(&scratch, &path, &image_archive("shell.tar")).fails_with(&all);
        assert_eq!(outcome.code, Some(125), "{text}: {outcome}");
    }
    let missing = scratch.path().join("missing.json");
    load(&scratch, &missing, &image_archive("shell.tar")).fails_with(&["missing.json", "No such file"]);
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json(), json!([]));
}

#[test]
fn the_option_counts_over_the_variable() {
    common::require_root!();
    let scratch = Scratch::new("places");
    let reject = write(&scratch, &json!({"default": [{"type": "reject"}]}));
    let accept = scratch.path().join("accept.json");
    std::fs::write(&accept, json!({"default": [{"type": ACCEPT}]}).to_string()).unwrap();
    let archive = image_archive("shell.tar");
    let call = scratch.wharf(["load"]).arg(&archive).env("WHARF_POLICY", &reject);
    call.fails_with(&["rejects it"]);
    load(&scratch, &accept, &archive).env("WHARF_POLICY", &reject).ok();
}
