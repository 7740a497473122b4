//! The store's index.json: which names there are, image-spec image-layout.md#indexjson-file.
use super::super::archive::REF_NAME;
use super::super::manifest::{DOCUMENT_LIMIT, Document, digest_of};
use super::super::{Digest, Error, ImageName};
use oci_spec::image::{Descriptor, DescriptorBuilder, ImageIndex, MediaType};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// A name and the manifest it stands for.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Option<ImageName>,
    pub(super) digest: Digest,
    descriptor: Descriptor,
}

impl Entry {
    pub(super) fn new(
        name: Option<ImageName>,
        digest: Digest,
        size: u64,
        media_type: &str,
    ) -> Result<Self, Error> {
        let invalid =
            |error: oci_spec::OciSpecError| Error::invalid("the index of the store", error.to_string());
        let mut descriptor = DescriptorBuilder::default()
            .media_type(MediaType::from(media_type))
            .size(size)
            .digest(digest.to_string().parse::<oci_spec::image::Digest>().map_err(invalid)?);
        if let Some(name) = &name {
            descriptor =
                descriptor.annotations(HashMap::from([(REF_NAME.to_owned(), name.full().to_owned())]));
        }
        Ok(Self { name, digest, descriptor: descriptor.build().map_err(invalid)? })
    }

    fn of(descriptor: &Descriptor) -> Result<Self, Error> {
        let name = descriptor.annotations().as_ref().and_then(|notes| notes.get(REF_NAME));
        Ok(Self {
            name: name.and_then(|name| name.parse().ok()),
            digest: digest_of(descriptor)?,
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
    match Document::parse(&bytes, &path.display().to_string())? {
        Document::Index(index) => index.manifests().iter().map(Entry::of).collect(),
        Document::Manifest(_) => Err(Error::invalid(path.display().to_string(), "is no index")),
    }
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
