//! Where an archive or layout is written: it has its name when it is complete and on disk.
use super::super::super::Error;
use super::content::Content;
use super::{Destination, Sink, sibling};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const BUFFER: usize = 256 << 10;

/// What is wrong with an output. That nobody reads a pipe any more is a failure here: an archive of which
/// the end is missing is of no use.
pub(super) fn failed(what: &str) -> impl Fn(io::Error) -> Error {
    move |error| match error.kind() {
        ErrorKind::BrokenPipe => Error::invalid(what, "was closed before the archive was complete"),
        _ => Error::file("write", Path::new(what))(error),
    }
}

/// A file or standard output.
#[derive(Debug)]
pub(super) struct Output {
    stream: BufWriter<File>,
    what: String,
    file: Option<NewFile>,
}

/// A file that has no name, or not its own, until all of it is there.
#[derive(Debug)]
struct NewFile {
    path: PathBuf,
    /// Where the file system cannot make a file without a name.
    temporary: Option<PathBuf>,
}

impl Output {
    pub(super) fn open(destination: &Destination) -> Result<Self, Error> {
        let path = match destination {
            Destination::Path(path) => path,
            Destination::Stdout => {
                let stdout = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3);
                let stdout = stdout.map_err(|errno| failed("standard output")(errno.into()))?;
                return Ok(Self::new(stdout.into(), "standard output".to_owned(), None));
            }
        };
        let what = path.display().to_string();
        // Through a symbolic link the file that it leads to is replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.clone());
        match fs::metadata(&path) {
            Ok(data) if data.is_dir() => {
                Err(Error::invalid(what, "is a directory; name a file, or choose --format oci-dir"))
            }
            Ok(data) if !data.is_file() => {
                let device = File::options().write(true).open(&path).map_err(Error::file("open", &path))?;
                Ok(Self::new(device, what, None))
            }
            _ => {
                let (file, temporary) = nameless(&path)?;
                Ok(Self::new(file, what, Some(NewFile { path, temporary })))
            }
        }
    }

    fn new(stream: File, what: String, file: Option<NewFile>) -> Self {
        Self { stream: BufWriter::with_capacity(BUFFER, stream), what, file }
    }

    /// How to call it in an error.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Gives the file its name.
    pub(super) fn commit(mut self) -> Result<(), Error> {
        self.stream.flush().map_err(failed(&self.what))?;
        let Some(mut new) = self.file.take() else { return Ok(()) };
        let file = self.stream.get_ref();
        file.sync_all().map_err(failed(&self.what))?;
        new.name(file)?;
        sync_parent(&new.path)
    }
}

impl NewFile {
    fn name(&mut self, file: &File) -> Result<(), Error> {
        let failed = |path: &Path, errno: Errno| Error::file("create", path)(errno.into());
        if self.temporary.is_none() {
            match link(file, &self.path) {
                // linkat(2) replaces nothing, so that what is there is renamed over.
                Err(Errno::EXIST) => {
                    let temporary = sibling(&self.path)?;
                    link(file, &temporary).map_err(|errno| failed(&temporary, errno))?;
                    self.temporary = Some(temporary);
                }
                linked => return linked.map_err(|errno| failed(&self.path, errno)),
            }
        }
        let temporary = self.temporary.clone().unwrap_or_default();
        fs::rename(&temporary, &self.path).map_err(Error::file("create", &self.path))?;
        self.temporary = None;
        Ok(())
    }
}

fn link(file: &File, path: &Path) -> Result<(), Errno> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

impl Write for Output {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // The first error says what went wrong.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A file that goes with the process that writes it, whatever kills it; with a name that shows what it is
/// where the file system cannot (open(2), O_TMPFILE).
fn nameless(path: &Path) -> Result<(File, Option<PathBuf>), Error> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(parent(path), flags, Mode::from_raw_mode(0o600)) {
        return Ok((file.into(), None));
    }
    let temporary = sibling(path)?;
    let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
    Ok((file.map_err(Error::file("create", path))?, Some(temporary)))
}

/// A directory made beside its place and renamed.
#[derive(Debug)]
pub(super) struct NewDirectory {
    path: PathBuf,
    temporary: PathBuf,
}

impl NewDirectory {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let empty = match fs::read_dir(&path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if !empty {
            return Err(Error::invalid(path.display().to_string(), "is not empty; name a new directory"));
        }
        let temporary = sibling(&path)?;
        let made = fs::DirBuilder::new().mode(0o755).create(&temporary);
        made.map_err(Error::file("create", &path))?;
        Ok(Self { path, temporary })
    }

    /// Gives the directory its name.
    pub(super) fn commit(self) -> Result<(), Error> {
        let directory = File::open(&self.temporary).map_err(Error::file("open", &self.temporary))?;
        rustix::fs::syncfs(&directory).map_err(|errno| Error::file("write", &self.path)(errno.into()))?;
        // One that is there already is empty, and rename(2) replaces it.
        fs::rename(&self.temporary, &self.path).map_err(Error::file("create", &self.path))?;
        sync_parent(&self.path)
    }
}

impl Sink for NewDirectory {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        let path = self.temporary.join(name);
        fs::DirBuilder::new().mode(0o755).create(&path).map_err(Error::file("create", &path))
    }

    fn file(&mut self, name: &str, content: Content<'_>) -> Result<(), Error> {
        let path = self.temporary.join(name);
        let file = File::options().write(true).create_new(true).mode(0o644).open(&path);
        let mut file = file.map_err(Error::file("create", &path))?;
        content.write_to(&mut file, |error| Error::file("write", &path)(error))
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = fs::remove_dir_all(&self.temporary);
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = parent(path);
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(Error::file("write", parent))
}
