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
        let root = context.root()?;
        let found = match Container::load(root, &self.id) {
            // Remains of a command that was killed, unless a `create` is at work, which then comes to its end.
            Err(Error::NotFound(_) | Error::Record { .. }) if self.force => {
                match Container::delete_remains(root, &self.id)? {
                    true => return Ok(0),
                    false => Container::load(root, &self.id),
                }
            }
            found => found,
        };
        match found {
            Ok(container) => warn(context, &container.delete(self.force)?),
            Err(Error::NotFound(_)) if self.force => {}
            Err(error) => return Err(error.into()),
        }
        Ok(0)
    }
}
