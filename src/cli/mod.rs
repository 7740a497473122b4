//! Argument parsing and printing, and nothing else: [`service`] for `wharf`, [`oci`] for `wharf-oci`.

pub mod oci;
pub mod service;
