//! A new index of the manifests that are there, for a store whose own cannot be read.
use super::super::manifest::{DOCUMENT_LIMIT, Document, media_type_of};
use super::super::{Digest, Error, ImageName};
use super::Store;
use super::index::{self, Entry};
use std::collections::HashSet;
use std::fs;

impl Store {
    /// Puts the index aside and makes a new one: of each manifest that is whole, under the names that it came
    /// with. The caller holds the lock. Returns how many images there are.
    pub(super) fn rebuild_index(&self, sound: &HashSet<String>) -> Result<usize, Error> {
        let (path, aside) = (self.layout.join("index.json"), self.layout.join("index.json.damaged"));
        let mut entries = Vec::new();
        for (hex, size) in self.blobs.list()? {
            if size <= DOCUMENT_LIMIT && sound.contains(&hex) {
                self.entries_of(&format!("sha256:{hex}").parse()?, size, &mut entries)?;
            }
        }
        fs::rename(&path, &aside).map_err(Error::file("put aside", &path))?;
        index::write(&self.layout, &entries)?;
        Ok(entries.len())
    }

    /// Adds the names of a manifest; of another blob, or of a manifest that lacks a part, nothing.
    fn entries_of(&self, digest: &Digest, size: u64, entries: &mut Vec<Entry>) -> Result<(), Error> {
        let bytes = self.blobs.document(digest)?;
        let Ok(document @ Document::Manifest(_)) = Document::parse(&bytes, "a blob") else { return Ok(()) };
        let media_type = media_type_of(&bytes, &document);
        let nameless = Entry::new(None, digest.clone(), size, &media_type, None)?;
        let whole = self
            .read(&nameless)
            .and_then(|image| image.blobs()?.iter().try_for_each(|blob| self.blobs.reader(blob).map(drop)));
        if whole.is_err() {
            return Ok(());
        }
        let names: Vec<ImageName> =
            self.names_noted(digest).iter().filter_map(|name| name.parse().ok()).collect();
        for name in &names {
            index::put(entries, nameless.named(name.clone())?);
        }
        if names.is_empty() {
            index::put(entries, nameless);
        }
        Ok(())
    }
}
