//! `wharf-oci`: an OCI runtime for container engines.

fn main() -> std::process::ExitCode {
    wharf::cli::oci::main()
}
