//! Where images came from and what signatures they had: `images/.provenance/HEX.json` by the manifest's
//! digest, so that a policy can be asked again when an image is to run, without its registry.
use super::super::archive::{Found, Manifest};
use super::super::policy::{Origin, Policy, Signature, Subject};
use super::super::{Digest, Error};
use super::index;
use super::{Image, Store};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

/// What is known of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    entries: Vec<Provenance>,
}

impl Record {
    /// Whatever name they came with: for which names one counts, the policy says.
    fn signatures(&self) -> Vec<Signature> {
        self.entries.iter().flat_map(|entry| entry.signatures.iter().cloned()).collect()
    }
}

/// How an image came by a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::image) struct Provenance {
    /// Its full name.
    pub(in crate::image) name: Option<String>,
    pub(in crate::image) origin: Origin,
    /// Digest of the index that led to the manifest.
    pub(in crate::image) index: Option<String>,
    /// What was signed there.
    pub(in crate::image) signatures: Vec<Signature>,
}

impl Store {
    fn provenance(&self) -> PathBuf {
        self.layout.join(".provenance")
    }

    fn record(&self, manifest: &Digest) -> Result<Record, Error> {
        let path = self.provenance().join(format!("{}.json", manifest.hex()));
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Record::default()),
            bytes => bytes.map_err(Error::file("read", &path))?,
        };
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(path.display().to_string(), format!("is malformed: {error}")))
    }

    /// Names that a manifest came with, as far as they are known.
    pub(super) fn names_noted(&self, manifest: &Digest) -> Vec<String> {
        let record = self.record(manifest).unwrap_or_default();
        record.entries.into_iter().filter_map(|entry| entry.name).collect()
    }

    /// Notes where an image came from, beside other names of the same manifest. The caller holds the store's lock.
    fn note(&self, manifest: &Digest, mut provenance: Provenance) -> Result<(), Error> {
        let directory = self.provenance();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(Error::file("create", &directory))?;
        let mut record = self.record(manifest)?;
        let known = record.entries.iter().position(|entry| entry.name == provenance.name);
        if let Some(old) = known.map(|at| record.entries.remove(at))
            && provenance.signatures.is_empty()
        {
            // Nobody asked for them this time; they may be asked for again.
            provenance.signatures = old.signatures;
        }
        record.entries.push(provenance);
        let bytes = serde_json::to_vec(&record)
            .map_err(|error| Error::invalid("the provenance of an image", error.to_string()))?;
        index::replace(&directory.join(format!("{}.json", manifest.hex())), &bytes)
    }

    /// Forgets where images came from that are gone. The caller holds the store's lock.
    pub(super) fn forget_provenance(&self, kept: &HashSet<String>) {
        for entry in fs::read_dir(self.provenance()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !name.to_string_lossy().strip_suffix(".json").is_some_and(|hex| kept.contains(hex)) {
                // What stays of an image that is gone is asked by nobody.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Asks the policy whether an image of an archive may come in. Of one that has no manifest yet, nothing that
    /// needs a digest is asked.
    pub(super) fn admit(&self, found: &Found, policy: &Policy) -> Result<(), Error> {
        let demand = policy.demand(&found.origin, found.name.as_ref());
        let Manifest::Staged(manifest) = &found.manifest else {
            return demand.check_origin(&Subject { name: found.name.as_ref(), digests: &[] });
        };
        let digests = [manifest.digest.clone()];
        let subject = Subject { name: found.name.as_ref(), digests: &digests };
        demand.check_signed(&subject, &self.record(&manifest.digest)?.signatures())
    }

    /// Notes where an image of an archive came from. The caller holds the store's lock.
    pub(super) fn note_loaded(&self, found: &Found) -> Result<(), Error> {
        let Manifest::Staged(manifest) = &found.manifest else { return Ok(()) };
        let name = found.name.as_ref().map(|name| name.full().to_owned());
        let provenance =
            Provenance { name, origin: found.origin.clone(), index: None, signatures: Vec::new() };
        self.note(&manifest.digest, provenance)
    }

    /// Notes the provenance of an image that is in the store.
    pub(in crate::image) fn note_pulled(
        &self,
        manifest: &Digest,
        provenance: Provenance,
    ) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.note(manifest, provenance)
    }

    /// Asks the policy whether an image of the store may run, as it was asked when the image came: by its
    /// origin, its digests, and the signatures that it had then. One of which nothing is noted is judged by
    /// its name.
    ///
    /// # Errors
    /// Names the policy and the place in it.
    pub fn check_policy(&self, image: &Image, policy: &Policy) -> Result<(), Error> {
        let manifest: Digest = image.digest.parse()?;
        let record = self.record(&manifest)?;
        let name = image.name();
        let full = name.map(|name| name.full().to_owned());
        let entry = record.entries.iter().find(|entry| entry.name == full);
        let origin = match (entry, name) {
            (Some(entry), _) => entry.origin.clone(),
            (None, Some(name)) => Origin::registry(name),
            (None, None) => Origin::archive("tarball", None),
        };
        let mut digests = vec![manifest];
        if let Some(index) = entry.and_then(|entry| entry.index.as_ref()) {
            digests.push(index.parse()?);
        }
        let subject = Subject { name, digests: &digests };
        policy.demand(&origin, name).check_signed(&subject, &record.signatures())
    }
}
