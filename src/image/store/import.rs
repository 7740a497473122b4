//! `wharf import`: the tar of a root file system becomes an image of one layer.
//!
//! The stream is read once. While it passes, its digests are taken, it is walked as tar, and it is written
//! to the staging area: as it came where it is compressed, and through gzip where it is not.
use super::super::archive::Found;
use super::super::compression::{Compression, decompressed};
use super::super::config::apply_changes;
use super::super::digest::Hashing;
use super::super::layer::{Guard, Limits};
use super::super::manifest::{describe, layer_type, manifest_of};
use super::super::policy::Policy;
use super::super::{Digest, Error, ImageName, Platform, Source};
use super::blobs::{Staged, Staging};
use super::{Store, Summary};
use oci_spec::image::{History, ImageConfiguration, RootFs};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::time::SystemTime;

const BUFFER: usize = 256 << 10;
/// tar(5): an archive ends with two blocks of zeros.
const END_OF_ARCHIVE: u64 = 1024;
/// Nothing is known of the compressed size while it streams.
const BYTES_LIMIT: u64 = 256 << 30;

/// What is imported, and what the image is to say.
#[derive(Debug, Clone)]
pub struct Import {
    /// The root file system: a tar, plain or compressed by gzip or zstd.
    pub source: Source,
    /// The image's name.
    pub name: Option<ImageName>,
    /// For which machines its programs are.
    pub platform: Platform,
    /// Instructions of a Dockerfile.
    pub changes: Vec<String>,
    /// For the image's history.
    pub message: Option<String>,
    /// When the image is said to be made.
    pub created: SystemTime,
}

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// The image in the store.
    pub image: Summary,
    /// How the layer is compressed there.
    pub compression: Compression,
}

impl Store {
    /// Makes an image of one layer.
    ///
    /// # Errors
    /// Names what is wrong with the changes or the stream; the store is as it was before.
    pub fn import(&self, import: &Import, policy: &Policy) -> Result<Imported, Error> {
        // What is wrong with the options is told before the first byte is read.
        let mut configuration = configuration(import)?;
        let (mut stream, what): (Box<dyn Read>, String) = match &import.source {
            Source::Path(path) => {
                let file = File::open(path).map_err(Error::file("open", path))?;
                (Box::new(file), path.display().to_string())
            }
            Source::Stdin => (Box::new(io::stdin().lock()), "standard input".to_owned()),
        };
        let (staging, lease) = self.staging()?;
        let layer = Layer::read(&mut stream, &staging, &what)?;
        let diff_ids = vec![layer.diff_id.to_string()];
        configuration.set_rootfs(rootfs(diff_ids));
        configuration.set_history(Some(vec![history(import, &what)]));
        let found = image_of(import.name.clone(), &configuration, layer.blob, layer.compression, &staging)?;
        self.admit(&found, policy)?;
        let image = self.establish(&[found], &lease)?.remove(0);
        Ok(Imported { image, compression: layer.compression })
    }
}

fn timestamp(import: &Import) -> String {
    humantime::format_rfc3339_seconds(import.created).to_string()
}

fn configuration(import: &Import) -> Result<ImageConfiguration, Error> {
    let mut configuration = ImageConfiguration::default();
    configuration.set_created(Some(timestamp(import)));
    import.platform.state_in(&mut configuration);
    apply_changes(&mut configuration, &import.changes)?;
    Ok(configuration)
}

fn rootfs(diff_ids: Vec<String>) -> RootFs {
    let mut rootfs = RootFs::default();
    rootfs.set_diff_ids(diff_ids);
    rootfs
}

fn history(import: &Import, what: &str) -> History {
    let mut history = History::default();
    history.set_created(Some(timestamp(import)));
    history.set_created_by(Some("wharf import".to_owned()));
    history.set_comment(Some(import.message.clone().unwrap_or_else(|| format!("Imported from {what}"))));
    history
}

