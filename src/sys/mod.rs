//! The only home of `unsafe`: safe wrappers of system calls that nix and rustix lack.
//!
//! Each wrapper names its man page, takes and returns owned or borrowed file descriptors, and
//! allocates nothing, so that it may run between clone and execve.
#![allow(unsafe_code)]
