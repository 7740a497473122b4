//! `wharf pull`, `push`, `login`: against Debian's docker-registry, and against servers that do what a good
//! registry does not.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod concurrency;
mod credentials;
mod docker_registry;
mod images;
mod mirrors;
mod plain;
mod policy;
mod resumption;
mod standin;
mod tokens;
mod uploads;

use common::{Call, Scratch};
use std::ffi::OsStr;

/// A call of wharf that knows the credentials, authorities and mirrors of its scratch alone.
fn wharf<A: AsRef<OsStr>>(scratch: &Scratch, args: impl IntoIterator<Item = A>) -> Call {
    isolated(scratch, scratch.wharf(args))
}

/// The same for another program.
fn isolated(scratch: &Scratch, call: Call) -> Call {
    let mut call = call
        .env("HOME", scratch.path())
        .env("DOCKER_CONFIG", scratch.path().join("docker"))
        .env("XDG_RUNTIME_DIR", scratch.path().join("xdg"))
        .env("WHARF_CERTS_DIR", scratch.path().join("certs.d"));
    for name in ["REGISTRY_AUTH_FILE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"]
    {
        call.command().env_remove(name);
    }
    call
}

/// Writes hosts.toml for a registry.
fn hosts_toml(scratch: &Scratch, registry: &str, text: &str) {
    let directory = scratch.path().join("certs.d").join(registry);
    std::fs::create_dir_all(&directory).expect("create");
    std::fs::write(directory.join("hosts.toml"), text).expect("write");
}

/// Writes Docker's config.json.
fn docker_config(scratch: &Scratch, config: &serde_json::Value) {
    let directory = scratch.path().join("docker");
    std::fs::create_dir_all(&directory).expect("create");
    std::fs::write(directory.join("config.json"), config.to_string()).expect("write");
}

/// `auths` of a config.json with one user and password.
fn auths(registry: &str, user: &str, password: &str) -> serde_json::Value {
    use base64::Engine as _;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    serde_json::json!({ "auths": { registry: { "auth": auth } } })
}

/// Names in a directory; none where there is no directory.
fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What is in the store of a scratch: every blob has the digest that it is named by.
#[track_caller]
fn assert_sound(root: &std::path::Path) {
    let blobs = root.join("images/blobs/sha256");
    for name in names(&blobs) {
        let bytes = std::fs::read(blobs.join(&name)).expect("read");
        assert_eq!(images::sha256(&bytes), format!("sha256:{name}"));
    }
}
