//! Content digests: image-spec descriptor.md#digests. wharf uses sha256 alone.
use super::Error;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// A sha256 digest. Parsed once, so that its text is safe as a file name (CVE-2024-3727).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, which are enough for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// Digest of all that a hasher was given.
    pub(super) fn of_hasher(hasher: Sha256) -> Self {
        Self(hex::encode(hasher.finalize()))
    }

    /// Digest of bytes in memory.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let lowercase_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.chars().all(lowercase_hex) => Ok(Self(hex.to_owned())),
            _ => Err(Error::Digest(text.to_owned())),
        }
    }
}

/// Passes bytes on and counts and digests them.
#[derive(Debug)]
pub(super) struct Hashing<T> {
    inner: T,
    hasher: Sha256,
    length: u64,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new(), length: 0 }
    }

    /// The digest and the number of bytes that passed.
    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest::of_hasher(self.hasher), self.length)
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.take(&buffer[..length]);
        Ok(length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(buffer)?;
        self.take(&buffer[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_be_a_path_is_no_digest() {
        for bad in ["sha256:../../x", "sha256:", "sha512:00", "", &format!("sha256:{}", "A".repeat(64))] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_only_plain_names(text in "\\PC*") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert!(digest.hex().chars().all(|c| c.is_ascii_hexdigit()));
            }
        }
    }
}
