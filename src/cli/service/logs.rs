//! `wharf logs`
use crate::service::log::{Follow, Reader, Record, Stream};
use crate::service::{Instance, Roots, reconcile};
use anyhow::Context as _;
use clap::Args;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::SystemTime;

/// Show what an instance has printed
#[derive(Debug, Args)]
#[command(after_help = "Its standard output goes to standard output, its standard error to standard error.")]
pub(super) struct Logs {
    name: String,
    /// Go on until it has ended
    #[arg(long, short)]
    follow: bool,
    /// Show the last lines only
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<usize>,
    /// Show what was printed since this time (2026-01-31T12:00:00Z) or for so long (10m, 2h30m)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Show when each line was printed
    #[arg(long, short)]
    timestamps: bool,
}

impl Logs {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let instance = Instance::find(roots, &self.name)?;
        reconcile(&instance)?;
        let mut reader = Reader::open(&instance.path("log"))?;
        let since = self.since.map(|at| humantime::format_rfc3339_nanos(at).to_string());
        let mut printer = Printer::new(self.timestamps, since);
        let mut tail = self.tail.map(Tail::new);
        reader.read(|record| match &mut tail {
            Some(tail) => tail.keep(record),
            None => printer.print(record),
        })?;
        if let Some(tail) = tail {
            tail.records.iter().for_each(|kept| printer.print(kept.record()));
        }
        if self.follow {
            reader.follow(
                |record| printer.print(record),
                || {
                    // Without a supervisor nobody writes, and nobody will until the instance is started.
                    let lives = instance.supervisor()?.is_some();
                    Ok(if lives && !printer_failed() { Follow::GoOn } else { Follow::Finish })
                },
            )?;
        }
        printer.result.context("print").map(|()| 0)
    }
}

/// Set when standard output or error has gone away; a follower has nobody to follow for.
static FAILED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

fn printer_failed() -> bool {
    FAILED.load(std::sync::atomic::Ordering::Relaxed)
}

/// Prints records to the stream they came from.
struct Printer {
    timestamps: bool,
    since: Option<String>,
    /// Whether the last record of each stream ended its line.
    fresh: [bool; 2],
    result: io::Result<()>,
}

impl Printer {
    fn new(timestamps: bool, since: Option<String>) -> Self {
        Self { timestamps, since, fresh: [true; 2], result: Ok(()) }
    }

    fn print(&mut self, record: Record<'_>) {
        // Times of one form and length compare as text.
        if self.result.is_err() || self.since.as_deref().is_some_and(|since| record.time < since) {
            return;
        }
        let printed = match record.stream {
            Stream::Stdout => self.write(record, 0, &mut io::stdout().lock()),
            Stream::Stderr => self.write(record, 1, &mut io::stderr().lock()),
        };
        if printed.is_err() {
            FAILED.store(true, std::sync::atomic::Ordering::Relaxed);
            self.result = printed;
        }
    }

    fn write(&mut self, record: Record<'_>, stream: usize, out: &mut impl Write) -> io::Result<()> {
        if self.timestamps && self.fresh[stream] {
            write!(out, "{} ", record.time)?;
        }
        out.write_all(record.text)?;
        if record.complete {
            out.write_all(b"\n")?;
        } else {
            out.flush()?;
        }
        self.fresh[stream] = record.complete;
        Ok(())
    }
}

/// The last lines, records of unfinished ones included.
struct Tail {
    lines: usize,
    complete: usize,
    records: VecDeque<Kept>,
}

struct Kept {
    time: String,
    stream: Stream,
    complete: bool,
    text: Vec<u8>,
}

impl Kept {
    fn record(&self) -> Record<'_> {
        Record { time: &self.time, stream: self.stream, complete: self.complete, text: &self.text }
    }
}

impl Tail {
    fn new(lines: usize) -> Self {
        Self { lines, complete: 0, records: VecDeque::new() }
    }

    fn keep(&mut self, record: Record<'_>) {
        self.complete += usize::from(record.complete);
        self.records.push_back(Kept {
            time: record.time.to_owned(),
            stream: record.stream,
            complete: record.complete,
            text: record.text.to_owned(),
        });
        let unfinished = usize::from(self.records.back().is_some_and(|last| !last.complete));
        while self.complete + unfinished > self.lines
            && let Some(dropped) = self.records.pop_front()
        {
            self.complete -= usize::from(dropped.complete);
        }
    }
}

fn since(text: &str) -> anyhow::Result<SystemTime> {
    if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        return Ok(at);
    }
    let span = humantime::parse_duration(text).ok().with_context(|| {
        format!("{text:?} is neither a time (2026-01-31T12:00:00Z) nor a time span (10m)")
    })?;
    SystemTime::now().checked_sub(span).with_context(|| format!("{text:?} is too long ago"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str, complete: bool) -> Record<'_> {
        Record {
            time: "2026-01-01T00:00:00.000000000Z",
            stream: Stream::Stdout,
            complete,
            text: text.as_bytes(),
        }
    }

    #[test]
    fn the_tail_counts_lines_not_records() {
        let mut tail = Tail::new(2);
        for (text, complete) in [("one", true), ("tw", false), ("o", true), ("three", true)] {
            tail.keep(record(text, complete));
        }
        let texts: Vec<_> = tail.records.iter().map(|kept| String::from_utf8_lossy(&kept.text)).collect();
        assert_eq!(texts, ["tw", "o", "three"]);
        tail.keep(record("prompt", false));
        assert_eq!(tail.records.len(), 2);
    }

    #[test]
    fn since_is_a_time_or_a_time_span() {
        assert!(since("2026-01-31T12:00:00Z").is_ok());
        assert!(since("10m").unwrap() < SystemTime::now());
        assert!(since("yesterday").is_err());
    }
}
