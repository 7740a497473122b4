//! `wharf fsck`
use super::listing::{print_json, print_line};
use super::progress::{ProgressKind, Reporter};
use crate::image::{CheckOptions, Report};
use crate::service::{Roots, check_images, size_in_words};
use clap::Args;

/// Damage was found, and is not repaired.
const DAMAGED: u8 = 1;

/// Check every blob, document and unpacked layer, and repair what can be derived from other content
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 when all is sound or has been repaired, 1 when damage is left, 125 when wharf itself \
        fails. An unpacked layer that differs from its blob is unpacked anew; a damaged blob is removed, so that the next \
        pull or load of its image brings it again."
)]
pub(super) struct Fsck {
    /// Repair what can be repaired
    #[arg(long)]
    repair: bool,
    /// Leave out the comparison of unpacked layers with their blobs
    #[arg(long)]
    quick: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Fsck {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let options = CheckOptions { repair: self.repair, quick: self.quick, alone: false };
        let reporter = Reporter::new(ProgressKind::Auto.only_bars());
        let report = check_images(roots, options, &reporter);
        reporter.end();
        let report = report?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&report)?;
        }
        Ok(if report.is_damaged() { DAMAGED } else { 0 })
    }
}

fn print(report: &Report) -> anyhow::Result<()> {
    for finding in &report.findings {
        let mark = if finding.repaired { "repaired: " } else { "" };
        print_line(format!("{mark}{} {}", finding.what, finding.problem))?;
    }
    let Report { images, blobs, blob_bytes, layers, findings } = report;
    let left = findings.iter().filter(|finding| !finding.repaired).count();
    print_line(format!(
        "checked {images} images, {blobs} blobs ({}), {layers} unpacked layers: {} repaired, {left} damaged",
        size_in_words(*blob_bytes),
        findings.len() - left
    ))
}
