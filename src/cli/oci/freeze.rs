//! `wharf-oci pause` and `wharf-oci resume`
use super::context::Context;
use crate::container::{Container, ContainerId};
use clap::Args;

/// Suspend every process of a container
#[derive(Debug, Args)]
pub(super) struct Pause {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl Pause {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        Container::load(context.root()?, &self.id)?.pause()?;
        Ok(0)
    }
}

/// Let the processes of a paused container run again
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl Resume {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        Container::load(context.root()?, &self.id)?.resume()?;
        Ok(0)
    }
}
