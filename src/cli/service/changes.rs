//! `wharf diff` and `commit`
use super::listing::{print_json, print_line};
use crate::cli::printable::printable;
use crate::image::ImageName;
use crate::service::{CommitOptions, Instance, Roots, commit, diff};
use clap::{ArgAction, Args};
use std::io::Write as _;

/// List what an instance has changed against its image
#[derive(Debug, Args)]
#[command(
    after_help = "A line for each path: A added, C changed, D deleted. What is mounted in it is not compared."
)]
pub(super) struct Diff {
    /// Name of the instance
    name: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let differences = diff(&Instance::find(roots, &self.name)?)?;
        if self.json {
            print_json(&differences)?;
            return Ok(0);
        }
        let mut out = std::io::stdout().lock();
        for difference in &differences {
            writeln!(out, "{} {}", difference.kind, printable(&difference.path))?;
        }
        Ok(0)
    }
}

/// Make an image of an instance: its image and a layer of what it has changed
#[derive(Debug, Args)]
#[command(
    after_help = "Prints the digest of the new image. What is mounted in the instance and sockets are not part of it; \
        options of run are not taken over. Instructions of --change: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, \
        USER, VOLUME, WORKDIR, as in a Dockerfile."
)]
pub(super) struct Commit {
    /// Name of the instance
    name: String,
    /// Name of the new image
    #[arg(value_name = "IMAGE[:TAG]")]
    image: ImageName,
    /// Comment for the image's history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Who makes the image
    #[arg(long, short, value_name = "TEXT")]
    author: Option<String>,
    /// Change of the image's configuration, such as 'CMD ["serve"]'
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Freeze a running instance until its files are read
    #[arg(long, short, value_name = "true|false", default_value_t = true, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pause: bool,
}

impl Commit {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let options = CommitOptions {
            image: self.image,
            author: self.author,
            message: self.message,
            changes: self.change,
            pause: self.pause,
        };
        print_line(commit(&Instance::find(roots, &self.name)?, &options)?.digest)?;
        Ok(0)
    }
}
