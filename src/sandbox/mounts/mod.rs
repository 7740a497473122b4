//! `mounts`: every entry becomes a detached mount and the place where it is attached.
mod cgroups;
mod id_maps;
mod open;
mod options;
mod own;

pub(super) use id_maps::OwnUserNamespace;
pub(super) use open::{open_root, open_source, open_sources, open_tree, root_error, source_error};
pub use options::KNOWN;
pub(super) use options::rootfs_propagation;
pub(super) use own::{mark as mark_own, mount_in_place};

use super::plan::Error;
use super::step::{NewMount, Slot, Step};
use super::target::Target;
use crate::sys::mount::MountAttr;
pub(super) use cgroups::CgroupView;
use id_maps::IdMap;
use oci_spec::runtime::Mount;
use options::MountOptions;
use rustix::mount::MountAttrFlags as Attr;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// What is done about a source that is a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symlink {
    Followed,
    Bound,
    /// It is opened as a location, to be read and made again.
    Copied,
}

/// A directory or file of the host that the parent opens before the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostTree {
    pub(super) source: PathBuf,
    pub(super) recursive: bool,
    pub(super) symlink: Symlink,
    /// Changes to this mount, then to it and all below; propagation last.
    pub(super) attr: MountAttr,
    pub(super) recursive_attr: MountAttr,
    pub(super) propagation: Vec<(u64, bool)>,
    pub(super) id_map: Option<IdMap>,
    /// JSON path, for errors.
    pub(super) at: String,
}

/// Where a detached mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The parent opens it.
    Host(Box<HostTree>),
    /// The child opens it, once the parent has let it go: the parent makes it while the child waits.
    Late(Box<HostTree>),
    /// The host's /dev/null, checked by device number (CVE-2025-31133).
    Null,
    /// The child makes it.
    New,
}

impl Source {
    /// JSON path of its id map, where it has one.
    pub(super) fn id_map_path(&self) -> Option<&str> {
        match self {
            Self::Host(tree) => tree.id_map.as_ref().map(IdMap::path),
            _ => None,
        }
    }
}

/// The mounts of a container: what fills the slots, and the steps before and after the root is entered.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// What relative sources are relative to.
    bundle: PathBuf,
    pub(super) sources: Vec<Source>,
    pub(super) create: Vec<Step>,
    pub(super) attach: Vec<Step>,
    /// What must wait until devices and mount points are made.
    pub(super) finish: Vec<Step>,
    pub(super) warnings: Vec<String>,
    /// Slot of the devpts instance at /dev/pts.
    pub(super) devpts: Option<Slot>,
    /// Whether the host's /dev, or another directory, is bound at /dev: its nodes are left as they are.
    pub(super) binds_dev: bool,
}

impl Mounts {
    pub(super) fn compile(
        mounts: &[Mount],
        own: OwnUserNamespace<'_>,
        bundle: &Path,
        cgroups: CgroupView<'_>,
    ) -> Result<Self, Error> {
        let mut compiled = Self { bundle: bundle.to_owned(), ..Self::default() };
        for (index, mount) in mounts.iter().enumerate() {
            compiled.add(mount, &format!("mounts[{index}]"), own, cgroups)?;
        }
        Ok(compiled)
    }

    fn add(
        &mut self,
        mount: &Mount,
        at: &str,
        own: OwnUserNamespace<'_>,
        cgroups: CgroupView<'_>,
    ) -> Result<(), Error> {
        let words = mount.options().as_deref().unwrap_or_default();
        let options = MountOptions::parse(words);
        let id_map = id_maps::compile(mount, options.id_map.as_ref(), own, at)?;
        let destination = Path::new("/").join(mount.destination());
        if mount.destination().is_relative() {
            // Deprecated by config.md#mounts, which gives it this meaning.
            let destination = mount.destination().display();
            self.warnings.push(format!("{at}.destination: {destination} is relative, taken as below /"));
        }
        let mut target = Target::parse(&destination)
            .ok_or_else(|| Error::config(&format!("{at}.destination"), "holds a NUL byte"))?;
        if options.target_itself {
            target = target.itself();
        }
        if target.name() == c"." {
            return Err(Error::config(&format!("{at}.destination"), "is the root itself; use root.path"));
        }
        let fstype = mount.typ().as_deref().unwrap_or("none");
        let binds = options.bind || fstype == "bind";
        if let Some(reason) = contradiction(&options, fstype, binds) {
            return Err(Error::config(&format!("{at}.options"), reason));
        }
        if id_map.is_some() && (options.remount || !binds) {
            return Err(Error::config(&format!("{at}.options"), "only bind mounts can be idmapped"));
        }
        if options.remount {
            self.remount(&target, &options);
        } else if binds {
            self.binds_dev |= destination == Path::new("/dev");
            self.bind(mount, target, options, id_map, at)?;
        } else if matches!(fstype, "cgroup" | "cgroup2") {
            self.cgroup(mount, target, &options, at, cgroups)?;
        } else {
            self.new_filesystem(mount, fstype, target, &options, at)?;
        }
        Ok(())
    }

