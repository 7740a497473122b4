//! Mounts of type `cgroup`: a container is shown its own control group, and nothing above it.
use super::{HostTree, MountOptions, Mounts, RDONLY, Source, Symlink};
use crate::cgroup::{Hierarchies, Record};
use crate::sandbox::caller::Caller;
use crate::sandbox::plan::Error;
use crate::sandbox::step::Step;
use crate::sandbox::target::Target;
use crate::sys::mount::MountAttr;
use oci_spec::runtime::Mount;
use std::path::Path;

/// What a container is to see.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox) struct CgroupView<'a> {
    /// The host's hierarchies.
    pub(in crate::sandbox) hierarchies: &'a Hierarchies,
    /// The container's own group, where no cgroup namespace keeps a mount of a hierarchy from showing the
    /// whole of it.
    pub(in crate::sandbox) bound: Option<&'a Record>,
}

/// What of a hierarchy is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The container's own group.
    Group,
    /// The same, as a scope that systemd is still to make.
    Scope,
    /// All that the caller sees, with the hierarchies below.
    Whole,
}

impl Extent {
    fn of(bound: Option<&Record>) -> Self {
        if bound.is_some_and(Record::is_scope) { Self::Scope } else { Self::Group }
    }
}

impl Mounts {
    pub(super) fn cgroup(
        &mut self,
        mount: &Mount,
        target: Target,
        options: &MountOptions,
        at: &str,
        view: CgroupView<'_>,
    ) -> Result<(), Error> {
        if view.bound.is_some_and(Record::is_empty) {
            // Nothing of its own to show: what the user sees anyway, as deep as it may be mounted.
            self.bind_cgroup(Path::new("/sys/fs/cgroup"), Extent::Whole, target, options, at);
            return Ok(());
        }
        let is_v2 = mount.typ().as_deref() == Some("cgroup2") || !view.hierarchies.has_v1();
        match (is_v2, view.bound.and_then(Record::unified)) {
            (true, Some(own)) => {
                self.bind_cgroup(own, Extent::of(view.bound), target, options, at);
                Ok(())
            }
            (true, None) => self.new_filesystem(mount, "cgroup2", target, options, at),
            (false, _) => self.cgroup_v1(&target, options, at, view),
        }
    }

    /// On a host whose controllers live on v1, `cgroup` is a small tmpfs with one mount per hierarchy,
    /// as programs inside expect it; the cgroup namespace makes each show the container's own group.
    fn cgroup_v1(
        &mut self,
        target: &Target,
        options: &MountOptions,
        at: &str,
        view: CgroupView<'_>,
    ) -> Result<(), Error> {
        let writable = options.attr.set & !RDONLY;
        let data = [("mode", Some("755")), ("size", Some("64k"))];
        let slot = self.create("tmpfs", Some("tmpfs"), &data, writable, target, at)?;
        self.attach.push(Step::Attach { slot, target: target.clone() });
        let inner = |name: &str| {
            let path = Path::new(&target.to_string()).join(name);
            Target::parse(&path).ok_or_else(|| Error::config(at, "holds a NUL byte"))
        };
        for hierarchy in view.hierarchies.container_mounts() {
            let place = inner(&hierarchy.name)?;
            if let Some(own) = view.bound.and_then(|own| own.directory_of(&hierarchy.name)) {
                self.bind_cgroup(own, Extent::of(view.bound), place, options, at);
                continue;
            }
            if view.bound.is_some() && !Caller::of_this_process().is_host_root() {
                // Of this one it has no group, and the whole of it only root may mount.
                continue;
            }
            let data: Vec<_> =
                hierarchy.data.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let slot = self.create(hierarchy.fstype, Some("cgroup"), &data, options.attr.set, &place, at)?;
            self.attach.push(Step::Attach { slot, target: place });
        }
        let attr = MountAttr { set: options.attr.set & RDONLY, ..MountAttr::default() };
        if !attr.is_empty() {
            self.attach.push(Step::SetAttr { target: target.clone(), attr, recursive: false });
        }
        self.after(target, options);
        Ok(())
    }

    /// The directory exists when the parent opens it: the cgroup is made before the clone, unless systemd
    /// makes it around the process.
    fn bind_cgroup(
        &mut self,
        source: &Path,
        extent: Extent,
        target: Target,
        options: &MountOptions,
        at: &str,
    ) {
        // Read-only means all of it: what is delegated to the user is not the container's (CVE-2023-25809).
        let recursive = extent == Extent::Whole;
        let mut recursive_attr = options.recursive_attr;
        if recursive {
            recursive_attr.set |= options.attr.set;
        }
        let tree = Box::new(HostTree {
            source: source.to_owned(),
            recursive,
            symlink: Symlink::Followed,
            attr: options.attr,
            recursive_attr,
            propagation: vec![(libc::MS_PRIVATE, false)],
            id_map: None,
            at: at.to_owned(),
        });
        let slot = if extent == Extent::Scope {
            let slot = self.slot(Source::Late(tree));
            let (path, at) = (source.display().to_string(), at.to_owned());
            self.create.push(Step::OpenLate { slot, path, at });
            slot
        } else {
            self.slot(Source::Host(tree))
        };
        self.attach.push(Step::Attach { slot, target });
    }
}
