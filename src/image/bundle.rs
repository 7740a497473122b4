//! `wharf unpack`: an OCI bundle, config.json and rootfs, for any OCI runtime.
use super::config::{Overrides, runtime_spec};
use super::layer::{Limits, Whiteouts};
use super::store::blobs::Blobs;
use super::unpack::Layer;
use super::{Error, Image};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Writes the bundle into a directory that is missing or empty.
pub(super) fn write(
    image: &Image,
    layers: &[Layer],
    blobs: &Blobs,
    limits: Limits,
    bundle: &Path,
) -> Result<(), Error> {
    let existed = bundle.exists();
    if existed && fs::read_dir(bundle).map_err(Error::file("list", bundle))?.next().is_some() {
        return Err(Error::invalid(bundle.display().to_string(), "is not empty; name a new directory"));
    }
    let done = fill(image, layers, blobs, limits, bundle);
    if done.is_err() {
        // The user is told of the first failure; what cannot be removed is visible.
        for made in ["rootfs", "config.json"] {
            let path = bundle.join(made);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        if !existed {
            let _ = fs::remove_dir(bundle);
        }
    }
    done
}

fn fill(image: &Image, layers: &[Layer], blobs: &Blobs, limits: Limits, bundle: &Path) -> Result<(), Error> {
    let rootfs = bundle.join("rootfs");
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&rootfs);
    made.map_err(Error::file("create", &rootfs))?;
    let root = File::open(&rootfs).map_err(Error::file("open", &rootfs))?;
    for layer in layers {
        layer.apply_stored(blobs, root.as_fd(), Whiteouts::removing(), limits)?;
    }
    let spec = runtime_spec(image.config(), root.as_fd(), &Overrides::default())?;
    let path = bundle.join("config.json");
    let text =
        serde_json::to_vec_pretty(&spec).map_err(|error| Error::invalid("config.json", error.to_string()))?;
    fs::write(&path, text).map_err(Error::file("write", &path))
}