/// Stages the documents of an image of one layer.
fn image_of(
    name: Option<ImageName>,
    configuration: &ImageConfiguration,
    layer: Staged,
    compression: Compression,
    staging: &Staging,
) -> Result<Found, Error> {
    // Through a Value, which sorts the keys of maps: the same image gives the same bytes.
    let text = serde_json::to_value(configuration)
        .map_err(|error| Error::invalid("the image's config", error.to_string()))?
        .to_string();
    let config = staging.stage(text.as_bytes(), "the config")?;
    let manifest = manifest_of(&config, &[describe(layer_type(compression), &layer)]);
    let manifest = staging.stage(manifest.to_string().as_bytes(), "the manifest")?;
    Ok(Found::made(name, manifest, config, layer))
}

/// A layer that has been read to its end.
#[derive(Debug)]
struct Layer {
    blob: Staged,
    diff_id: Digest,
    /// How the blob is compressed.
    compression: Compression,
}

impl Layer {
    fn read(stream: &mut dyn Read, staging: &Staging, what: &str) -> Result<Self, Error> {
        let unreadable = |error: io::Error| unreadable(what, &error);
        let incoming = staging.begin()?;
        let path = incoming.path().to_owned();
        let not_written = |error: io::Error| Error::file("write", &path)(error);
        let stream = BufReader::with_capacity(BUFFER, stream);
        let (compression, stream) = Compression::detect(stream).map_err(unreadable)?;
        if compression == Compression::None {
            let encoder = flate2::write::GzEncoder::new(incoming, flate2::Compression::default());
            let mut tee = Tee::new(Hashing::new(stream), encoder);
            let walked = walk(&mut tee, what);
            let (stream, encoder) = tee.parts().map_err(not_written)?;
            walked?;
            let blob = encoder.finish().map_err(not_written)?.finish();
            return Ok(Self { blob, diff_id: stream.finish().0, compression: Compression::Gzip });
        }
        let mut tee = Tee::new(stream, incoming);
        let walked = decompressed(&mut tee).map_err(unreadable).and_then(|(_, plain)| {
            let mut plain = Hashing::new(plain);
            walk(&mut plain, what)?;
            Ok(plain.finish().0)
        });
        let (_, incoming) = tee.parts().map_err(not_written)?;
        Ok(Self { blob: incoming.finish(), diff_id: walked?, compression })
    }
}

/// Reads a stream to its end, as tar.
fn walk(stream: &mut impl Read, what: &str) -> Result<(), Error> {
    let unreadable = |error: io::Error| unreadable(what, &error);
    let limits = Limits { bytes: Some(BYTES_LIMIT), ..Limits::default() };
    let guard = Guard::new(limits, "");
    let mut ending = Ending { inner: guard.stream(stream), zeros: 0 };
    let mut archive = tar::Archive::new(&mut ending);
    let mut entries = archive.entries().map_err(unreadable)?;
    for count in 0.. {
        guard.expect_headers();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(unreadable)?;
        if count >= limits.entries {
            return Err(Error::invalid(what, format!("has more than {} entries", limits.entries)));
        }
        guard.expect_content();
        io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
    }
    guard.expect_content();
    io::copy(&mut ending, &mut io::sink()).map_err(unreadable)?;
    if ending.zeros < END_OF_ARCHIVE {
        return Err(Error::invalid(what, "has no end-of-archive marker; it is truncated, or no tar archive"));
    }
    Ok(())
}

fn unreadable(what: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::invalid(what, "is truncated, or no tar archive"),
        _ => Error::invalid(what, format!("is damaged, or no tar archive (plain, gzip or zstd): {error}")),
    }
}

/// Counts the zeros that a stream ends with.
struct Ending<R> {
    inner: R,
    zeros: u64,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let zeros = buffer[..length].iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == length { self.zeros + zeros as u64 } else { zeros as u64 };
        Ok(length)
    }
}

/// Writes down what is read. A failure to write is told apart from one to read.
struct Tee<R, W> {
    from: R,
    to: W,
    failed: Option<io::Error>,
}

impl<R, W> Tee<R, W> {
    fn new(from: R, to: W) -> Self {
        Self { from, to, failed: None }
    }

    /// Both ends, or why it could not be written.
    fn parts(self) -> io::Result<(R, W)> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok((self.from, self.to)),
        }
    }
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        if let Err(error) = self.to.write_all(&buffer[..length]) {
            self.failed = Some(error);
            return Err(io::Error::other("the store cannot be written"));
        }
        Ok(length)
    }
}
