//! `wharf`: images and service instances on one host.
#![no_main]

#[global_allocator]
static ALLOCATOR: wharf::sys::arena::Arena = wharf::sys::arena::Arena;

wharf::entry!(wharf::cli::service::main);
