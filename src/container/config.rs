//! Reading and checking what a user gives: config.json of a bundle, and process files.
use super::{Error, dialect};
use crate::sys::record;
use oci_spec::runtime::{LinuxResources, Process, Spec};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};

/// Name of the configuration in a bundle, runtime-spec bundle.md.
pub(super) const CONFIG_FILE: &str = "config.json";

/// Reads `config.json` of a bundle. `warn` is told of what is left out, such as unknown capabilities.
///
/// # Errors
/// Names the file, or the JSON path of the value that is not what the specification wants.
pub fn read_config(bundle: &Path, warn: impl FnMut(&String)) -> Result<Spec, Error> {
    let text = read(&bundle.join(CONFIG_FILE), "JSON specification file")?;
    let mut spec = parse_leniently(CONFIG_FILE, &text, "process", warn)?;
    dialect::settle_pids_limit(&mut spec, &text);
    Ok(spec)
}

/// Reads a process file, the `process` object of a config.
///
/// # Errors
/// As [`read_config`].
pub fn read_process(path: &Path, warn: impl FnMut(&String)) -> Result<Process, Error> {
    parse_leniently(&path.display().to_string(), &read(path, "process file")?, "", warn)
}

/// Reads `linux.resources` as JSON; `file` is what to call its source in errors.
///
/// # Errors
/// As [`read_config`].
pub fn parse_resources(file: &str, text: &[u8]) -> Result<LinuxResources, Error> {
    parse(file, text)
}

/// Parses JSON that a user gave; only when it is refused is it looked at for values that can be
/// translated.
fn parse_leniently<T: DeserializeOwned>(
    file: &str,
    text: &[u8],
    process_at: &str,
    warn: impl FnMut(&String),
) -> Result<T, Error> {
    let refused = match parse(file, text) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    let Ok(mut document) = serde_json::from_slice(text) else { return Err(refused) };
    let warnings = dialect::translate(&mut document, process_at);
    let translated = serde_json::to_vec(&document).map_err(|error| refusal(file, error.to_string()))?;
    let parsed = parse(file, &translated)?;
    warnings.iter().for_each(warn);
    Ok(parsed)
}

/// Far more than any config has, and far less than a machine's memory.
const LARGEST_MIB: usize = 128;

fn read(path: &Path, kind: &str) -> Result<Vec<u8>, Error> {
    let whole = || {
        let beyond = (LARGEST_MIB << 20) + 1;
        let file = fs::File::from(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        let contents = match record::read_file(&file, beyond)? {
            Some(contents) => contents,
            // A pipe, say.
            None => {
                let mut contents = Vec::new();
                file.take(beyond as u64).read_to_end(&mut contents)?;
                contents
            }
        };
        if contents.len() < beyond {
            return Ok(contents);
        }
        Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {LARGEST_MIB} MiB")))
    };
    whole().map_err(|source: io::Error| match source.kind() {
        ErrorKind::NotFound => refusal(&path.display().to_string(), format!("{kind} not found")),
        _ => Error::Bundle { action: "read", path: path.to_owned(), source },
    })
}

/// Parses JSON at full speed, and once more to find the path when something is wrong with it.
pub(super) fn parse<T: DeserializeOwned>(file: &str, text: &[u8]) -> Result<T, Error> {
    match text.trim_ascii_start().first() {
        Some(b'{') => {}
        Some(_) => return Err(refusal(file, "is no JSON object")),
        None => return Err(refusal(file, "is empty; a JSON object is expected")),
    }
    let plain = match serde_json::from_slice(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) if error.path().iter().next().is_some() => Err(Error::Config {
            file: file.to_owned(),
            path: error.path().to_string(),
            reason: error.inner().to_string(),
        }),
        _ => Err(refusal(file, plain.to_string())),
    }
}

/// What is wrong with a file as a whole.
fn refusal(file: &str, reason: impl Into<String>) -> Error {
    Error::Config { file: file.to_owned(), path: String::new(), reason: reason.into() }
}

/// What must hold before anything else looks at the config.
pub(super) fn validate(spec: &Spec) -> Result<(), Error> {
    check_version(spec.version())?;
    let root = spec.root().as_ref().ok_or_else(|| Error::config("root", "is missing"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Error::config("root.path", "is empty; name the directory of the root file system"));
    }
    let process = spec.process().as_ref().ok_or_else(|| Error::config("process", "is missing"))?;
    if process.args().as_deref().unwrap_or_default().is_empty() {
        return Err(Error::config("process.args", "is missing or empty; name the program to run"));
    }
    for key in spec.annotations().iter().flat_map(|annotations| annotations.keys()) {
        if key.is_empty() {
            return Err(Error::config("annotations", "holds an empty key"));
        }
    }
    Ok(())
}