    fn slot(&mut self, source: Source) -> Slot {
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// Whether something is mounted at this very place.
    pub(super) fn attaches_at(&self, place: &Target) -> bool {
        self.attach.iter().any(|step| match step {
            Step::Attach { target, .. } | Step::AttachOrLink { target, .. } => target.path() == place.path(),
            _ => false,
        })
    }

    /// A slot that holds /dev/null, to mask files with.
    pub(super) fn null(&mut self) -> Slot {
        self.slot(Source::Null)
    }

    /// A slot for a host's file or directory, bound as it is.
    pub(super) fn host(&mut self, source: &Path, at: &str) -> Slot {
        let tree = HostTree {
            source: source.to_owned(),
            recursive: false,
            symlink: Symlink::Followed,
            attr: MountAttr::default(),
            recursive_attr: MountAttr::default(),
            propagation: vec![(libc::MS_PRIVATE, false)],
            id_map: None,
            at: at.to_owned(),
        };
        self.slot(Source::Host(Box::new(tree)))
    }

    fn remount(&mut self, target: &Target, options: &MountOptions) {
        self.attach.push(Step::SetAttr { target: target.clone(), attr: options.attr, recursive: false });
        self.after(target, options);
    }

    fn bind(
        &mut self,
        mount: &Mount,
        target: Target,
        options: MountOptions,
        id_map: Option<IdMap>,
        at: &str,
    ) -> Result<(), Error> {
        let source = mount.source().clone().ok_or_else(|| {
            Error::config(
                &format!("{at}.source"),
                "is missing; a bind mount needs a file or directory of the host",
            )
        })?;
        for (key, _) in &options.data {
            // As runc does; engines pass on what users give them.
            let reason = "means nothing to a bind mount and is ignored";
            self.warnings.push(format!("{at}.options: {key:?} {reason}"));
        }
        let mut propagation = options.propagation;
        if !propagation.iter().any(|(flag, _)| *flag == libc::MS_SHARED) {
            // A clone stays in its source's peer group: without this, what the container mounts below
            // it would appear on the host.
            propagation.insert(0, (libc::MS_SLAVE, true));
        }
        let slot = self.slot(Source::Host(Box::new(HostTree {
            source: self.bundle.join(source),
            recursive: options.recursive,
            symlink: match (options.copy_symlink, options.source_itself) {
                (true, _) => Symlink::Copied,
                (_, true) => Symlink::Bound,
                _ => Symlink::Followed,
            },
            attr: options.attr,
            recursive_attr: options.recursive_attr,
            propagation,
            id_map,
            at: format!("{at}.source"),
        })));
        self.attach.push(if options.copy_symlink {
            Step::AttachOrLink { slot, target }
        } else {
            Step::Attach { slot, target }
        });
        Ok(())
    }

    fn new_filesystem(
        &mut self,
        mount: &Mount,
        fstype: &str,
        target: Target,
        options: &MountOptions,
        at: &str,
    ) -> Result<(), Error> {
        if fstype == "none" {
            let reason = "is missing; name a file system, or use the option bind or rbind";
            return Err(Error::config(&format!("{at}.type"), reason));
        }
        // Symlinks at these places would let the image choose what the writes to /proc and /sys reach
        // (CVE-2025-54867).
        let target = if matches!(fstype, "proc" | "sysfs") { target.without_symlinks() } else { target };
        let mut data = file_system_data(fstype, options, at)?;
        let mut attr = options.attr.set;
        let read_only = attr & RDONLY != 0;
        if fstype == "tmpfs" {
            // It is filled first: with what it covers, with mount points and with device nodes.
            attr &= !RDONLY;
        } else if read_only && !matches!(fstype, "proc" | "sysfs" | "cgroup2" | "mqueue") {
            data.push(("ro", None));
        }
        let source = mount.source().as_ref().and_then(|source| source.to_str());
        let slot = self.create(fstype, source, &data, attr, &target, at)?;
        if fstype == "devpts" && target.to_string() == "/dev/pts" {
            self.devpts = Some(slot);
        }
        if fstype == "tmpfs" {
            let take_mode = !data.iter().any(|(key, _)| *key == "mode");
            let copy_up = options.copy_up;
            self.attach.push(Step::AttachTmpfs { slot, target: target.clone(), take_mode, copy_up });
            if read_only {
                let attr = MountAttr { set: RDONLY, ..MountAttr::default() };
                self.finish.push(Step::SetAttr { target: target.clone(), attr, recursive: false });
            }
        } else {
            self.attach.push(Step::Attach { slot, target: target.clone() });
        }
        self.after(&target, options);
        Ok(())
    }

    /// Flags that need the mount to stand in its place: recursive ones and propagation.
    fn after(&mut self, target: &Target, options: &MountOptions) {
        if !options.recursive_attr.is_empty() {
            let attr = options.recursive_attr;
            self.attach.push(Step::SetAttr { target: target.clone(), attr, recursive: true });
        }
        for (propagation, recursive) in &options.propagation {
            let attr = MountAttr { propagation: *propagation, ..MountAttr::default() };
            self.attach.push(Step::SetAttr { target: target.clone(), attr, recursive: *recursive });
        }
    }

    fn create(
        &mut self,
        fstype: &str,
        source: Option<&str>,
        data: &[(&str, Option<&str>)],
        attr: u64,
        target: &Target,
        at: &str,
    ) -> Result<Slot, Error> {
        let nul = |_| Error::config(at, "holds a NUL byte");
        let slot = self.slot(Source::New);
        let mut strings = Vec::with_capacity(data.len());
        for (key, value) in data {
            strings
                .push((CString::new(*key).map_err(nul)?, value.map(CString::new).transpose().map_err(nul)?));
        }
        self.create.push(Step::CreateMount(NewMount {
            slot,
            fstype: CString::new(fstype).map_err(nul)?,
            source: source.map(CString::new).transpose().map_err(nul)?,
            data: strings,
            attr: u32::try_from(attr).unwrap_or(0),
            at: target.to_string(),
        }));
        Ok(slot)
    }
}

/// Options that cannot go together.
fn contradiction(options: &MountOptions, fstype: &str, binds: bool) -> Option<String> {
    let follows = options.source_itself || options.target_itself;
    if options.copy_symlink && follows {
        return Some("copy-symlink excludes src-nofollow and dest-nofollow".to_owned());
    }
    if (options.source_itself || options.copy_symlink) && !binds {
        return Some("src-nofollow and copy-symlink need a bind mount".to_owned());
    }
    if options.copy_up && (binds || options.remount || fstype != "tmpfs") {
        return Some("tmpcopyup needs a new tmpfs".to_owned());
    }
    match options.data.first() {
        Some((key, _)) if options.remount => Some(format!("{key:?} cannot be changed by a remount")),
        _ => None,
    }
}

/// What `fsconfig(2)` takes: values below 256 bytes, and so layers of an overlay one by one.
fn file_system_data<'a>(
    fstype: &str,
    options: &'a MountOptions,
    at: &str,
) -> Result<Vec<(&'a str, Option<&'a str>)>, Error> {
    let mut data = Vec::with_capacity(options.data.len());
    for (key, value) in &options.data {
        match value.as_deref() {
            Some(layers) if fstype == "overlay" && key == "lowerdir" && layers.len() > 255 => {
                data.extend(layers.split(':').map(|layer| ("lowerdir+", Some(layer))));
            }
            value => data.push((key.as_str(), value)),
        }
    }
    if let Some((key, _)) = data.iter().find(|(_, value)| value.is_some_and(|value| value.len() > 255)) {
        let reason = format!("{key} is longer than the 255 bytes that the kernel takes");
        return Err(Error::config(&format!("{at}.options"), reason));
    }
    Ok(data)
}

const RDONLY: u64 = Attr::MOUNT_ATTR_RDONLY.bits() as u64;
