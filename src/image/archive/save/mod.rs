//! `wharf save`: images of the store as an archive or layout that other tools load.
//!
//! The same images give the same bytes: documents come first, so that a reader knows from the beginning
//! what follows, then the blobs in the order of the images, each once; owners are 0 and times the epoch.
//! Every blob's digest is taken while it is written. A destination has its name when all of it is there.

mod content;
mod docker;
mod oci;
mod output;
mod tape;

use super::super::store::random_name;
use super::super::{Compression, Error, Image, ImageName, Store};
use oci::Shape;
use output::{NewDirectory, Output};
use std::io::Write;
use std::path::{Path, PathBuf};
use tape::Tape;

/// In which form images are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// A tar of an OCI image layout that is a docker-archive too, as Docker writes it since version 25.
    OciArchive,
    /// What Docker wrote before: uncompressed layers, named by their diff_id.
    DockerArchive,
    /// An OCI image layout as a directory.
    OciDir,
}

/// Where `wharf save` writes to.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A file or directory, which is replaced or made as a whole.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// How images are saved.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// In which form.
    pub format: SaveFormat,
    /// How the archive as a whole is compressed.
    pub compression: Compression,
    /// Where to.
    pub destination: Destination,
}

/// Saves images under the names they have.
///
/// # Errors
/// Names the blob that is missing or damaged, or the file that cannot be written; no file or directory is
/// left then. On standard output an archive breaks off, so that nobody takes it for complete.
pub fn save(store: &Store, images: &[Image], options: &SaveOptions) -> Result<(), Error> {
    match (options.format, &options.destination) {
        (SaveFormat::OciDir, Destination::Path(path)) => {
            let mut directory = NewDirectory::create(path)?;
            oci::write(store, images, Shape::Directory, &mut directory)?;
            directory.commit()
        }
        (SaveFormat::OciDir, Destination::Stdout) => {
            Err(Error::invalid("standard output", "is no directory; name one, or save an archive"))
        }
        (_, destination) => {
            let mut output = Output::open(destination)?;
            write_compressed(store, images, options, &mut output)?;
            output.commit()
        }
    }
}

fn write_compressed(
    store: &Store,
    images: &[Image],
    options: &SaveOptions,
    output: &mut Output,
) -> Result<(), Error> {
    let what = output.what().to_owned();
    let failed = |error: std::io::Error| output::failed(&what)(error);
    match options.compression {
        Compression::None => write_archive(store, images, options.format, output, &what),
        Compression::Gzip => {
            // No name and no time in its header: the same input gives the same bytes.
            let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
            write_archive(store, images, options.format, &mut encoder, &what)?;
            encoder.finish().map(drop).map_err(failed)
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(output, 0).map_err(failed)?;
            write_archive(store, images, options.format, &mut encoder, &what)?;
            encoder.finish().map(drop).map_err(failed)
        }
    }
}

fn write_archive(
    store: &Store,
    images: &[Image],
    format: SaveFormat,
    out: &mut dyn Write,
    what: &str,
) -> Result<(), Error> {
    let mut tape = Tape::new(out, what);
    if format == SaveFormat::DockerArchive {
        docker::write(store, images, &mut tape)?;
    } else {
        oci::write(store, images, Shape::Archive, &mut tape)?;
    }
    tape.finish()
}

/// Takes files, in order.
trait Sink {
    /// Makes a directory; its parent was made before.
    fn directory(&mut self, name: &str) -> Result<(), Error>;
    /// Writes a file of which everything is known but the bytes.
    fn file(&mut self, name: &str, content: content::Content<'_>) -> Result<(), Error>;
}

/// What docker-archives call a tag: they know no digests.
fn tag_of(name: &ImageName) -> Option<String> {
    let tag = name.tag()?;
    Some(format!("{}/{}:{tag}", name.registry(), name.repository()))
}

/// A name beside this one, hidden and not yet taken.
fn sibling(path: &Path) -> Result<PathBuf, Error> {
    let name = path.file_name().ok_or_else(|| Error::invalid(path.display().to_string(), "has no name"))?;
    let suffix = random_name()?;
    Ok(path.with_file_name(format!(".{}.{suffix}", name.to_string_lossy())))
}
