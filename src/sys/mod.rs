//! The only home of `unsafe`: safe wrappers of system calls that nix and rustix lack.
//!
//! Each wrapper names its man page, takes and returns owned or borrowed file descriptors, and
//! allocates nothing, so that it may run between clone and execve; netlink, commands and names of signals are only for parents.
#![allow(unsafe_code)]
#[cfg(test)]
pub(crate) mod allocations;
pub mod arena;
pub mod bpf;
pub mod clone;
pub mod command;
pub mod descriptor;
pub mod entry;
pub mod exec;
pub mod fd;
pub mod flag;
pub mod heap;
pub mod idle;
mod in_place;
pub mod itself;
pub mod keyring;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod netdev;
pub(crate) mod netlink;
pub mod network_ahead;
pub mod pidfd;
pub mod process;
pub mod record;
pub mod seccomp;
pub mod signal;
pub mod signal_name;
