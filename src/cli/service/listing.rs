//! Listings: aligned columns for people, JSON for programs.
use crate::cli::printable::{printable, printable_json};
use crate::service::elapsed_since;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use std::fmt::Display;
use std::time::Duration;

/// Prints rows below a header, in columns.
pub(super) fn print_table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| printable(cell))));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    show!("{}", table.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>())
}

/// Prints one line.
pub(super) fn print_line(text: impl Display) -> anyhow::Result<()> {
    show!("{text}\n")
}

/// Prints one JSON document.
pub(super) fn print_json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    show!("{}\n", printable_json(&serde_json::to_string_pretty(value)?))
}

/// A time span for people, one or two units.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if seconds < 60 => format!("{seconds} s"),
        () if minutes < 60 => format!("{minutes} min"),
        () if hours < 48 => format!("{hours} h"),
        () => format!("{days} days"),
    }
}

/// How long ago an RFC 3339 time was; nothing where there is none.
pub(super) fn ago(at: Option<&str>) -> String {
    at.map_or_else(String::new, |at| format!("{} ago", span(elapsed_since(Some(at)))))
}

/// The first 12 digits of a digest.
pub(super) fn short_digest(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_unit_that_fits() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (86400 * 3, "3 days")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
