//! Argument parsing and printing, and nothing else: [`service`] for `wharf`, [`oci`] for `wharf-oci`, and
//! [`terminal`] for both.

pub mod oci;
pub mod service;
pub mod terminal;
mod usage;
