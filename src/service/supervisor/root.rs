//! The root file system of an incarnation.
use crate::image::{Overlay, Upper};
use crate::sandbox::IdRange;
use crate::service::wish::UpperKind;
use crate::service::{Error, Instance};
use std::os::fd::{AsFd, OwnedFd};

/// Mounts the instance's layers below its own, detached.
pub(super) fn mount(instance: &Instance) -> Result<OwnedFd, Error> {
    let wish = instance.wish();
    let user_namespace = wish.userns.map(IdRange::user_namespace).transpose();
    let user_namespace = user_namespace.map_err(crate::container::Error::from)?;
    let (upper, work) = (instance.path("upper"), instance.path("work"));
    let overlay = Overlay {
        layers: &wish.layers,
        upper: match wish.upper {
            UpperKind::Disk => Upper::Disk { upper: &upper, work: &work, volatile: wish.remove },
            UpperKind::Memory { size_bytes } => {
                Upper::Memory { size_bytes, owner: wish.root_id(), place: &upper }
            }
        },
        user_namespace: user_namespace.as_ref().map(AsFd::as_fd),
    };
    Ok(overlay.mount()?)
}
