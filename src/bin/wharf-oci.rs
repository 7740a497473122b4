//! `wharf-oci`: an OCI runtime for container engines.
#![no_main]

#[global_allocator]
static ALLOCATOR: wharf::sys::arena::Arena = wharf::sys::arena::Arena;

wharf::entry!(wharf::cli::oci::main, sealed: wharf::cli::oci::SEALED);
