//! `wharf history`
use super::listing::{ago, print_json, print_table, short_digest};
use crate::image::{HistoryEntry, Store};
use crate::service::{Roots, size_in_words};
use clap::Args;

/// A command is cut after so many characters, unless all of it is asked for.
const COMMAND_WIDTH: usize = 60;

/// Show how an image was made, the last step first
#[derive(Debug, Args)]
pub(super) struct History {
    /// Name or digest
    image: String,
    /// Show commands whole
    #[arg(long)]
    no_trunc: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl History {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let store = Store::open(roots.state())?;
        let steps = store.history(&store.find(&self.image)?)?;
        if self.json {
            print_json(&steps)?;
            return Ok(0);
        }
        let rows: Vec<_> = steps.iter().map(|step| self.row(step)).collect();
        print_table(&["CREATED", "CREATED BY", "LAYER", "SIZE", "COMMENT"], &rows)?;
        Ok(0)
    }

    fn row(&self, step: &HistoryEntry) -> Vec<String> {
        let layer = step.layer.as_ref();
        vec![
            ago(step.created.as_deref()),
            self.one_line(step.created_by.as_deref()),
            layer.map_or_else(String::new, |layer| short_digest(&layer.digest)),
            layer.map_or_else(String::new, |layer| size_in_words(layer.size_bytes)),
            self.one_line(step.comment.as_deref()),
        ]
    }

    /// Words of an image, fit for a column.
    fn one_line(&self, text: Option<&str>) -> String {
        let words = text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        if self.no_trunc || words.chars().count() <= COMMAND_WIDTH {
            return words;
        }
        words.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect()
    }
}
