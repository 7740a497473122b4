//! `wharf stats`
use super::listing::{print_json, print_table};
use crate::cgroup::Stats;
use crate::service::{Error, Instance, Roots, reconcile, size_in_words};
use clap::Args;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Show what running instances use
#[derive(Debug, Args)]
#[command(
    name = "stats",
    after_help = "CPU is the share of one CPU over the last second; memory leaves out page cache that is dropped first."
)]
pub(super) struct StatsCommand {
    /// Names [default: all that run]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Show once
    #[arg(long)]
    no_stream: bool,
    /// Print as JSON, one array a look
    #[arg(long)]
    json: bool,
}

/// One instance at one moment, field names for programs.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    cpu_percent: f64,
    memory_used_bytes: u64,
    memory_percent: Option<f64>,
    #[serde(flatten)]
    stats: Stats,
}

impl StatsCommand {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let mut before = HashMap::new();
        self.look(roots, &mut before)?;
        loop {
            std::thread::sleep(INTERVAL);
            let rows = self.look(roots, &mut before)?;
            self.print(&rows)?;
            if self.no_stream || crate::cli::is_unread() {
                return Ok(0);
            }
        }
    }

    fn look(&self, roots: &Roots, before: &mut HashMap<String, (Instant, u64)>) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for instance in self.instances(roots)? {
            let Some(stats) = stats_of(&instance)? else { continue };
            let name = instance.name().to_string();
            let now = (Instant::now(), stats.cpu_usage_ns);
            let earlier = before.insert(name.clone(), now).unwrap_or(now);
            rows.push(row(name, stats, earlier, now));
        }
        Ok(rows)
    }

    fn instances(&self, roots: &Roots) -> Result<Vec<Instance>, Error> {
        if self.names.is_empty() {
            return Instance::all(roots);
        }
        let named = self.names.iter().map(|name| {
            let instance = Instance::find(roots, name)?;
            reconcile(&instance)?;
            match instance.state()?.status.is_active() {
                true => Ok(instance),
                false => Err(Error::NotRunning(instance.name().clone())),
            }
        });
        named.collect()
    }

    fn print(&self, rows: &[Row]) -> anyhow::Result<()> {
        if self.json {
            return print_json(rows);
        }
        if !self.no_stream && std::io::stdout().is_terminal() {
            // Home, and clear below: each look takes the place of the one before.
            write!(std::io::stdout(), "\x1b[H\x1b[J")?;
        }
        let header = ["NAME", "CPU %", "MEMORY", "LIMIT", "MEM %", "PIDS", "READ", "WRITTEN", "OOM KILLS"];
        print_table(&header, &rows.iter().map(columns).collect::<Vec<_>>())
    }
}

/// `None` when it does not run.
fn stats_of(instance: &Instance) -> Result<Option<Stats>, Error> {
    let Some(container) = instance.container()? else { return Ok(None) };
    let Some(cgroup) = container.cgroup() else { return Ok(None) };
    match cgroup.stats() {
        Ok(stats) => Ok(Some(stats)),
        // It ended while it was looked at.
        Err(_) if container.pid().is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn row(name: String, stats: Stats, earlier: (Instant, u64), now: (Instant, u64)) -> Row {
    let elapsed_ns = now.0.duration_since(earlier.0).as_nanos() as f64;
    let used_ns = now.1.saturating_sub(earlier.1) as f64;
    let cpu_percent = if elapsed_ns > 0.0 { rounded(100.0 * used_ns / elapsed_ns) } else { 0.0 };
    let memory_used_bytes = stats.memory_usage_bytes.saturating_sub(stats.memory_inactive_file_bytes);
    let memory_percent =
        stats.memory_limit_bytes.map(|limit| rounded(100.0 * memory_used_bytes as f64 / limit.max(1) as f64));
    Row { name, cpu_percent, memory_used_bytes, memory_percent, stats }
}

fn rounded(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

fn columns(row: &Row) -> Vec<String> {
    let unlimited = || "-".to_owned();
    let pids = row.stats.pids_limit.map_or_else(String::new, |limit| format!("/{limit}"));
    vec![
        row.name.clone(),
        format!("{:.1}", row.cpu_percent),
        size_in_words(row.memory_used_bytes),
        row.stats.memory_limit_bytes.map_or_else(unlimited, size_in_words),
        row.memory_percent.map_or_else(unlimited, |percent| format!("{percent:.1}")),
        format!("{}{pids}", row.stats.pids_current),
        size_in_words(row.stats.io_read_bytes),
        size_in_words(row.stats.io_write_bytes),
        row.stats.oom_kills.to_string(),
    ]
}
