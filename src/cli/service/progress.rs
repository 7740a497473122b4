//! Progress of blobs: bars for people who look on, lines for logs, JSON for programs.
use crate::image::{BlobState, Digest, Event, Progress};
use crate::service::size_in_words;
use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressKind {
    Auto,
    Bars,
    Lines,
    Json,
}

/// What is told meanwhile.
#[derive(Debug, Args)]
pub(super) struct ProgressOptions {
    /// How progress is shown: bars on a terminal and lines elsewhere (auto), or json, an object a line on
    /// standard output
    #[arg(long, value_name = "KIND", default_value = "auto", conflicts_with = "quiet")]
    progress: ProgressKind,
    /// Print nothing but the digest
    #[arg(long, short)]
    quiet: bool,
}

impl ProgressOptions {
    pub(super) fn style(&self) -> Style {
        if self.quiet { Style::Quiet } else { self.progress.style() }
    }
}

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Bars,
    Lines,
    Json,
    Quiet,
}

impl ProgressKind {
    pub(super) fn style(self) -> Style {
        match self {
            Self::Bars => Style::Bars,
            Self::Lines => Style::Lines,
            Self::Json => Style::Json,
            Self::Auto if rustix::termios::isatty(rustix::stdio::stderr()) => Style::Bars,
            Self::Auto => Style::Lines,
        }
    }

    /// Nothing where there would be lines.
    pub(super) fn only_bars(self) -> Style {
        match self.style() {
            Style::Lines => Style::Quiet,
            style => style,
        }
    }
}

/// Tells of events. Progress goes to standard error, JSON to standard output.
pub(super) struct Reporter {
    style: Style,
    bars: MultiProgress,
    blobs: Mutex<HashMap<Digest, Blob>>,
}

struct Blob {
    bar: Option<ProgressBar>,
    told: Instant,
    arriving: bool,
}

/// JSON lines of a blob come no more often.
const JSON_INTERVAL: Duration = Duration::from_millis(200);

impl Reporter {
    pub(super) fn new(style: Style) -> Self {
        let bars = MultiProgress::with_draw_target(match style {
            Style::Bars => ProgressDrawTarget::stderr_with_hz(10),
            _ => ProgressDrawTarget::hidden(),
        });
        Self { style, bars, blobs: Mutex::new(HashMap::new()) }
    }

    /// Leaves the terminal in order, whatever becomes of the work.
    pub(super) fn end(&self) {
        for blob in self.blobs().values() {
            if let Some(bar) = blob.bar.as_ref().filter(|bar| !bar.is_finished()) {
                bar.abandon();
            }
        }
    }

