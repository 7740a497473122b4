//! `wharf-oci`: an OCI runtime for container engines.
#![no_main]

wharf::entry!(wharf::cli::oci::main, sealed: wharf::cli::oci::SEALED);