/// `ociVersion` must be a semantic version of major 1.
fn check_version(version: &str) -> Result<(), Error> {
    let refuse = |reason: &str| Err(Error::config("ociVersion", reason));
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let plain = |number: &&str| {
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && (*number == "0" || !number.starts_with('0'))
    };
    if version.is_empty() {
        return refuse("is missing; this runtime implements versions 1.0.0 to 1.3.0");
    }
    if numbers.len() != 3 || !numbers.iter().all(plain) || !identifiers_are_valid(&version[core.len()..]) {
        return refuse(&format!("{version:?} is not a semantic version such as 1.0.2"));
    }
    if numbers[0] != "1" {
        return refuse(&format!("{version:?} is not supported; this runtime implements 1.0.0 to 1.3.0"));
    }
    Ok(())
}

/// The `-pre.release+build` part of a semantic version, empty or not.
fn identifiers_are_valid(suffix: &str) -> bool {
    let (pre, build) = match suffix.split_once('+') {
        Some((pre, build)) => (pre, Some(build)),
        None => (suffix, None),
    };
    let valid = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        part.split('.').all(|name| !name.is_empty() && name.bytes().all(allowed))
    };
    pre.strip_prefix('-').map_or(pre.is_empty(), valid) && build.is_none_or(valid)
}

/// Absolute path of a bundle that exists.
pub(super) fn resolve_bundle(bundle: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::Bundle { action: "open bundle", path: bundle.to_owned(), source };
    if bundle.is_absolute() && !bundle.components().any(|name| name == Component::ParentDir) {
        // One call says that there is no symlink to look for, name by name.
        let found =
            openat2(CWD, bundle, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        if found.is_ok() {
            return Ok(bundle.components().collect());
        }
    }
    fs::canonicalize(bundle).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse::<Spec>(CONFIG_FILE, text.as_bytes()).expect_err("should be refused").to_string()
    }

    #[test]
    fn what_never_ends_is_refused() {
        let bundle = tempfile::tempdir().expect("tempdir");
        std::os::unix::fs::symlink("/dev/zero", bundle.path().join(CONFIG_FILE)).expect("link");
        let error = read_config(bundle.path(), |_| ()).expect_err("endless").to_string();
        assert!(error.contains("config.json") && error.contains("larger than 128 MiB"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_by_its_path() {
        let text = r#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"pid"},{"type":"moon"}]}}"#;
        let message = message(text);
        assert!(message.starts_with("config.json: linux.namespaces[1].type: unknown variant"), "{message}");
    }

    #[test]
    fn text_that_is_no_json_is_named_by_line_and_column() {
        assert!(message("{").starts_with("config.json: "), "{}", message("{"));
        assert!(message("{").contains("line 1 column"), "{}", message("{"));
    }

    #[test]
    fn what_is_no_object_is_refused_as_a_whole() {
        assert_eq!(message(" \n"), "config.json: is empty; a JSON object is expected");
        for text in ["[[[", "[]", "1", "\u{feff}{}"] {
            assert_eq!(message(text), "config.json: is no JSON object");
        }
    }

    #[test]
    fn versions_of_major_one_are_accepted() {
        for version in ["1.0.0", "1.0.2-dev", "1.3.0", "1.2.0-rc.1+build.5", "1.99.0", "1.0.0+a-b"] {
            assert!(check_version(version).is_ok(), "{version}");
        }
    }

    #[test]
    fn other_versions_are_refused_by_path() {
        for version in
            ["", "1", "1.0", "2.0.0", "0.9.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.x", "1.0.0-", "1.0.0-a..b"]
        {
            let error = check_version(version).expect_err(version).to_string();
            assert!(error.contains("ociVersion"), "{error}");
        }
    }

    #[test]
    fn process_and_root_must_be_there() {
        let spec = |text: &str| parse::<Spec>(CONFIG_FILE, text.as_bytes()).expect("parses");
        let missing_root = validate(&spec(r#"{"ociVersion":"1.0.0"}"#)).expect_err("no root");
        assert_eq!(missing_root.to_string(), "config.json: root: is missing");
        let missing_process = validate(&spec(r#"{"ociVersion":"1.0.0","root":{"path":"rootfs"}}"#));
        assert_eq!(missing_process.expect_err("no process").to_string(), "config.json: process: is missing");
    }
}
