//! The content of one file, with what it must turn out to be.
use super::super::super::compression::decompressed;
use super::super::super::layer::{Limits, layer_guard};
use super::super::super::manifest::digest_of;
use super::super::super::unpack::Layer;
use super::super::super::{Digest, Error, Store};
use oci_spec::image::Descriptor;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};

const BUFFER: usize = 256 << 10;

/// Bytes to come.
pub(super) struct Content<'a> {
    /// How to call it in an error.
    what: String,
    digest: Digest,
    size: u64,
    stream: Box<dyn Read + 'a>,
}

impl<'a> Content<'a> {
    /// A document in memory.
    pub(super) fn of_bytes(bytes: &'a [u8]) -> Self {
        let what = "a document".to_owned();
        Self { what, digest: Digest::of(bytes), size: bytes.len() as u64, stream: Box::new(bytes) }
    }

    /// A blob as it is in the store.
    pub(super) fn of_blob(store: &Store, descriptor: &Descriptor) -> Result<Self, Error> {
        let digest = digest_of(descriptor)?;
        let stream = Box::new(store.blob(&digest)?);
        Ok(Self { what: format!("blob {digest}"), digest, size: descriptor.size(), stream })
    }

    /// A layer without its compression. Its size is told by reading it once more.
    pub(super) fn of_layer(store: &Store, layer: &Layer) -> Result<Self, Error> {
        let what = format!("layer {}", layer.blob);
        let size = io::copy(&mut uncompressed(store, layer)?, &mut io::sink())
            .map_err(|error| Error::invalid(&what, format!("cannot be decompressed: {error}")))?;
        Ok(Self { what, digest: layer.diff_id.clone(), size, stream: uncompressed(store, layer)? })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// When it is not what it should be, for what lies in the store may have been damaged since.
    pub(super) fn write_to(
        mut self,
        out: &mut dyn Write,
        failed: impl Fn(io::Error) -> Error,
    ) -> Result<(), Error> {
        let mut hasher = Sha256::new();
        let mut left = self.size;
        let mut buffer = vec![0; BUFFER];
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let length = match self.stream.read(&mut buffer[..room]) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::invalid(&self.what, format!("cannot be read: {error}"))),
            };
            hasher.update(&buffer[..length]);
            out.write_all(&buffer[..length]).map_err(&failed)?;
            left -= length as u64;
        }
        let found = Digest::of_hasher(hasher);
        if found == self.digest {
            return Ok(());
        }
        let (expected, found) = (self.digest.to_string(), found.to_string());
        Err(Error::Mismatch { what: self.what, expected, found })
    }
}

fn uncompressed<'a>(store: &Store, layer: &Layer) -> Result<Box<dyn Read + 'a>, Error> {
    let what = format!("layer {}", layer.blob);
    let (_, stream) = decompressed(store.blob(&layer.blob)?)
        .map_err(|error| Error::invalid(what, format!("cannot be decompressed: {error}")))?;
    Ok(Box::new(layer_guard(Limits::default().for_compressed(layer.compressed_bytes)).stream(stream)))
}
