//! `wharf-oci plan`
use crate::cli::oci::context::Context;
use crate::container::{ContainerId, preview, read_config};
use clap::Args;
use std::path::PathBuf;

/// Show as JSON what create would do with a bundle; nothing is made
#[derive(Debug, Args)]
pub(super) struct PlanCommand {
    /// Directory that holds config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// The id that the container would have
    #[arg(value_name = "CONTAINER-ID", default_value = "container")]
    id: ContainerId,
}

impl PlanCommand {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let spec = read_config(&self.bundle, |warning| context.log.warning(warning))?;
        let plan = preview(&self.id, &self.bundle, &spec, context.systemd_cgroup)?;
        show!("{}\n", serde_json::to_string_pretty(&plan)?)?;
        Ok(0)
    }
}
