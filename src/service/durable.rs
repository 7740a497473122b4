//! Files that are either the old or the new text, whatever is killed when.
//!
//! A text that only has to outlive processes is written and renamed; one that has to outlive the power is brought to the
//! disk too, at once or with [`sync`] when whoever waits for the instance's first output no longer does. In between a
//! power failure may leave a file without a byte, which [`read_json`] takes for none.
use super::Error;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// When a text has to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disk {
    /// Before it takes the file's name.
    Now,
    /// Some time, or when [`sync`] says so.
    Later,
}

/// Replaces a file by the JSON of a value: temporary file, rename.
pub(super) fn replace_json<T: Serialize>(path: &Path, value: &T, disk: Disk) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let text = json(path, value)?;
    let written = write(&temporary, &text, disk).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The first error says what went wrong.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(Error::file("write", path))
}

/// Writes the JSON of a value into a directory that has no name yet for others.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    write(path, &json(path, value)?, Disk::Later).map_err(Error::file("write", path))
}

fn write(path: &Path, contents: &[u8], disk: Disk) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    if disk == Disk::Now { file.sync_all() } else { Ok(()) }
}

fn json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, Error> {
    let mut text = serde_json::to_vec(value).map_err(|error| Error::Record {
        path: path.to_owned(),
        field: String::new(),
        source: error,
    })?;
    text.push(b'\n');
    Ok(text)
}

/// Reads a JSON file; `None` when there is none, or one without a byte.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) if text.is_empty() => return Ok(None),
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    let mut json = serde_json::Deserializer::from_slice(&text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| Error::Record {
        path: path.to_owned(),
        field: error.path().to_string(),
        source: error.into_inner(),
    })?;
    Ok(Some(value))
}

/// Brings a file, or the names in a directory, to the disk. One that is gone need not be there.
pub(super) fn sync(path: &Path) -> Result<(), Error> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("sync", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_private_and_leaves_no_temporary() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state.json");
        replace_json(&path, &vec![1, 2], Disk::Now).unwrap();
        replace_json(&path, &vec![3], Disk::Later).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(scratch.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_the_wrong_shape_is_named_with_its_field() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state.json");
        std::fs::write(&path, "[1, \"two\"]").unwrap();
        let error = read_json::<Vec<u8>>(&path).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("[1]"), "{error}");
        assert_eq!(read_json::<Vec<u8>>(&scratch.path().join("absent")).unwrap(), None);
        std::fs::write(&path, "").unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), None);
    }
}
