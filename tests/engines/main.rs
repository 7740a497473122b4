//! Engines that call `wharf-oci` as they do in real life: containerd, Docker and Podman, each started with
//! its own state in a temporary directory. Nothing is pulled: the image comes from rootfs-fixtures.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod containerd;
mod docker;
mod engine;
mod podman;
mod podman_rootless;
