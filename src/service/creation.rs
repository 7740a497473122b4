//! From an image and the user's options to an instance on disk, ready to be started.
use super::images::pin_images;
use super::instance::remove_tree;
use super::roots::make_private;
use super::state::now;
use super::{Error, Instance, InstanceName, Options, Roots, State, Wish, durable, spec, userns};
use crate::image::{Image, Policy, Progress, Store, merged_layers};
use crate::sandbox::IdRange;
use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Uid, chownat};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// Makes an instance of an image. It is not started, and outlives the power only from its start on.
///
/// # Errors
/// Names the image, option or file; nothing is left behind.
pub fn create(
    roots: &Roots,
    image: &str,
    policy: &Policy,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Instance, Error> {
    options.validate()?;
    let instances = roots.instances();
    make_private(&instances)?;
    // Shared with other creations; a removal of an image waits for all of them.
    let _pinned = pin_images(roots, FlockOperation::LockShared)?;
    let store = Store::with_limits(roots.state(), options.layer_limits)?;
    let image = store.find(image)?;
    store.check_policy(&image, policy)?;
    let id = random_id()?;
    let name = options.name.clone().unwrap_or_else(|| InstanceName::for_image(image.reference(), &id[..6]));
    sweep(&instances);
    if roots.instance(&name).exists() {
        return Err(Error::NameInUse(name));
    }
    let layers = store.layers(&image, progress)?;
    // Held until the instance is there: two creations never get the same ids.
    let claim = userns::claim(roots, options.userns)?;
    let wish = wish(&id, name, &image, layers, options, claim.as_ref().map(|claim| claim.range));
    let directory = instances.join(format!(".new-{id}"));
    let made = fill(roots, &directory, &image, wish, options)
        .and_then(|wish| Instance::establish(roots, &directory, wish));
    if made.is_err() {
        // The first error says what went wrong; the next creation sweeps what stays.
        let _ = remove_tree(&directory);
    }
    made
}

/// Removes what killed creations and removals left, an hour later, and instances that a power failure kept from being
/// there.
fn sweep(instances: &Path) {
    let Ok(entries) = std::fs::read_dir(instances) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        let gone = if name.starts_with(".new-") || name.starts_with(".removed-") {
            let age =
                entry.metadata().and_then(|data| data.modified()).map(|at| at.elapsed().unwrap_or_default());
            age.is_ok_and(|age| age.as_secs() > 3600)
        } else {
            !name.starts_with('.') && was_never_whole(&path)
        };
        if gone {
            let _ = remove_tree(&path);
        }
    }
}

/// An instance gets its name with all its files written. One whose wish has no byte had its name on the disk when the
/// power failed, and its files not yet.
fn was_never_whole(directory: &Path) -> bool {
    std::fs::metadata(directory.join("instance.json")).is_ok_and(|wish| wish.len() == 0)
}

fn wish(
    id: &str,
    name: InstanceName,
    image: &Image,
    layers: Vec<PathBuf>,
    options: &Options,
    userns: Option<IdRange>,
) -> Wish {
    let hostname = options.overrides.hostname.clone().unwrap_or_else(|| name.to_string());
    Wish {
        id: format!("{name}-{id}"),
        name,
        created: now(),
        image: image.reference().to_owned(),
        image_digest: image.digest().to_owned(),
        layers,
        command: Vec::new(),
        hostname,
        limits: options.limits.clone(),
        network: options.network,
        ports: options.ports.clone(),
        add_hosts: options.add_hosts.clone(),
        dns: options.dns.clone(),
        restart: options.restart,
        stop_signal: options.stop_signal.unwrap_or_else(|| image.stop_signal()),
        stop_timeout_ms: u64::try_from(options.stop_timeout.as_millis()).unwrap_or(u64::MAX),
        init: options.init,
        terminal: options.terminal,
        remove: options.remove,
        labels: options.labels.clone(),
        log: options.log,
        userns,
        upper: options.upper,
    }
}

fn fill(
    roots: &Roots,
    directory: &Path,
    image: &Image,
    mut wish: Wish,
    options: &Options,
) -> Result<Wish, Error> {
    make_private(directory)?;
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    make_private(&upper)?;
    make_private(&work)?;
    // The upper directory is the root directory of the instance, which any user in it passes.
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    rustix::fs::chmod(&upper, mode).map_err(Error::file("chmod", &upper))?;
    for made in [&upper, &work] {
        let (uid, gid) = (Uid::from_raw(wish.root_id()), Gid::from_raw(wish.root_id()));
        chownat(CWD, made, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::file("chown", made))?;
    }
    let runtime_spec = {
        let root = merged_layers(&wish.layers, &directory.join("merged"))?;
        image.runtime_spec(root.as_fd(), &options.overrides)?
    };
    let runtime_spec = spec::complete(runtime_spec, &wish, options, &roots.instance(&wish.name))?;
    wish.command = command_of(&runtime_spec);
    durable::write_json(&directory.join("config.json"), &runtime_spec)?;
    durable::write_json(&directory.join("state.json"), &State::created())?;
    durable::write_json(&directory.join("instance.json"), &wish)?;
    Ok(wish)
}

fn command_of(spec: &Spec) -> Vec<String> {
    spec.process().as_ref().and_then(|process| process.args().clone()).unwrap_or_default()
}

fn random_id() -> Result<String, Error> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::system("get random bytes")(std::io::Error::other(error.to_string())))?;
    Ok(hex::encode(bytes))
}
