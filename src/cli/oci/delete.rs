//! `wharf-oci delete`
use super::context::Context;
use super::run::warn;
use crate::container::{Container, ContainerId, Error};
use clap::Args;

/// Delete a stopped container: its cgroup and its state
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// Kill it first when it runs; no error when it does not exist
    #[arg(long, short)]
    force: bool,
}

impl Delete {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match Container::load(context.root()?, &self.id) {
            Ok(container) => warn(context, &container.delete(self.force)?),
            Err(Error::NotFound(_) | Error::Record { .. }) if self.force => {
                Container::delete_remains(context.root()?, &self.id)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(0)
    }
}
