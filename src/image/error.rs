//! What can be wrong with an image.
use super::parallel::Failure;
use std::io;
use std::path::Path;

/// Why an image cannot be read, stored, unpacked or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No image of that name in the store.
    #[error("no image {0}; see `wharf images`, or get one with `wharf pull` or `wharf load`")]
    NotFound(String),
    /// More than one image fits.
    #[error("{0} fits several images; give more of the digest, or a name")]
    Ambiguous(String),
    /// A reference that is none.
    #[error("{text:?} is not an image reference such as web:1.0: {reason}")]
    Reference {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A digest that is none.
    #[error("{0:?} is not a digest of the form sha256:<64 hexadecimal digits>")]
    Digest(String),
    /// Content is not what its digest says.
    #[error("{what}: the content has digest {found}, but {expected} was promised; it is damaged or forged")]
    Mismatch {
        /// Which blob or layer.
        what: String,
        /// What the document says.
        expected: String,
        /// What was read.
        found: String,
    },
    /// A document or archive that cannot be used.
    #[error("{what}: {reason}")]
    Invalid {
        /// Which archive, document or layer entry.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer's stream that breaks off or is no tar stream.
    #[error("the layer cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// A zstd stream that refers back too far.
    #[error(
        "{what}: takes more memory to decompress than a window of 32 MiB; compress it with a smaller one"
    )]
    Window {
        /// Which layer.
        what: String,
    },
    /// A media type that wharf does not know.
    #[error("{what} has media type {media_type:?}, which wharf does not support")]
    MediaType {
        /// Which document or layer.
        what: String,
        /// The type.
        media_type: String,
    },
    /// The image is for other machines only.
    #[error("{what} has no image for {wanted}; it has: {offered}")]
    Platform {
        /// Which index.
        what: String,
        /// This host's platform.
        wanted: String,
        /// The platforms in the index.
        offered: String,
    },
    /// What the image's configuration or the user's options ask for is not there.
    #[error("{0}")]
    Config(String),
    /// A layer cannot be shown with the ids of a user namespace.
    #[error("show layer {path} with the ids of a user namespace: {reason}; run without --userns")]
    Idmap {
        /// The layer's directory.
        path: String,
        /// What stands in the way.
        reason: String,
    },
    /// A policy that cannot be read for what it is.
    #[error("policy {file}: {place}: {reason}; see docs/policy.md")]
    Policy {
        /// The file.
        file: String,
        /// Where in it.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// An image that the policy does not let in, or run.
    #[error("{image} may not be used: {place} of the policy {policy} {reason}")]
    Refused {
        /// Which image.
        image: String,
        /// The file.
        policy: String,
        /// Where in it.
        place: String,
        /// What it says.
        reason: String,
    },
    /// An image that an instance is made of.
    #[error("image {0} is in use by an instance; remove the instance first, or see `wharf ps --all`")]
    InUse(String),
    /// An image that cannot be read, so that nobody knows what it uses.
    #[error(
        "nothing can be removed while image {image} is damaged: {reason}; pull or load it again, or remove it"
    )]
    Unknowable {
        /// Which image.
        image: String,
        /// What is wrong with it.
        reason: Box<Error>,
    },
    /// Another part of the same work failed.
    #[error("given up, because another part failed")]
    Abandoned,
    /// A file or directory could not be used.
    #[error("{action} {path}: {source}{}", hint(.source))]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Failure for Error {
    const ABANDONED: Self = Self::Abandoned;

    fn is_abandoned(&self) -> bool {
        matches!(self, Self::Abandoned)
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; make room, or choose another place with --root",
        io::ErrorKind::QuotaExceeded => "; raise the quota, or choose another place with --root",
        _ => "",
    }
}

impl Error {
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::File { action, path, source }
    }

    pub(super) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), reason: reason.into() }
    }
}
