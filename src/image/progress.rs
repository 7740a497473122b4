//! What is told while an image is pulled, loaded, unpacked or pushed.
use super::Digest;

/// Takes events, from several threads.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

/// Tells nobody.
impl Progress for () {
    fn event(&self, _: &Event<'_>) {}
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// The reference stands for this digest.
    Resolved(&'a Digest),
    /// A blob got further.
    Blob {
        /// Which one.
        digest: &'a Digest,
        /// Its whole size, bytes.
        size: u64,
        /// How far it is.
        state: BlobState<'a>,
    },
    /// Something failed that is made up for, such as by another mirror.
    Warning(&'a str),
}

/// How far a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobState<'a> {
    /// It was there before.
    Present,
    /// Another process fetches it just now.
    Waiting,
    /// So many bytes are there.
    At(u64),
    /// It broke off, and is tried again.
    Retrying(&'a str),
    /// It is there, and verified.
    Done,
    /// So many of its bytes have been unpacked.
    Unpacking(u64),
    /// Its layer is unpacked, or was before.
    Unpacked,
    /// The registry took it from another repository of its own.
    Mounted(&'a str),
    /// It is not meant to be pushed.
    Skipped,
}
