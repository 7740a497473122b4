//! New content: staged, held by a lease, and given its name when all of it is there and on disk.
use super::super::Error;
use super::super::archive::{Found, Manifest};
use super::blobs::{Staged, Staging};
use super::index::{self, Entry};
use super::lease::{self, Lease};
use super::{Store, Summary};

impl Store {
    /// A place for blobs on their way in, and a lease that holds nothing yet.
    pub(super) fn staging(&self) -> Result<(Staging, Lease), Error> {
        let _lock = self.lock()?;
        Staging::sweep(&self.layout)?;
        lease::sweep(&self.layout)?;
        Ok((Staging::new(&self.layout)?, Lease::new(&self.layout)?))
    }

    /// Gives images whose blobs are all staged their place in the store.
    pub(super) fn establish(&self, found: &[Found], lease: &Lease) -> Result<Vec<Summary>, Error> {
        self.sync()?;
        let _lock = self.lock()?;
        let mut entries = index::read(&self.layout)?;
        let mut loaded = Vec::with_capacity(found.len());
        for image in found {
            let Manifest::Staged(manifest) = &image.manifest else { continue };
            let blobs: Vec<&Staged> = image.blobs.iter().chain([manifest]).collect();
            lease.add(blobs.iter().map(|blob| &blob.digest))?;
            for blob in blobs {
                self.blobs.commit(blob)?;
            }
            let (digest, size) = (manifest.digest.clone(), manifest.size);
            let entry = Entry::new(image.name.clone(), digest, size, &image.media_type, None)?;
            index::put(&mut entries, entry.clone());
            loaded.push(entry);
        }
        self.blobs.sync()?;
        found.iter().try_for_each(|image| self.note_loaded(image))?;
        index::write(&self.layout, &entries)?;
        loaded.iter().map(|entry| Ok(self.read(entry)?.summary())).collect()
    }
}
