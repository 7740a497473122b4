//! Removal: of names, of images, and of content that nothing uses any more.
//!
//! What is used is what an image of the index, an instance or a lease of a running load or pull needs. All of
//! it is read, and all the rest removed, under the store's lock.
use super::super::unpack::restated_name;
use super::super::{Error, ImageName};
use super::blobs::Staging;
use super::index::{self, Entry};
use super::{Store, lease, pick};
use std::collections::HashSet;

/// What instances use.
#[derive(Debug, Clone, Default)]
pub struct InUse {
    /// Digests of manifests.
    pub images: HashSet<String>,
    /// Digits of the diff_ids of layers.
    pub layers: HashSet<String>,
}

/// What a removal has removed, or would.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Removed {
    /// Names, or digests of images without one.
    pub images: Vec<String>,
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Digits of the diff_ids of layers removed.
    pub layers: Vec<String>,
}

impl Store {
    /// Takes a name from an image. With its last name the image goes, and all that only it used.
    ///
    /// # Errors
    /// When there is no such image, an instance uses it, or a digest stands for several names.
    pub fn remove(&self, name: &str, in_use: &InUse) -> Result<Removed, Error> {
        let _lock = self.lock()?;
        let mut entries = index::read(&self.layout)?;
        let gone = pick(&entries, name)?.clone();
        let same: Vec<&Entry> = entries.iter().filter(|entry| entry.digest == gone.digest).collect();
        let by_name = name.parse::<ImageName>().is_ok_and(|name| gone.name.as_ref() == Some(&name));
        if !by_name && same.len() > 1 {
            let names = same.iter().filter_map(|entry| entry.name.as_ref().map(ToString::to_string));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(Error::Ambiguous(format!("{name} (names: {names})")));
        }
        if same.len() == 1 && in_use.images.contains(&gone.digest.to_string()) {
            return Err(Error::InUse(name.to_owned()));
        }
        entries.retain(|entry| entry.name != gone.name || entry.digest != gone.digest);
        let mut removed = self.collect(&entries, in_use, false)?;
        removed.images.push(gone.shown());
        Ok(removed)
    }

    /// Removes images without a name, or `all` of them, that no instance uses, and content that nothing uses.
    /// With `dry_run` it only tells of them.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune(&self, in_use: &InUse, all: bool, dry_run: bool) -> Result<Removed, Error> {
        let _lock = self.lock()?;
        let entries = index::read(&self.layout)?;
        let stays =
            |entry: &Entry| in_use.images.contains(&entry.digest.to_string()) || !all && entry.name.is_some();
        let (kept, gone): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(stays);
        let mut removed = self.collect(&kept, in_use, dry_run)?;
        removed.images = gone.iter().map(Entry::shown).collect();
        Ok(removed)
    }

    /// Removes images but these, and content that neither they nor anybody else uses. The caller holds the lock.
    fn collect(&self, entries: &[Entry], in_use: &InUse, dry_run: bool) -> Result<Removed, Error> {
        let used = self.used(entries, in_use)?;
        let mut removed = Removed::default();
        // Layers first: they can be made again of blobs, and on a full disk they make room for the new index.
        for hex in self.unpacked.list()?.into_iter().filter(|hex| !used.contains(hex)) {
            if !dry_run {
                self.unpacked.remove(&hex)?;
            }
            removed.layers.push(hex);
        }
        if !dry_run {
            self.unpacked.sweep()?;
            Staging::sweep(&self.layout)?;
            index::write(&self.layout, entries)?;
            self.forget_provenance(&used);
        }
        for (hex, bytes) in self.blobs.list()?.into_iter().filter(|(hex, _)| !used.contains(hex)) {
            removed.blobs += 1;
            removed.blob_bytes += bytes;
            if !dry_run {
                self.blobs.remove(&hex)?;
            }
        }
        Ok(removed)
    }

    fn used(&self, entries: &[Entry], in_use: &InUse) -> Result<HashSet<String>, Error> {
        let mut used = lease::held(&self.layout)?;
        used.extend(in_use.layers.iter().cloned());
        // An instance's image may have left the index: a commit needs it all the same, as far as it is there.
        let of_instances = in_use.images.iter().filter_map(|digest| self.entry_of(digest).ok());
        for image in of_instances.filter_map(|entry| self.read(&entry).ok()) {
            used.extend(image.blobs()?.iter().map(|blob| blob.hex().to_owned()));
            used.extend(image.digest.strip_prefix("sha256:").map(str::to_owned));
        }
        for entry in entries {
            used.insert(entry.digest.hex().to_owned());
            let image = self
                .read(entry)
                .map_err(|error| Error::Unknowable { image: entry.shown(), reason: Box::new(error) })?;
            used.extend(image.blobs()?.iter().map(|blob| blob.hex().to_owned()));
            let layers = image.layers()?;
            used.insert(restated_name(&layers).hex().to_owned());
            used.extend(layers.iter().map(|layer| layer.diff_id.hex().to_owned()));
        }
        Ok(used)
    }

    /// Gives an image one more name; one that has it loses it.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn tag(&self, image: &str, name: &ImageName) -> Result<(), Error> {
        if let Some(digest) = name.digest() {
            return Err(Error::Reference {
                text: name.to_string(),
                reason: format!("a new name cannot have a digest ({digest}); leave it out"),
            });
        }
        if name.repository().trim_start_matches("library/") == "sha256" {
            let reason = "it looks like a digest; choose another name".to_owned();
            return Err(Error::Reference { text: name.to_string(), reason });
        }
        let _lock = self.lock()?;
        let mut entries = index::read(&self.layout)?;
        let entry = pick(&entries, image)?.named(name.clone())?;
        index::put(&mut entries, entry);
        index::write(&self.layout, &entries)
    }
}
