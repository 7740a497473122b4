//! Applying one layer: a tar stream becomes files below an open directory, image-spec layer.md.
//!
//! The stream is an enemy's until proven otherwise. Every parent is resolved by the kernel below the
//! root's descriptor, every last name is acted on without following it, and bytes, entries and headers
//! are bounded, so that no layer can reach outside, fill memory or go on without end.

mod apply;
mod attributes;
mod file;
mod guard;
mod metadata;
mod place;
mod sparse;
mod whiteout;
mod write;

pub(super) use apply::apply;
pub(super) use guard::Guard;
pub(super) use whiteout::Whiteouts;
pub(super) use write::write;

use super::Error;

/// What a layer may ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of the decompressed stream.
    pub(super) bytes: u64,
    /// Entries.
    pub(super) entries: u64,
}

impl Limits {
    /// Real layers compress up to some 20 : 1; a layer of zeros reaches 1000 : 1. Small layers may hold a
    /// large sparse or zero-filled file, so the ratio counts from 16 GiB on (CVE-2017-14992).
    pub(super) fn for_compressed(bytes: u64) -> Self {
        Self { bytes: bytes.saturating_mul(200).max(16 << 30), entries: 10_000_000 }
    }
}

fn refuse(name: &[u8], reason: &str) -> Error {
    Error::invalid(format!("entry {:?}", String::from_utf8_lossy(name)), reason)
}
