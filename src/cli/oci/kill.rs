//! `wharf-oci kill`
use super::context::Context;
use crate::container::{Container, ContainerId, parse_signal};
use clap::Args;

/// Send a signal to the container's first process
#[derive(Debug, Args)]
pub(super) struct Kill {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// Name with or without SIG (TERM, SIGTERM, RTMIN+3), or number
    #[arg(default_value = "SIGTERM")]
    signal: String,
    /// Send it to every process of the container
    #[arg(long, short)]
    all: bool,
}

impl Kill {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let signal = parse_signal(&self.signal)?;
        Container::load(context.root()?, &self.id)?.kill(signal, self.all)?;
        Ok(0)
    }
}
