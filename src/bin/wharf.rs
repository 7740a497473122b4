//! `wharf`: images and service instances on one host.
#![no_main]

wharf::entry!(wharf::cli::service::main);
