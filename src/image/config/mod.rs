//! An image's configuration and the user's overrides become a runtime spec: image-spec conversion.md.

mod change;
mod process;
mod user;
mod words;

pub(super) use change::apply_all as apply_changes;

use super::Error;
use crate::sandbox::default_spec::instance_default;
use crate::sys::signal_name;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{RootBuilder, Spec, User};
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};

/// The image's stop signal, SIGTERM where it states none that exists.
pub(super) fn stop_signal(image: &ImageConfiguration) -> i32 {
    let stated = image.config().as_ref().and_then(|config| config.stop_signal().as_deref());
    stated.and_then(signal_name::number).unwrap_or(libc::SIGTERM)
}

/// What the user sets over the image's configuration.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--entrypoint`: replaces the entry point and drops the image's command.
    pub entrypoint: Option<Vec<String>>,
    /// COMMAND...: replaces the image's command when not empty.
    pub command: Vec<String>,
    /// `-e KEY=VALUE`, validated; later ones win.
    pub env: Vec<(String, String)>,
    /// `-u USER[:GROUP]`.
    pub user: Option<String>,
    /// `-w DIR`.
    pub workdir: Option<String>,
    /// `-h NAME`.
    pub hostname: Option<String>,
}

/// Annotations that describe an image; any other label would be input to engines and hooks that the
/// image must not give (CVE-2026-53488).
const DESCRIPTIVE: &str = "org.opencontainers.image.";

pub(super) fn runtime_spec(
    image: &ImageConfiguration,
    rootfs: BorrowedFd<'_>,
    overrides: &Overrides,
) -> Result<Spec, Error> {
    let mut spec = instance_default();
    let base = spec.process().clone().unwrap_or_default();
    spec.set_process(Some(process::compile(base, image.config().as_ref(), rootfs, overrides)?));
    let root = RootBuilder::default().path("rootfs").readonly(false).build();
    spec.set_root(Some(root.map_err(|error| Error::Config(error.to_string()))?));
    spec.set_hostname(overrides.hostname.clone());
    spec.set_annotations(Some(annotations(image)));
    Ok(spec)
}

fn annotations(image: &ImageConfiguration) -> HashMap<String, String> {
    let config = image.config().as_ref();
    let labels = config.and_then(|config| config.labels().as_ref());
    let mut notes: HashMap<String, String> = labels
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(DESCRIPTIVE))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut note = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            notes.insert(format!("{DESCRIPTIVE}{key}"), value);
        }
    };
    note("os", Some(image.os().to_string()));
    note("architecture", Some(image.architecture().to_string()));
    note("variant", image.variant().clone());
    note("author", image.author().clone());
    note("created", image.created().clone());
    note("stopSignal", config.and_then(|config| config.stop_signal().clone()));
    let ports = config.and_then(|config| config.exposed_ports().as_ref()).map(|ports| ports.join(","));
    note("exposedPorts", ports);
    notes
}

/// Looks `USER[:GROUP]` up in the passwd(5) and group(5) of a root file system, names or numbers.
///
/// # Errors
/// Names the user or group that is not there.
pub fn find_user(text: &str, rootfs: BorrowedFd<'_>) -> Result<User, Error> {
    Ok(user::Account::look_up(text, rootfs)?.user())
}

/// VOLUME paths, absolute and without `..`: what could leave the root is dropped (CVE-2022-23648).
pub(super) fn volumes(image: &ImageConfiguration) -> Vec<String> {
    let declared = image.config().as_ref().and_then(|config| config.volumes().as_ref());
    let plain = |volume: &&String| {
        let path = Path::new(volume);
        path.is_absolute()
            && path.components().count() > 1
            && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
    };
    let mut volumes: Vec<String> = declared.into_iter().flatten().filter(plain).cloned().collect();
    volumes.sort();
    volumes
}
