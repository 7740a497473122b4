//! The black-box harness: runs the real programs below a scratch root of their own, with time limits,
//! and shows at the end that nothing was left behind.
//!
//! ```ignore
//! mod common;
//! use common::Scratch;
//!
//! #[test]
//! fn logs_carry_what_the_service_printed() {
//!     common::require_root!();
//!     let scratch = Scratch::new("logs");
//!     scratch.load("shell");
//!     let name = scratch.name("web");
//!     scratch.wharf(["run", "-d", "--name", &name, "shell", "echo", "hello"]).ok();
//!     common::eventually("the line is logged", || scratch.wharf(["logs", &name]).ok().stdout == "hello\n");
//! }
//! ```
//!
//! Tests of one binary run in parallel, so names that reach the host (instances, containers, and through
//! them cgroups) are made unique with [`Scratch::name`], and the leftover check looks only for things
//! that carry this scratch's id or path. Dropping the scratch removes every instance and container
//! through the programs themselves, then fails the test if anything remains.
#![allow(dead_code, unused_imports, unused_macros, clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod call;
pub(crate) mod cgroups;
pub(crate) mod criu;
mod fixtures;
pub(crate) mod layer;
pub(crate) mod layout;
mod leftovers;
mod requirements;
mod scan;
mod scratch;
pub(crate) mod trace;
mod tree;
mod user;
mod wait;

pub(crate) use bundle::Bundle;
pub(crate) use call::{Call, Outcome, Running};
pub(crate) use fixtures::{busybox_rootfs, image_archive};
pub(crate) use requirements::{
    CgroupHost, is_root, kernel_at_least, program_exists, require, require_root, skip, systemd_runs,
};
pub(crate) use scan::DESCRIPTOR_SCAN;
pub(crate) use scratch::{Scratch, wharf_oci};
pub(crate) use tree::{assert_same_tree, is_on_read_only_mount, mount_points, tree};
pub(crate) use user::{SUB_IDS, User};
pub(crate) use wait::{eventually, eventually_within, http_get, http_get_within, sparseness};