    /// The last line for programs.
    pub(super) fn result(&self, value: &Value) -> anyhow::Result<()> {
        Ok(show!("{value}\n")?)
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<Digest, Blob>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bar(&self, digest: &Digest, size: u64, state: &BlobState<'_>) {
        let mut blobs = self.blobs();
        let blob = blobs.entry(digest.clone()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(size));
            bar.set_style(bar_style());
            bar.set_prefix(digest.short().to_owned());
            Blob { bar: Some(bar), told: Instant::now(), arriving: false }
        });
        let Some(bar) = &blob.bar else { return };
        match state {
            BlobState::At(bytes) => {
                blob.arriving = true;
                bar.set_position(*bytes);
                bar.set_message("");
            }
            // It is unpacked while it arrives, and cannot be further than that.
            BlobState::Unpacking(_) if blob.arriving => {}
            BlobState::Unpacking(bytes) => {
                bar.set_position(*bytes);
                bar.set_message(words(state));
            }
            BlobState::Done => {
                blob.arriving = false;
                bar.set_position(size);
                bar.set_message(words(state));
            }
            BlobState::Retrying(_) | BlobState::Waiting => bar.set_message(words(state)),
            _ => {
                bar.set_position(size);
                bar.finish_with_message(words(state));
            }
        }
    }

    fn line(&self, digest: &Digest, size: u64, state: &BlobState<'_>) {
        let mut blobs = self.blobs();
        let begun = blobs.contains_key(digest);
        let text = match state {
            BlobState::At(_) | BlobState::Unpacking(_) if begun => return,
            BlobState::At(0) => size_in_words(size),
            BlobState::At(bytes) => {
                format!("{}, going on after {}", size_in_words(size), size_in_words(*bytes))
            }
            other => words(other),
        };
        blobs.entry(digest.clone()).or_insert(Blob { bar: None, told: Instant::now(), arriving: false });
        tell!("{}: {text}", digest.short());
    }

    fn json(&self, digest: &Digest, size: u64, state: &BlobState<'_>) {
        let mut blobs = self.blobs();
        let now = Instant::now();
        let mut object = json!({ "event": "blob", "digest": digest.to_string(), "size": size });
        let (name, more) = match state {
            BlobState::At(bytes) => {
                let known = blobs.get(digest).is_some_and(|blob| now - blob.told < JSON_INTERVAL);
                if known {
                    return;
                }
                ("running", Some(("bytes", json!(bytes))))
            }
            BlobState::Present => ("present", None),
            BlobState::Waiting => ("waiting", None),
            BlobState::Retrying(reason) => ("retrying", Some(("reason", json!(reason)))),
            BlobState::Done => ("done", None),
            BlobState::Mounted(from) => ("mounted", Some(("from", json!(from)))),
            BlobState::Skipped => ("skipped", None),
            BlobState::Unpacking(bytes) => {
                if blobs.get(digest).is_some_and(|blob| now - blob.told < JSON_INTERVAL) {
                    return;
                }
                ("unpacking", Some(("bytes", json!(bytes))))
            }
            BlobState::Unpacked => ("unpacked", None),
        };
        blobs.insert(digest.clone(), Blob { bar: None, told: now, arriving: false });
        object["state"] = json!(name);
        if let Some((key, value)) = more {
            object[key] = value;
        }
        print_json_line(&object);
    }
}

/// A reader that has gone away learns nothing more; the work goes on.
fn print_json_line(object: &Value) {
    let _ = show!("{object}\n");
}

impl Progress for Reporter {
    fn event(&self, event: &Event<'_>) {
        match (self.style, event) {
            (Style::Quiet, _) => {}
            (Style::Json, Event::Resolved(digest)) => {
                print_json_line(&json!({ "event": "resolved", "digest": digest.to_string() }));
            }
            (Style::Json, Event::Warning(text)) => {
                print_json_line(&json!({ "event": "warning", "text": text }));
            }
            (Style::Json, Event::Blob { digest, size, state }) => self.json(digest, *size, state),
            (_, Event::Resolved(_)) => {}
            // Above the bars; a terminal that cannot be written to shows none of them.
            (Style::Bars, Event::Warning(text)) => drop(self.bars.println(format!("wharf: warning: {text}"))),
            (Style::Lines, Event::Warning(text)) => tell!("wharf: warning: {text}"),
            (Style::Bars, Event::Blob { digest, size, state }) => self.bar(digest, *size, state),
            (Style::Lines, Event::Blob { digest, size, state }) => self.line(digest, *size, state),
        }
    }
}

fn words(state: &BlobState<'_>) -> String {
    match state {
        BlobState::At(bytes) => size_in_words(*bytes),
        BlobState::Present => "is there already".to_owned(),
        BlobState::Waiting => "another process fetches it; waiting".to_owned(),
        BlobState::Retrying(reason) => format!("trying again: {reason}"),
        BlobState::Done => "done".to_owned(),
        BlobState::Mounted(from) => format!("taken from {from} there"),
        BlobState::Skipped => "may not be passed on; left out".to_owned(),
        BlobState::Unpacking(_) => "unpacking".to_owned(),
        BlobState::Unpacked => "unpacked".to_owned(),
    }
}

fn bar_style() -> ProgressStyle {
    let template = "{prefix} [{bar:30}] {bytes:>10} / {total_bytes:<10} {wide_msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}
