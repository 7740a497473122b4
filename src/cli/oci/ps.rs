//! `wharf-oci ps`
use super::context::Context;
use super::list::Format;
use crate::container::{Container, ContainerId};
use anyhow::{Context as _, bail};
use clap::Args;
use rustix::process::Pid;
use std::collections::BTreeSet;
use std::process::Command;

/// List the processes of a container, with ps(1) of the host
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Form of the listing; `json` is an array of host pids
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// Options of ps(1), which must show the column PID [default: -ef]
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Ps {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let pids = Container::load(context.root()?, &self.id)?.processes()?;
        let pids: BTreeSet<i32> = pids.into_iter().map(|pid: Pid| pid.as_raw_nonzero().get()).collect();
        if self.format == Format::Json {
            show!("{}\n", serde_json::to_string(&pids)?)?;
            return Ok(0);
        }
        let mut options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        if options.is_empty() {
            options.push("-ef");
        }
        show!("{}", rows_of(&listing(&options)?, &pids)?)?;
        Ok(0)
    }
}

fn listing(options: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("ps").args(options).output();
    let output = output.context("run ps(1) of the host; install the package procps, or use --format json")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("ps {}: {}", options.join(" "), words.trim().lines().next().unwrap_or("failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The head, and the rows whose pid is among these.
fn rows_of(listing: &str, pids: &BTreeSet<i32>) -> anyhow::Result<String> {
    let mut lines = listing.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.context("ps shows no column PID; give options with which it does, such as -ef")?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let rows = std::iter::once(head).chain(lines.filter(is_ours));
    Ok(rows.flat_map(|row| [row, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_the_column_pid() {
        let listing = "UID          PID    PPID\nroot           7       1\nroot           1       7\n";
        let rows = rows_of(listing, &BTreeSet::from([7])).expect("rows");
        assert_eq!(rows, "UID          PID    PPID\nroot           7       1\n");
        assert!(rows_of("COMMAND\nsh\n", &BTreeSet::new()).is_err());
    }
}
