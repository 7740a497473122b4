//! What an instance has changed against its image: listed, or made an image of.
use super::client::{Pause, pause};
use super::lock::SupervisorLock;
use super::{Error, Instance, UpperKind};
use crate::image::{
    Commit, Difference, ImageName, Store, Summary, UpperDirectory, differences, merged_layers,
};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How `wharf commit` makes an image.
#[derive(Debug)]
pub struct CommitOptions {
    /// Its name.
    pub image: ImageName,
    /// Who makes it.
    pub author: Option<String>,
    /// Why, for its history.
    pub message: Option<String>,
    /// What its configuration says otherwise than that of the instance's image.
    pub changes: Vec<String>,
    /// Whether a running instance stands still meanwhile.
    pub pause: bool,
}

/// Every difference between an instance and its image, by path.
///
/// # Errors
/// When what it writes is in memory, or cannot be read.
pub fn diff(instance: &Instance) -> Result<Vec<Difference>, Error> {
    let mount_points = mount_points(instance)?;
    let upper = upper(instance, &mount_points)?;
    let image = merged_layers(&instance.wish().layers, &instance.path("compared"))?;
    Ok(differences(&upper, image)?)
}

/// Makes an image of the instance's image and of what the instance has written.
///
/// # Errors
/// When what it writes is in memory, or the image cannot be made; nothing of it is there then.
pub fn commit(instance: &Instance, options: &CommitOptions) -> Result<Summary, Error> {
    let mount_points = mount_points(instance)?;
    let store = Store::open(instance.roots().state())?;
    let quiet = if options.pause { Some(Quiet::of(instance)?) } else { None };
    let upper = upper(instance, &mount_points)?;
    let path = instance.path("upper");
    let identity = identity(&path);
    let spoiled = || match &quiet {
        Some(Quiet::Paused(pause)) if !pause.held() => Some("ended, or was stopped or sent a signal,"),
        _ if self::identity(&path) != identity => Some("was removed"),
        _ => None,
    };
    let commit = Commit {
        name: &options.image,
        parent: &instance.wish().image_digest,
        upper: &upper,
        created_by: &instance.wish().command.join(" "),
        author: options.author.as_deref(),
        message: options.message.as_deref(),
        changes: &options.changes,
    };
    Ok(store.commit(&commit, spoiled)?)
}

/// Why an instance changes nothing for as long as this lives.
#[derive(Debug)]
enum Quiet {
    /// It is frozen.
    Paused(Pause),
    /// It is stopped, and cannot be started or removed.
    Stopped { _lock: SupervisorLock },
}

impl Quiet {
    fn of(instance: &Instance) -> Result<Self, Error> {
        loop {
            if let Some(pause) = pause(instance)? {
                return Ok(Self::Paused(pause));
            }
            // It may have been started in between.
            if let Some(lock) = SupervisorLock::take(&instance.path("supervisor.lock"))? {
                return Ok(Self::Stopped { _lock: lock });
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

fn upper<'a>(instance: &Instance, mount_points: &'a [PathBuf]) -> Result<UpperDirectory<'a>, Error> {
    if instance.wish().upper != UpperKind::Disk {
        return Err(Error::InMemory(instance.name().clone()));
    }
    Ok(UpperDirectory::open(&instance.path("upper"), instance.wish().userns, mount_points)?)
}

fn mount_points(instance: &Instance) -> Result<Vec<PathBuf>, Error> {
    let mounts = instance.spec()?.mounts().clone().unwrap_or_default();
    Ok(mounts.iter().map(|mount| mount.destination().clone()).collect())
}
