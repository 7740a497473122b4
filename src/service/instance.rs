//! One instance on disk, and all of them.
use super::durable::{self, Disk};
use super::lock::{SupervisorLock, holder};
use super::{Error, InstanceName, Roots, State, Wish};
use crate::container::{Container, ContainerId};
use crate::network;
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::Pid;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A supervisor that has told of its end is gone within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// One instance: where it is, and what was wished of it.
#[derive(Debug, Clone)]
pub struct Instance {
    roots: Roots,
    directory: PathBuf,
    wish: Wish,
}

impl Instance {
    /// Finds an instance by name.
    ///
    /// # Errors
    /// When there is none, or its files cannot be read.
    pub fn find(roots: &Roots, name: &str) -> Result<Self, Error> {
        let name: InstanceName = name.parse()?;
        let directory = roots.instance(&name);
        let wish = durable::read_json(&directory.join("instance.json"))?;
        let wish = wish.ok_or_else(|| Error::NoInstance(name.to_string()))?;
        Ok(Self { roots: roots.clone(), directory, wish })
    }

    /// Every instance, by name. What cannot be read is left out: one broken instance must not hide the
    /// others, and [`Instance::find`] tells what is wrong with it.
    ///
    /// # Errors
    /// When the directory of instances cannot be read.
    pub fn all(roots: &Roots) -> Result<Vec<Self>, Error> {
        let directory = roots.instances();
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read directory", &directory)(error)),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<Self> = names.filter_map(|name| Self::find(roots, &name).ok()).collect();
        all.sort_by(|a, b| a.wish.name.cmp(&b.wish.name));
        Ok(all)
    }

    /// Gives a directory that was filled beside its place its name, so that an instance is there whole
    /// or not at all.
    pub(super) fn establish(roots: &Roots, filled: &Path, wish: Wish) -> Result<Self, Error> {
        let directory = roots.instance(&wish.name);
        match renameat_with(CWD, filled, CWD, &directory, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Error::NameInUse(wish.name)),
            Err(errno) => return Err(Error::file("make", &directory)(errno)),
        }
        Ok(Self { roots: roots.clone(), directory, wish })
    }

    /// Brings it to the disk, its wish last: whoever finds that after a power failure finds all. What is removed when it
    /// ends, as everything does without power, need not be there then.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn sync(&self) -> Result<(), Error> {
        if self.wish.remove {
            return Ok(());
        }
        for file in ["config.json", "state.json", "instance.json"] {
            durable::sync(&self.path(file))?;
        }
        durable::sync(&self.directory)?;
        durable::sync(&self.roots.instances())
    }

    /// What was wished of it.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Its name.
    pub fn name(&self) -> &InstanceName {
        &self.wish.name
    }

    /// The roots it was found below.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// A file of the instance.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What its supervisor knows, as it was last written.
    ///
    /// # Errors
    /// When the file cannot be read, or the instance was removed meanwhile.
    pub fn state(&self) -> Result<State, Error> {
        let path = self.path("state.json");
        match durable::read_json(&path)? {
            Some(state) => Ok(state),
            None if path.exists() => Ok(State::lost()),
            None => Err(Error::NoInstance(self.wish.name.to_string())),
        }
    }

    pub(super) fn write_state(&self, state: &State, disk: Disk) -> Result<(), Error> {
        durable::replace_json(&self.path("state.json"), state, disk)
    }

    /// The runtime spec made of the image and the wish.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn spec(&self) -> Result<Spec, Error> {
        let path = self.path("config.json");
        durable::read_json(&path)?.ok_or_else(|| Error::file("read", &path)(Errno::NOENT))
    }

    /// Host pid of its supervisor, by the kernel's word.
    ///
    /// # Errors
    /// When the lock cannot be asked for.
    pub fn supervisor(&self) -> Result<Option<Pid>, Error> {
        holder(&self.path("supervisor.lock"))
    }

    pub(super) fn container_id(&self) -> Result<ContainerId, Error> {
        Ok(self.wish.id.parse()?)
    }

    /// Its container, while it has one.
    ///
    /// # Errors
    /// When there is one whose state cannot be read.
    pub fn container(&self) -> Result<Option<Container>, Error> {
        match Container::load(&self.roots.containers(), &self.container_id()?) {
            Ok(container) => Ok(Some(container)),
            Err(crate::container::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a stopped instance with all it has on disk and on the network. Nothing else can start it
    /// meanwhile, for this holds the lock that its supervisor would need.
    ///
    /// # Errors
    /// When it runs, or a file cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        let lock = SupervisorLock::take_within(&self.path("supervisor.lock"), PATIENCE)?;
        let Some(_lock) = lock else { return Err(Error::Running(self.wish.name)) };
        self.remove_locked()
    }

    /// As [`Instance::remove`], for the supervisor, which holds the lock.
    pub(super) fn remove_locked(&self) -> Result<(), Error> {
        if let Some(container) = self.container()? {
            container.delete(true)?;
        }
        if let Some(lease) = self.state().ok().as_ref().and_then(State::attached) {
            network::detach(lease)?;
        }
        network::release(&self.roots.network(), self.wish.name.as_str())?;
        let socket = self.control_socket();
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &socket)(error));
            }
            _ => {}
        }
        // Out of sight first: a removal that is cut short leaves no half instance.
        let doomed = self.roots.instances().join(format!(".removed-{}", self.wish.id));
        std::fs::rename(&self.directory, &doomed).map_err(Error::file("remove", &self.directory))?;
        remove_tree(&doomed)
    }

    pub(super) fn control_socket(&self) -> PathBuf {
        self.roots.control().join(self.wish.name.as_str())
    }
}

pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}
