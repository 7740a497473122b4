//! The store's index.json: which names there are, image-spec image-layout.md#indexjson-file.
use super::super::archive::REF_NAME;
use super::super::manifest::{DOCUMENT_LIMIT, Document, digest_of};
use super::super::{Digest, Error, ImageName};
use oci_spec::image::{Descriptor, DescriptorBuilder, ImageIndex, MediaType};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// Where the digest of the index is noted that a registry has under the same name.
const INDEX_DIGEST: &str = "wharf.index.digest";

/// A name and the manifest it stands for.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Option<ImageName>,
    pub(super) digest: Digest,
    /// Digest of the index from which the manifest was chosen.
    pub(super) index: Option<Digest>,
    descriptor: Descriptor,
}

impl Entry {
    pub(super) fn new(
        name: Option<ImageName>,
        digest: Digest,
        size: u64,
        media_type: &str,
        index: Option<Digest>,
    ) -> Result<Self, Error> {
        let invalid =
            |error: oci_spec::OciSpecError| Error::invalid("the index of the store", error.to_string());
        let mut descriptor = DescriptorBuilder::default()
            .media_type(MediaType::from(media_type))
            .size(size)
            .digest(digest.to_string().parse::<oci_spec::image::Digest>().map_err(invalid)?);
        let name_note = name.as_ref().map(|name| (REF_NAME.to_owned(), name.full().to_owned()));
        let index_note = index.as_ref().map(|index| (INDEX_DIGEST.to_owned(), index.to_string()));
        let notes: HashMap<String, String> = name_note.into_iter().chain(index_note).collect();
        if !notes.is_empty() {
            descriptor = descriptor.annotations(notes);
        }
        Ok(Self { name, digest, index, descriptor: descriptor.build().map_err(invalid)? })
    }

    /// The same image under another name.
    pub(super) fn named(&self, name: ImageName) -> Result<Self, Error> {
        let descriptor = &self.descriptor;
        let media_type = descriptor.media_type().to_string();
        Self::new(Some(name), self.digest.clone(), descriptor.size(), &media_type, self.index.clone())
    }

    /// Its familiar name, or its digest.
    pub(super) fn shown(&self) -> String {
        self.name.as_ref().map_or_else(|| self.digest.to_string(), ToString::to_string)
    }

    fn forget_name(&mut self) {
        self.name = None;
        if let Some(mut notes) = self.descriptor.annotations().clone() {
            notes.remove(REF_NAME);
            self.descriptor.set_annotations(Some(notes));
        }
    }

    fn of(descriptor: &Descriptor) -> Result<Self, Error> {
        let note = |key: &str| descriptor.annotations().as_ref().and_then(|notes| notes.get(key));
        Ok(Self {
            name: note(REF_NAME).and_then(|name| name.parse().ok()),
            digest: digest_of(descriptor)?,
            index: note(INDEX_DIGEST).and_then(|digest| digest.parse().ok()),
            descriptor: descriptor.clone(),
        })
    }
}

/// Reads the names; a store without the file is empty.
pub(super) fn read(layout: &Path) -> Result<Vec<Entry>, Error> {
    let path = layout.join("index.json");
    let mut bytes = Vec::new();
    match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        file => {
            let file = file.map_err(Error::file("open", &path))?;
            file.take(DOCUMENT_LIMIT).read_to_end(&mut bytes).map_err(Error::file("read", &path))?;
        }
    }
    let damaged = |reason: String| {
        let reason = format!("{reason}; wharf fsck --repair makes a new one of the images that are there");
        Error::invalid(path.display().to_string(), reason)
    };
    match Document::parse(&bytes, "it") {
        Ok(Document::Index(index)) => index.manifests().iter().map(Entry::of).collect(),
        Ok(Document::Manifest(_)) => Err(damaged("is no index".to_owned())),
        Err(error) => Err(damaged(format!("is damaged ({error})"))),
    }
}

/// Adds an entry. A name stands for one image; the one that had it before stays without a name, because
/// instances may be made of it. An image is without a name only where it has none.
pub(super) fn put(entries: &mut Vec<Entry>, entry: Entry) {
    if let Some(old) = entries.iter_mut().find(|old| entry.name.is_some() && old.name == entry.name) {
        old.forget_name();
    }
    if entry.name.is_some() || entries.iter().all(|old| old.digest != entry.digest) {
        entries.push(entry);
    }
    let named: HashSet<Digest> =
        entries.iter().filter(|entry| entry.name.is_some()).map(|entry| entry.digest.clone()).collect();
    let mut seen = HashSet::new();
    entries.retain(|entry| {
        entry.name.is_some() || !named.contains(&entry.digest) && seen.insert(entry.digest.clone())
    });
}

/// Replaces the names as a whole.
pub(super) fn write(layout: &Path, entries: &[Entry]) -> Result<(), Error> {
    let mut index = ImageIndex::default();
    index.set_schema_version(2);
    index.set_media_type(Some(MediaType::ImageIndex));
    index.set_manifests(entries.iter().map(|entry| entry.descriptor.clone()).collect());
    let bytes = serde_json::to_vec(&index)
        .map_err(|error| Error::invalid("the index of the store", error.to_string()))?;
    replace(&layout.join("index.json"), &bytes)
}

/// Writes a file so that a reader, or a power cut, finds the old or the new one and nothing between.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).map_err(Error::file("write", path))
}
