//! From an archive into the store: every layer is copied, digested, decompressed and unpacked in one pass, and
//! several at once.
use super::super::archive::{self, Content, Files, Found, FoundLayer};
use super::super::parallel::{self, Abandon};
use super::super::progress::{BlobState, Progress};
use super::super::unpack::{Done, Layer, Watched, workers};
use super::super::{Digest, Error, ImageName, Policy, Source};
use super::blobs::{Incoming, Staged, Staging};
use super::{Store, Summary};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::sync::{Mutex, PoisonError};

/// How images are loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Name for the image of an archive that holds just one.
    pub tag: Option<String>,
    /// Whether layers are unpacked too, or by the first instance.
    pub unpack: bool,
    /// What may come in.
    pub policy: Policy,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { tag: None, unpack: true, policy: Policy::accept_all() }
    }
}

impl Store {
    /// Reads images into the store, verifying every digest.
    ///
    /// # Errors
    /// Names what is wrong with the archive, or what the policy says to it; the images of the store are as they were before.
    pub fn load(
        &self,
        source: &Source,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Summary>, Error> {
        let tag: Option<ImageName> = options.tag.as_deref().map(str::parse).transpose()?;
        let (staging, lease) = self.staging()?;
        let files = Files::open(source, &staging)?;
        let mut found = archive::read(&files, source, tag.as_ref())?;
        found.iter().try_for_each(|image| self.admit(image, &options.policy))?;
        let diff_ids = || found.iter().flat_map(|image| image.layers.iter().map(|layer| &layer.diff_id));
        self.hold(&lease, diff_ids())?;
        self.unpacked.sweep()?;
        let verified = self.verified(diff_ids())?;
        let (files, staging) = (&files, &staging);
        let load = Load { store: self, files, staging, unpack: options.unpack, verified, progress };
        let layers = load.layers(&found)?;
        for image in &mut found {
            if image.take(&layers, files)? {
                self.admit(image, &options.policy)?;
            }
        }
        self.establish(&found, &lease)
    }
}

/// Layers of an archive on their way in, by the name of their file.
type Layers = HashMap<String, Staged>;

struct Load<'a> {
    store: &'a Store,
    files: &'a Files<'a>,
    staging: &'a Staging,
    unpack: bool,
    /// Blobs and diff_ids of which it is known that they belong together.
    verified: HashSet<(Digest, Digest)>,
    progress: &'a dyn Progress,
}

impl Load<'_> {
    /// Brings in the layers of all images, each once.
    fn layers(&self, found: &[Found]) -> Result<Layers, Error> {
        let mut wanted: Vec<&FoundLayer> = found.iter().flat_map(|image| &image.layers).collect();
        wanted.sort_by(|a, b| (&a.file, &a.diff_id).cmp(&(&b.file, &b.diff_id)));
        wanted.dedup_by(|a, b| (&a.file, &a.diff_id) == (&b.file, &b.diff_id));
        // The largest first, so that none of them is left for the end, with the others idle.
        wanted.sort_by_key(|layer| std::cmp::Reverse(layer.size));
        let (abandon, taken) = (Abandon::default(), Mutex::new(Layers::new()));
        parallel::each(&wanted, workers(), &abandon, |layer| {
            let staged = self.layer(layer, &abandon).map_err(|error| match abandon.is_set() {
                true => Error::Abandoned,
                false => error,
            })?;
            taken.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.file.clone(), staged);
            Ok(())
        })?;
        Ok(taken.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn layer(&self, wanted: &FoundLayer, abandon: &Abandon) -> Result<Staged, Error> {
        let blob = wanted.promised.as_ref().map_or(&wanted.diff_id, |(digest, _)| digest);
        let layer =
            Layer { diff_id: wanted.diff_id.clone(), blob: blob.clone(), compressed_bytes: wanted.size };
        let unpacks = self.unpack && !self.store.unpacked.holds(&layer.diff_id);
        let read = |staged: &Staged| {
            let file = File::open(&staged.path).map_err(Error::file("open", &staged.path))?;
            Ok(Watched::new(file, &layer, self.progress, abandon))
        };
        let (staged, done) = match self.files.content(&wanted.file)? {
            Content::Staged(staged) if unpacks => {
                let done = self.store.unpacked.unpack(&layer, || read(&staged))?;
                (staged, done)
            }
            Content::Staged(staged) => (staged, Done::WasThere),
            Content::New if unpacks => self.copy_and_unpack(wanted, &layer, abandon)?,
            Content::New => (self.copy(wanted, &layer, abandon)?, Done::WasThere),
        };
        wanted.check(&staged)?;
        let is_verified = || self.verified.contains(&(staged.digest.clone(), layer.diff_id.clone()));
        if done == Done::WasThere && self.store.unpacked.holds(&layer.diff_id) && !is_verified() {
            self.store.unpacked.verify_blob(&layer, read(&staged)?)?;
        }
        self.progress.event(&layer.event(if self.unpack { BlobState::Unpacked } else { BlobState::Done }));
        Ok(staged)
    }

    fn copy(&self, wanted: &FoundLayer, layer: &Layer, abandon: &Abandon) -> Result<Staged, Error> {
        let source = Watched::new(self.files.reader(&wanted.file)?, layer, self.progress, abandon);
        self.staging.stage(source, &wanted.what)
    }

    fn copy_and_unpack(
        &self,
        wanted: &FoundLayer,
        layer: &Layer,
        abandon: &Abandon,
    ) -> Result<(Staged, Done), Error> {
        let copy = Mutex::new(None);
        let open = || {
            *copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.staging.begin()?);
            let source = Tee { source: self.files.reader(&wanted.file)?, copy: &copy };
            Ok(Watched::new(source, layer, self.progress, abandon))
        };
        match self.store.unpacked.unpack(layer, open) {
            // Another process had unpacked it; the blob is wanted all the same.
            Ok(Done::WasThere) => Ok((self.copy(wanted, layer, abandon)?, Done::WasThere)),
            // A blob that is damaged says more than what became of it when it was unpacked.
            Err(error) => match self.copy(wanted, layer, abandon).and_then(|copy| wanted.check(&copy)) {
                Err(mismatch @ Error::Mismatch { .. }) => Err(mismatch),
                _ => Err(error),
            },
            Ok(Done::Unpacked) => match copy.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(copy) => Ok((copy.finish(), Done::Unpacked)),
                None => Err(Error::invalid(&wanted.what, "was not read")),
            },
        }
    }
}

/// Copies into the staging area what is read.
struct Tee<'a, R> {
    source: R,
    copy: &'a Mutex<Option<Incoming>>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        if let Some(copy) = &mut *self.copy.lock().unwrap_or_else(PoisonError::into_inner) {
            copy.write_all(&buffer[..length])?;
        }
        Ok(length)
    }
}
