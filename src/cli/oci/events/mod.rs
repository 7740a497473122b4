//! `wharf-oci events`
mod stats;

use super::context::Context;
use crate::container::{Container, ContainerId};
use anyhow::{Context as _, bail};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd as _;
use rustix::io::Errno;
use serde::Serialize;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Print statistics and OOM kills of a container as lines of JSON, until it has stopped
#[derive(Debug, Args)]
pub(super) struct Events {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// Time between two lines of statistics, such as 5s or 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print one line of statistics and leave
    #[arg(long)]
    stats: bool,
}

/// One line.
#[derive(Debug, Serialize)]
struct Event<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<stats::Data>,
}

/// v1 announces an OOM kill before it counts it: how soon to look again after an announcement, and how often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOOKS: u32 = 20;

impl Events {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let container = Container::load(context.root()?, &self.id)?;
        let pidfd = container.pidfd()?;
        if self.stats {
            self.print_stats(&container)?;
            return Ok(0);
        }
        if self.interval.is_zero() {
            bail!("--interval must be longer than 0");
        }
        let cgroup = container.cgroup().context("the container has no cgroup")?;
        let watch = cgroup.watch_oom()?;
        let mut kills = watch.read()?;
        let mut looks = 0u32;
        let mut next = Instant::now() + self.interval;
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            let wait = if looks > 0 { wait.min(LOOK_AGAIN) } else { wait };
            let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
            let mut polled = [
                PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN),
            ];
            match poll(&mut polled, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("wait for events"),
            }
            let ended = !polled[0].revents().is_empty();
            looks = if polled[1].revents().is_empty() { looks.saturating_sub(1) } else { LOOKS };
            let now = watch.read()?;
            for _ in kills..now {
                self.print("oom", None)?;
            }
            kills = kills.max(now);
            if ended {
                return Ok(0);
            }
            if Instant::now() >= next {
                self.print_stats(&container)?;
                next = Instant::now() + self.interval;
            }
        }
    }

    fn print_stats(&self, container: &Container) -> anyhow::Result<()> {
        let cgroup = container.cgroup().context("the container has no cgroup")?;
        self.print("stats", Some(stats::Data::new(&cgroup.stats()?, cgroup.details()?)))
    }

    fn print(&self, kind: &'static str, data: Option<stats::Data>) -> anyhow::Result<()> {
        let line = serde_json::to_string(&Event { r#type: kind, id: self.id.as_str(), data })?;
        writeln!(std::io::stdout().lock(), "{line}").context("write to standard output")
    }
}
