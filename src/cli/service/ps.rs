//! `wharf ps`
use super::listing::{ago, print_json, print_line, print_table, span};
use crate::service::{Instance, LastExit, Roots, State, Status, elapsed_since, reconcile};
use clap::Args;
use serde::Serialize;
use std::time::SystemTime;

/// List instances
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Those that do not run as well
    #[arg(long, short)]
    all: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Print names alone
    #[arg(long, short)]
    quiet: bool,
}

/// One instance, field names for programs.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    image: String,
    status: Status,
    pid: Option<i32>,
    restart_count: u32,
    address: Option<String>,
    ports: Vec<String>,
    created: String,
    started_at: Option<String>,
    last_exit: Option<LastExit>,
    start_error: Option<String>,
    #[serde(skip)]
    words: String,
}

impl Ps {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let mut rows = Vec::new();
        for instance in Instance::all(roots)? {
            // One instance that cannot be put right hides none of the others.
            if let Err(error) = reconcile(&instance)
                && instance.directory().exists()
            {
                tell!("wharf: {}: {error}", instance.name());
            }
            // Gone meanwhile, when it has no state.
            let Ok(state) = instance.state() else { continue };
            if self.all || state.status.is_active() {
                rows.push(row(&instance, state));
            }
        }
        self.print(&rows)?;
        Ok(0)
    }

    fn print(&self, rows: &[Row]) -> anyhow::Result<()> {
        if self.quiet {
            return rows.iter().try_for_each(|row| print_line(&row.name));
        }
        if self.json {
            return print_json(rows);
        }
        let header = ["NAME", "IMAGE", "STATUS", "PID", "RESTARTS", "ADDRESS", "PORTS", "CREATED"];
        print_table(&header, &rows.iter().map(columns).collect::<Vec<_>>())
    }
}

fn row(instance: &Instance, state: State) -> Row {
    let wish = instance.wish();
    Row {
        words: status_in_words(&state),
        name: wish.name.to_string(),
        image: wish.image.clone(),
        status: state.status,
        pid: state.pid,
        restart_count: state.restart_count,
        address: state.lease.as_ref().map(|lease| lease.address.to_string()),
        ports: wish.ports.iter().map(ToString::to_string).collect(),
        created: wish.created.clone(),
        started_at: state.started_at,
        last_exit: state.last_exit,
        start_error: state.start_error,
    }
}

fn columns(row: &Row) -> Vec<String> {
    vec![
        row.name.clone(),
        row.image.clone(),
        row.words.clone(),
        row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        row.restart_count.to_string(),
        row.address.clone().unwrap_or_else(|| "-".to_owned()),
        if row.ports.is_empty() { "-".to_owned() } else { row.ports.join(", ") },
        ago(Some(&row.created)),
    ]
}

fn status_in_words(state: &State) -> String {
    let last = state.last_exit.as_ref();
    let reason = last.map_or("never ran", |exit| exit.reason.as_str());
    match state.status {
        Status::Created => "created".to_owned(),
        Status::Running if state.restart_count > 0 => {
            format!("running {} ({reason} before)", span(state.running_for()))
        }
        Status::Running => format!("running {}", span(state.running_for())),
        Status::Restarting => {
            let at = state.next_start_at.as_deref().and_then(|at| humantime::parse_rfc3339(at).ok());
            let wait = at.and_then(|at| at.duration_since(SystemTime::now()).ok()).unwrap_or_default();
            let reason = state.start_error.as_deref().unwrap_or(reason);
            format!("restarting in {} ({reason})", span(wait))
        }
        Status::Stopped => {
            let at = last.map(|exit| exit.at.as_str());
            format!("stopped {} ago ({reason})", span(elapsed_since(at)))
        }
    }
}
