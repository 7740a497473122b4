//! Images on disk: references, the content store, archives, registries, layer apply, overlay snapshots, and
//! the translation of an image's configuration into a runtime spec.
//!
//! The store is an OCI image layout below `ROOT/images`, so that skopeo and umoci can read it; each
//! layer is unpacked once into a directory below `ROOT/layers`, in overlay's own form, and shared by
//! all instances. Whatever comes from an image is checked before it is used: digests while streaming,
//! paths by the kernel inside an open root, documents by size and kind. A [`Policy`] says which images may
//! come in and run.

mod archive;
mod bundle;
mod compression;
mod config;
mod digest;
mod error;
mod layer;
mod lock;
mod manifest;
mod overlay;
mod parallel;
mod platform;
mod policy;
mod progress;
mod reference;
pub mod registry;
mod store;
mod unpack;
mod upper;
mod xattr;

pub use archive::{Destination, SaveFormat, SaveOptions, save};
pub use compression::Compression;
pub use config::{Overrides, find_user};
pub use digest::Digest;
pub use error::Error;
pub use layer::{Limits as LayerLimits, WhiteoutForm, apply_layer};
pub use overlay::{Overlay, Upper, merged_layers};
pub use platform::Platform;
pub use policy::Policy;
pub use progress::{BlobState, Event, Progress};
pub use reference::ImageName;
pub use store::{
    CheckOptions, Commit, Details, Finding, HistoryEntry, Image, Import, Imported, InUse, LayerDetails,
    LoadOptions, Removed, Report, Store, StoreUsage, Summary, Usage, disk_bytes,
};

pub use upper::{Difference, DifferenceKind, UpperDirectory, differences};

use std::path::PathBuf;

/// Where `wharf load` reads from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A tar archive (plain, gzip or zstd) or a directory holding an OCI image layout or docker-archive.
    Path(PathBuf),
    /// The same archive on standard input.
    Stdin,
}
