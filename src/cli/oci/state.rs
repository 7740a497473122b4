//! `wharf-oci state`
use super::context::Context;
use crate::container::{Container, ContainerId};
use clap::Args;

/// Show the state of a container as JSON
#[derive(Debug, Args)]
pub(super) struct StateCommand {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl StateCommand {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let state = Container::load(context.root()?, &self.id)?.state()?;
        show!("{}\n", serde_json::to_string_pretty(&state)?)?;
        Ok(0)
    }
}
