//! wharf runs every instance of a service in a sandbox of its own on one Linux host, without a daemon.
//!
//! Two programs stand over this library: `wharf`, for a person at a terminal, and `wharf-oci`, an OCI
//! runtime for container engines. Both drive the same sandbox code.
//!
//! # The house
//!
//! | room | what is in it |
//! |---|---|
//! | [`cli`] | argument parsing and printing; one file per command |
//! | [`service`] | one supervisor per instance: start, restart, logs, stop, adoption |
//! | [`image`] | references, the content store, archives, registries, layer apply, overlay snapshots, image config → runtime spec |
//! | [`container`] | the OCI lifecycle and its state on disk |
//! | [`network`] | bridge, veth, addresses, published ports, name files |
//! | [`sandbox`] | runtime spec → [`sandbox::Plan`], and the Plan's execution between clone and execve |
//! | [`cgroup`] | limits, statistics, freezer and OOM events on cgroup v2, v1 and hybrid hosts |
//! | [`sys`] | the only home of `unsafe`: system calls that nix and rustix lack |
//!
//! Arrows run downward only: `cli` → `service` → {`image`, `container`, `network`} → {`sandbox`,
//! `cgroup`} → `sys`. `image` and `container` do not know each other: an image's configuration becomes
//! a runtime spec, and the spec is all that `container` sees.

pub mod cgroup;
pub mod cli;
pub mod container;
pub mod image;
pub mod network;
pub mod sandbox;
pub mod service;
pub mod sys;
