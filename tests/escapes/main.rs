//! Published escapes from container runtimes and image tools, tried: each test makes the attack happen, shows that it
//! did, and that the host is as it was. One file for each surface; test names carry the CVE.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod bombs;
mod capabilities;
mod cgroup;
mod cwd;
mod descriptors;
mod dev;
mod exe;
mod hooks;
mod hostile_image;
mod image_documents;
mod layers;
mod mounts;
mod network;
mod proc;
mod seccomp;
mod sentinel;
mod smuggling;
mod state;
mod user;
