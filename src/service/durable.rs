//! Files that are either the old or the new text, whatever is killed when.
use super::Error;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces a file: temporary file, fsync, rename.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let written = write_and_rename(&temporary, path, contents);
    if written.is_err() {
        // The first error says what went wrong.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(Error::file("write", path))
}

fn write_and_rename(temporary: &Path, path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

/// Replaces a file by the JSON of a value.
pub(super) fn replace_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let mut text = serde_json::to_vec(value).map_err(|error| Error::Record {
        path: path.to_owned(),
        field: String::new(),
        source: error,
    })?;
    text.push(b'\n');
    replace(path, &text)
}

/// Reads a JSON file; `None` when there is none.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match std::fs::read(path) {
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

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::file("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_private_and_leaves_no_temporary() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state.json");
        replace_json(&path, &vec![1, 2]).unwrap();
        replace_json(&path, &vec![3]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(scratch.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_the_wrong_shape_is_named_with_its_field() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state.json");
        replace(&path, b"[1, \"two\"]").unwrap();
        let error = read_json::<Vec<u8>>(&path).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("[1]"), "{error}");
        assert_eq!(read_json::<Vec<u8>>(&scratch.path().join("absent")).unwrap(), None);
    }
}
