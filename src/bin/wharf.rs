//! `wharf`: images and service instances on one host.

fn main() -> std::process::ExitCode {
    wharf::cli::service::main()
}
