//! `wharf-oci list`
use super::context::Context;
use crate::container::{Container, ContainerId, Error, State};
use clap::{Args, ValueEnum};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// List the containers below --root
#[derive(Debug, Args)]
pub(super) struct List {
    /// Form of the listing
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print ids alone
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

impl List {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let root = context.root()?;
        let ids = Container::ids(root)?;
        let states: Vec<State> = ids.iter().filter_map(|id| state_of(context, root, id)).collect();
        match self.format {
            _ if self.quiet => {
                show!("{}", states.iter().map(|state| format!("{}\n", state.id)).collect::<String>())?;
            }
            Format::Json => show!("{}\n", serde_json::to_string(&states)?)?,
            Format::Table => show!("{}", table(&states))?,
        }
        Ok(0)
    }
}

/// One container that cannot be read hides none of the others.
fn state_of(context: &Context, root: &Path, id: &ContainerId) -> Option<State> {
    let state = Container::load(root, id).and_then(|container| container.state());
    match state {
        Ok(mut state) => {
            state.owner = owner(root, id);
            Some(state)
        }
        Err(Error::NotFound(_)) => None,
        Err(error) => {
            context.log.warning(&format!("container {id}: {error}"));
            None
        }
    }
}

/// Name of the user that the state directory belongs to, `#UID` when it has none.
fn owner(root: &Path, id: &ContainerId) -> String {
    let Ok(directory) = std::fs::metadata(root.join(id.as_str())) else { return String::new() };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = directory.uid();
    user_name(&passwd, uid).map_or_else(|| format!("#{uid}"), str::to_owned)
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// runc's columns, at least 12 wide, 3 apart.
fn table(states: &[State]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |state: &State| {
        let bundle = state.bundle.display().to_string();
        let (pid, status) = (state.pid.to_string(), state.status.to_string());
        [state.id.to_string(), pid, status, bundle, state.created.clone(), state.owner.clone()]
    };
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(states.iter().map(row)).collect();
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (longest + 3).max(12)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push_str(&row[5]);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_its_head_as_runc_prints_it() {
        let head = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(table(&[]), head);
    }

    #[test]
    fn users_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("web"));
        assert_eq!(user_name(passwd, 1), None);
    }
}
