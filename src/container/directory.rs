//! The state directory of one container: `STATE_ROOT/ID`, mode 0700.
//!
//! | file | holds |
//! |---|---|
//! | `state.json` | the [`super::record::Record`]; written before anything of the container exists |
//! | `config.json` | the configuration the container was made from; `exec` needs it |
//! | `start.sock` | the socket on which the first process awaits `start` |
//!
//! Files are replaced atomically, so readers need no lock. The directory itself carries the lock.
use super::{ContainerId, Error, lock::Lock};
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub(super) const STATE_FILE: &str = "state.json";
const NEW_STATE_FILE: &str = "state.json.new";
pub(super) const CONFIG_FILE: &str = super::config::CONFIG_FILE;
pub(super) const START_SOCKET: &str = "start.sock";

const DIRECTORY_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// An open state directory.
#[derive(Debug)]
pub(super) struct StateDirectory {
    fd: OwnedFd,
    path: PathBuf,
    id: ContainerId,
}

impl StateDirectory {
    /// Makes the directory, and the state root when it is missing. It may be there already: then
    /// [`StateDirectory::claim`] tells whose it is.
    pub(super) fn create(root: &Path, id: &ContainerId) -> Result<Self, Error> {
        let path = root.join(id.as_str());
        let made = match fs::mkdir(&path, DIRECTORY_MODE) {
            Err(Errno::NOENT) => {
                make_root(root)?;
                fs::mkdir(&path, DIRECTORY_MODE)
            }
            other => other,
        };
        match made {
            Ok(()) => Self::open_path(path.clone(), id).inspect_err(|_| {
                // Nothing is in it.
                let _ = fs::rmdir(&path);
            }),
            Err(Errno::EXIST) => Self::open_path(path, id),
            Err(errno) => Err(state_error("create directory", &path)(errno)),
        }
    }

    /// Takes the directory and its lock for a new container with this state, also a directory without one, which a
    /// killed `create` or `delete` left. Of several that come at once, one gets it.
    pub(super) fn claim(&self, state: &[u8]) -> Result<Lock<'_>, Error> {
        let exists = || Error::Exists(self.id.to_string());
        let lock = Lock::acquire(self.fd()).map_err(self.error("lock"))?.ok_or_else(exists)?;
        let placed =
            self.write(NEW_STATE_FILE, state).and_then(|()| self.rename_state(RenameFlags::NOREPLACE));
        if placed.is_ok() {
            return Ok(lock);
        }
        if self.has_state() {
            self.remove_file(NEW_STATE_FILE)?;
            return Err(exists());
        }
        // An empty one is in the way, or the file system does not know the flag.
        self.replace_state(state).inspect_err(|_| drop(self.remove()))?;
        Ok(lock)
    }

    /// Whether another command has deleted the directory since it was opened.
    pub(super) fn is_gone(&self) -> Result<bool, Error> {
        Ok(fs::fstat(&self.fd).map_err(self.error("look at"))?.st_nlink == 0)
    }

    /// Opens the directory of a container; [`Error::NotFound`] when there is none.
    pub(super) fn open(root: &Path, id: &ContainerId) -> Result<Self, Error> {
        Self::open_path(root.join(id.as_str()), id)
    }

    fn open_path(path: PathBuf, id: &ContainerId) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path, id: id.clone() }),
            Err(Errno::NOENT) => Err(Error::NotFound(id.to_string())),
            Err(errno) => Err(state_error("open", &path)(errno)),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn id(&self) -> &ContainerId {
        &self.id
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Waits for the lock of the container.
    pub(super) fn lock(&self) -> Result<Lock<'_>, Error> {
        let lock = Lock::acquire(self.fd()).map_err(self.error("lock"))?;
        lock.ok_or_else(|| Error::Busy(self.id.to_string()))
    }

    /// The lock that this process has kept ([`Lock::keep`]).
    pub(super) fn locked(&self) -> Lock<'_> {
        Lock::kept(self.fd())
    }

    /// Takes the lock of the container if it is free.
    pub(super) fn try_lock(&self) -> Result<Option<Lock<'_>>, Error> {
        Lock::try_acquire(self.fd()).map_err(self.error("lock"))
    }

    /// Whether any command holds the lock, this one included.
    pub(super) fn is_locked(&self) -> Result<bool, Error> {
        // A lock belongs to an open file description, so asking takes another one.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let other = match fs::openat(&self.fd, ".", flags, Mode::empty()) {
            Ok(other) => other,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.error("open")(errno)),
        };
        Lock::try_acquire(other.as_fd()).map(|lock| lock.is_none()).map_err(self.error("lock"))
    }

    /// Contents of the state file; `None` when there is none, or one of no bytes: it is not synced, for nothing of a
    /// container outlives a power failure, and that is what some file systems leave of it then.
    pub(super) fn read_state(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.read(STATE_FILE)?.filter(|contents| !contents.is_empty()))
    }

    /// Whether [`StateDirectory::read_state`] finds contents, asked without a descriptor.
    fn has_state(&self) -> bool {
        let found = fs::statat(&self.fd, STATE_FILE, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| found.st_size > 0)
    }

    /// Contents of a file; `None` when it does not exist.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let at = |action| state_error(action, &self.path_of(name));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(at("open")(errno)),
        };
        let mut contents = Vec::with_capacity(8192);
        while rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut contents)).map_err(at("read"))? > 0 {
            contents.reserve(8192);
        }
        Ok(Some(contents))
    }

    /// Replaces the state file: whoever reads it sees the old or the new contents.
    pub(super) fn replace_state(&self, contents: &[u8]) -> Result<(), Error> {
        self.write(NEW_STATE_FILE, contents)?;
        self.rename_state(RenameFlags::empty())
    }

    fn rename_state(&self, flags: RenameFlags) -> Result<(), Error> {
        let renamed = fs::renameat_with(&self.fd, NEW_STATE_FILE, &self.fd, STATE_FILE, flags);
        renamed.map_err(state_error("rename a new file to", &self.path_of(STATE_FILE)))
    }

    /// Writes a file that nothing reads until another file has been replaced.
    pub(super) fn write(&self, name: &str, contents: &[u8]) -> Result<(), Error> {
        let at = |action| state_error(action, &self.path_of(name));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, FILE_MODE).map_err(at("create"))?;
        let mut rest = contents;
        while !rest.is_empty() {
            let written = rustix::io::write(&fd, rest).map_err(at("write"))?;
            rest = &rest[written..];
        }
        Ok(())
    }

    /// Removes a file; a missing one is no error.
    pub(super) fn remove_file(&self, name: &str) -> Result<(), Error> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(state_error("remove", &self.path_of(name))(errno)),
        }
    }

    /// Removes the directory and the files in it. A removal that is cut short leaves a container that can
    /// be deleted again, or a directory that `create` takes over.
    pub(super) fn remove(&self) -> Result<(), Error> {
        self.remove_file(CONFIG_FILE)?;
        self.remove_file(STATE_FILE)?;
        match fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(errno) => return Err(self.error("remove")(errno)),
        }
        // Only there when the container was never started, or a command was killed.
        for name in [START_SOCKET, NEW_STATE_FILE] {
            self.remove_file(name)?;
        }
        fs::rmdir(&self.path).map_err(self.error("remove"))
    }

    fn error(&self, action: &'static str) -> impl Fn(Errno) -> Error + '_ {
        state_error(action, &self.path)
    }
}

