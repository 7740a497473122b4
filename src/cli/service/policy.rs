//! `--policy` of every command that lets an image in or runs one.
use crate::image::Policy;
use clap::Args;
use std::path::PathBuf;

/// Names the policy, unless an option does.
const VARIABLE: &str = "WHARF_POLICY";

/// Which images may come in and run.
#[derive(Debug, Clone, Args)]
pub(super) struct PolicyOption {
    /// Which images may come in and run, containers-policy.json(5) [default: $WHARF_POLICY, /etc/wharf/policy.json or
    /// /etc/containers/policy.json; all, where there is none]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl PolicyOption {
    pub(super) fn read(&self) -> anyhow::Result<Policy> {
        let variable = || std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(Policy::find(self.policy.clone().or_else(variable).as_deref())?)
    }
}
