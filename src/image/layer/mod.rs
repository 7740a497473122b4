//! Applying one layer: a tar stream becomes files below an open directory, image-spec layer.md.
//!
//! The stream is an enemy's until proven otherwise. Every parent is resolved by the kernel below the
//! root's descriptor, every last name is acted on without following it, and bytes, entries and headers
//! are bounded, so that no layer can reach outside, fill memory or go on without end.

mod apply;
mod file;
mod guard;
mod implied;
mod metadata;
mod place;
mod records;
mod sparse;
mod tape;
mod whiteout;
mod write;

pub(super) use apply::apply;
pub(super) use guard::{Guard, Guarded};
pub(super) use implied::{IMPLIED, has_implied, is_implied};
pub(super) use metadata::is_kept;
pub(super) use place::names_in;
pub(super) use whiteout::{OVERLAY_OPAQUE, Whiteouts, hides_lower, is_opaque};
pub(super) use write::write;

use super::Error;

/// What a layer may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that the layer may unpack to, holes counted; `None` is 200 for each compressed byte, and 16 GiB
    /// at least.
    pub bytes: Option<u64>,
    /// Entries, whiteouts counted.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: None, entries: 2_000_000 }
    }
}

impl Limits {
    /// Real layers compress up to some 20 : 1; a layer of zeros reaches 1000 : 1. Small layers may hold a
    /// large sparse or zero-filled file, so the ratio counts from 16 GiB on (CVE-2017-14992).
    pub(super) fn for_compressed(self, bytes: u64) -> Self {
        Self { bytes: self.bytes.or(Some(bytes.saturating_mul(200).max(16 << 30))), ..self }
    }
}

/// What becomes of a layer's whiteouts: image-spec layer.md#whiteouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteoutForm {
    /// overlayfs's own form, for a layer that is a directory of its own.
    Overlay,
    /// They remove what is there from layers applied before.
    Remove,
}

/// Applies one decompressed layer, a tar stream, to the tree below `root`, and touches nothing outside of it
/// whatever the stream holds.
///
/// # Errors
/// Names the entry that is refused or cannot be made. The tree is half made then, and the caller's to remove.
pub fn apply_layer(
    stream: impl std::io::Read,
    root: std::os::fd::BorrowedFd<'_>,
    form: WhiteoutForm,
    limits: Limits,
) -> Result<(), Error> {
    let whiteouts = match form {
        WhiteoutForm::Overlay => Whiteouts::Overlay,
        WhiteoutForm::Remove => Whiteouts::removing(),
    };
    let guard = layer_guard(limits);
    apply(guard.stream(stream), root, whiteouts, &guard)
}

/// A guard of a layer's stream.
pub(super) fn layer_guard(limits: Limits) -> Guard {
    Guard::new(limits, ", unless you trust it: then raise --max-layer-size")
}

fn refuse(name: &[u8], reason: &str) -> Error {
    Error::invalid(format!("entry {:?}", String::from_utf8_lossy(name)), reason)
}