fn make_root(root: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(DIRECTORY_MODE.bits()).create(root);
    made.map_err(|source| Error::State { action: "create directory", path: root.to_owned(), source })
}

fn state_error(action: &'static str, path: &Path) -> impl Fn(Errno) -> Error + use<> {
    let path = path.to_owned();
    move |errno| Error::State { action, path: path.clone(), source: errno.into() }
}

/// Ids of everything below the state root that looks like a container.
pub(super) fn ids(root: &Path) -> Result<Vec<ContainerId>, Error> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::State { action: "read", path: root.to_owned(), source }),
    };
    let name = |entry: std::fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
    let mut ids: Vec<ContainerId> = entries.flatten().filter_map(name).collect();
    ids.sort();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn id(text: &str) -> ContainerId {
        text.parse().expect("id")
    }

    #[test]
    fn a_container_directory_is_private_and_unique() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let root = scratch.path().join("deep/root");
        let directory = StateDirectory::create(&root, &id("web")).expect("created");
        let mode = std::fs::metadata(root.join("web")).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(directory.claim(b"{}").expect("new"));
        let again = StateDirectory::create(&root, &id("web")).expect("opened");
        assert!(matches!(again.claim(b"[]"), Err(Error::Exists(_))));
        assert_eq!(again.read_state().expect("read").as_deref(), Some(&b"{}"[..]));
        assert!(!root.join("web").join(NEW_STATE_FILE).exists());
        assert!(!again.is_gone().expect("fstat"));
        directory.remove().expect("removed");
        assert!(again.is_gone().expect("fstat"));
        assert!(!root.join("web").exists());
        assert!(matches!(StateDirectory::open(&root, &id("web")), Err(Error::NotFound(_))));
    }

    #[test]
    fn what_a_killed_create_left_is_taken_over() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let first = StateDirectory::create(scratch.path(), &id("web")).expect("created");
        first.write(NEW_STATE_FILE, b"{\"ociV").expect("as one leaves it that is killed as it writes");
        let second = StateDirectory::create(scratch.path(), &id("web")).expect("opened");
        drop(second.claim(b"{}").expect("without a record"));
        second.write(STATE_FILE, b"").expect("as a power failure leaves it");
        drop(second.claim(b"{}").expect("with an empty record"));
        assert_eq!(second.read_state().expect("read").as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn files_longer_than_one_read_come_back_whole() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let directory = StateDirectory::create(scratch.path(), &id("web")).expect("created");
        let contents: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        directory.write(CONFIG_FILE, &contents).expect("written");
        assert_eq!(directory.read(CONFIG_FILE).expect("read"), Some(contents));
        assert_eq!(directory.read("absent").expect("read"), None);
    }
}
