//! Images beside the instances made of them: removal, checks and the room they take.
use super::roots::make_private;
use super::{Error, Instance, Roots};
use crate::image::{
    self, CheckOptions, InUse, Progress, Removed, Report, Store, StoreUsage, Usage, disk_bytes,
};
use rustix::fs::FlockOperation;
use serde::Serialize;
use std::fs::File;
use std::path::PathBuf;

/// Takes a name from an image. It goes with its last name, unless an instance is made of it.
///
/// # Errors
/// Names the instance that is.
pub fn remove_image(roots: &Roots, name: &str) -> Result<Removed, Error> {
    let store = Store::open(roots.state())?;
    make_private(&roots.instances())?;
    let _pinned = pin_images(roots, FlockOperation::LockExclusive)?;
    let instances = Instance::all(roots)?;
    match store.remove(name, &in_use(&instances)) {
        Err(image::Error::InUse(_)) => {
            let digest = store.find(name)?.digest().to_owned();
            let user = instances.iter().find(|instance| instance.wish().image_digest == digest);
            match user {
                Some(user) => {
                    Err(Error::ImageInUse { image: name.to_owned(), instance: user.name().clone() })
                }
                None => Err(image::Error::InUse(name.to_owned()).into()),
            }
        }
        removed => Ok(removed?),
    }
}

/// Removes images that have no name, or `all`, as far as no instance is made of them, and content that nothing
/// uses. With `dry_run` it only tells of them.
///
/// # Errors
/// When the store or an instance cannot be read.
pub fn prune_images(roots: &Roots, all: bool, dry_run: bool) -> Result<Removed, Error> {
    let store = Store::open(roots.state())?;
    make_private(&roots.instances())?;
    let _pinned = pin_images(roots, FlockOperation::LockExclusive)?;
    Ok(store.prune(&in_use(&Instance::all(roots)?), all, dry_run)?)
}

fn in_use(instances: &[Instance]) -> InUse {
    let wishes = || instances.iter().map(Instance::wish);
    let name = |layer: &PathBuf| layer.file_name().map(|name| name.to_string_lossy().into_owned());
    InUse {
        images: wishes().map(|wish| wish.image_digest.clone()).collect(),
        layers: wishes().flat_map(|wish| wish.layers.iter().filter_map(name)).collect(),
    }
}

/// Keeps every image from being removed until the returned file is closed; a removal waits for it.
///
/// # Errors
/// Names the lock file.
pub fn hold_images(roots: &Roots) -> Result<File, Error> {
    make_private(&roots.instances())?;
    pin_images(roots, FlockOperation::LockShared)
}

/// Shared by creations of instances; a removal of images waits for all of them.
pub(super) fn pin_images(roots: &Roots, operation: FlockOperation) -> Result<File, Error> {
    let path = roots.instances().join(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Error::file("open", &path))?;
    rustix::fs::flock(&file, operation).map_err(Error::file("lock", &path))?;
    Ok(file)
}

/// Checks all images, and that the instances' layers are there. With `repair`, what can be derived from other
/// content is.
///
/// # Errors
/// When the store or an instance cannot be read; damage is no error.
pub fn check_images(roots: &Roots, options: CheckOptions, progress: &dyn Progress) -> Result<Report, Error> {
    let store = Store::open(roots.state())?;
    make_private(&roots.instances())?;
    let alone = options.repair || options.alone;
    let pinned = alone.then(|| pin_images(roots, FlockOperation::LockExclusive)).transpose()?;
    let instances = Instance::all(roots)?;
    let mut report = store.check(options, &in_use(&instances), progress)?;
    if report.is_damaged() && pinned.is_none() {
        // What others did in the meantime may have looked like damage.
        return check_images(roots, CheckOptions { alone: true, ..options }, progress);
    }
    for instance in &instances {
        let wish = instance.wish();
        if wish.layers.iter().all(|layer| layer.exists()) {
            continue;
        }
        let what = format!("instance {}", wish.name);
        let derived = options
            .repair
            .then(|| store.find(&wish.image_digest).and_then(|image| store.layers(&image, progress)));
        match derived {
            Some(Ok(_)) => report.find(what, "lacked unpacked layers; unpacked anew", true),
            Some(Err(error)) => report.find(what, format!("lacks unpacked layers: {error}"), false),
            None => report.find(what, "lacks unpacked layers; use --repair", false),
        }
    }
    Ok(report)
}

/// The room that everything takes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct DiskUsage {
    /// Images, layers and downloads.
    #[serde(flatten)]
    pub store: StoreUsage,
    /// What instances have written, their output included.
    pub instances: Usage,
}

/// Measures the room that everything takes.
///
/// # Errors
/// When the store or an instance cannot be read.
pub fn disk_usage(roots: &Roots) -> Result<DiskUsage, Error> {
    let instances = Instance::all(roots)?;
    let mut usage = Usage::default();
    for instance in &instances {
        let bytes = disk_bytes(instance.directory());
        let active = instance.state()?.status.is_active();
        usage.count += 1;
        usage.active += u64::from(active);
        usage.bytes += bytes;
        usage.reclaimable_bytes += if active { 0 } else { bytes };
    }
    let store = Store::open(roots.state())?.usage(&in_use(&instances))?;
    Ok(DiskUsage { store, instances: usage })
}
