//! `wharf-oci start`
use super::context::Context;
use crate::container::{Container, ContainerId};
use clap::Args;

/// Let the program of a created container run
#[derive(Debug, Args)]
pub(super) struct Start {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl Start {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        Container::load(context.root()?, &self.id)?.start()?;
        context.log.debug(&format!("started container {}", self.id));
        Ok(0)
    }
}
