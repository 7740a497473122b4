//! From a registry into the store.
use super::auth::Scope;
use super::client::Client;
use super::download::{Downloads, Wanted};
use super::hosts::Capability;
use super::manifest::{Received, Which, fetch};
use super::transport::Transport;
use super::{Abandon, Error, Options, clients, signatures};
use crate::image::manifest::{DOCUMENT_LIMIT, Document, check_layer_count, digest_of, parse_config};
use crate::image::parallel;
use crate::image::policy::{Origin, Signature, Subject};
use crate::image::progress::{BlobState, Event, Progress};
use crate::image::store::ingest::{Claim, Ingest};
use crate::image::store::{Fetched, Provenance, layers_of};
use crate::image::unpack::{Arrival, Layer, Settled, Watched, workers};
use crate::image::{Digest, Error as ImageError, ImageName, Platform, Policy, Store, Summary};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use std::collections::HashSet;
use std::io::Read as _;
use std::sync::Arc;

/// Indexes may point to indexes; no real one does so more often.
const DEPTH_LIMIT: usize = 4;
/// More entries than there are platforms, signatures and attestations of them.
const ENTRIES_LIMIT: usize = 4096;
/// overlayfs takes no more.
const LAYERS_LIMIT: usize = 500;
/// No layer is larger.
const BLOB_LIMIT: u64 = 256 << 30;

/// What was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image in the store.
    pub image: Summary,
    /// What the reference stands for at the registry: an index, or the manifest itself.
    pub digest: Digest,
    /// Whether anything had to be fetched.
    pub fetched: bool,
}

/// Pulls an image for a platform.
///
/// # Errors
/// Names what was attempted, the URL, the reason and what to do. What had been fetched of a blob is kept for
/// the next try; the store is as it was before.
pub fn pull(
    store: &Store,
    name: &ImageName,
    platform: &Platform,
    policy: &Policy,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let (transport, abandon) = (Transport::new(&options.certs_dir, options.timeout), Abandon::default());
    let wanted = [Capability::Pull, Capability::Resolve];
    let clients = clients(name.registry(), name.repository(), &wanted, options, &transport, &abandon)?;
    let scope = Scope(vec![format!("repository:{}:pull", name.repository())]);
    let pull = Pull {
        store,
        name,
        platform,
        policy,
        options,
        progress,
        clients: &clients,
        scope: &scope,
        abandon: &abandon,
    };
    pull.run()
}

struct Pull<'a> {
    store: &'a Store,
    name: &'a ImageName,
    platform: &'a Platform,
    policy: &'a Policy,
    options: &'a Options,
    progress: &'a dyn Progress,
    clients: &'a [Client<'a>],
    scope: &'a Scope,
    abandon: &'a Abandon,
}

impl Pull<'_> {
    fn run(&self) -> Result<Pulled, Error> {
        let lease = self.store.lease()?;
        let (received, manifest, index) = self.resolve()?;
        let signatures = self.admit(&received.digest, index.as_ref())?;
        let ingest = self.store.ingest()?;
        let config = self.wanted(manifest.config())?;
        let wanted: Vec<Wanted> =
            manifest.layers().iter().map(|layer| self.wanted(layer)).collect::<Result<_, Error>>()?;
        let digests = wanted.iter().chain([&config]).map(|blob| &blob.digest);
        self.store.hold(&lease, digests.chain([&received.digest]))?;
        let mut fetched = self.keep_manifest(&received, &ingest)?;
        let config = Coming::new(config);
        fetched |= self.fetch(&ingest, std::slice::from_ref(&config))?;
        let parsed = self.check_config(&ingest, &config.wanted, &manifest)?;
        let layers = layers_of(&manifest, &parsed, &format!("image {}", self.name))?;
        self.store.hold(&lease, layers.iter().map(|layer| &layer.diff_id))?;
        let mut blobs: Vec<Coming> = wanted.into_iter().map(Coming::new).collect();
        let mut seen = HashSet::new();
        blobs.retain(|blob| seen.insert(blob.wanted.digest.clone()));
        // Layers of images for other machines are never mounted here.
        let unpacks = self.options.unpack && Platform::host().check(&parsed, "").is_ok();
        let verified = self.store.verified(layers.iter().map(|layer| &layer.diff_id))?;
        let mut seen = HashSet::new();
        let work: Vec<&Layer> = layers
            .iter()
            .filter(|layer| seen.insert((&layer.blob, &layer.diff_id)))
            .filter(|layer| match self.store.has_layer(&layer.diff_id) {
                // The layer may be that of another blob.
                true => !verified.contains(&(layer.blob.clone(), layer.diff_id.clone())),
                false => unpacks,
            })
            .collect();
        fetched |= self.fetch_and_unpack(&ingest, &blobs, &work)?;
        let image = Fetched {
            name: self.name.clone(),
            manifest: received.digest.clone(),
            manifest_size: received.bytes.len() as u64,
            media_type: received.media_type.clone(),
            index: index.clone(),
            blobs: std::iter::once(&config).chain(&blobs).map(|blob| blob.wanted.digest.clone()).collect(),
        };
        let image = self.store.adopt(&ingest, &image)?;
        self.note(&received.digest, index.as_ref(), signatures)?;
        Ok(Pulled { image, digest: index.unwrap_or(received.digest), fetched })
    }

    /// Fetches blobs, and unpacks layers while they arrive.
    fn fetch_and_unpack(&self, ingest: &Ingest, blobs: &[Coming], layers: &[&Layer]) -> Result<bool, Error> {
        std::thread::scope(|scope| {
            let unpacking = scope.spawn(|| {
                parallel::each(layers, workers(), self.abandon, |layer| {
                    let blob = blobs.iter().find(|blob| blob.wanted.digest == layer.blob);
                    blob.map_or(Ok(()), |blob| Ok(self.unpack(layer, &blob.arrival)?))
                })
            });
            let fetched = self.fetch(ingest, blobs);
            for blob in blobs {
                blob.arrival.given_up();
            }
            let unpacked = unpacking.join().unwrap_or(Err(Error::Abandoned));
            let fetched_any = matches!(fetched, Ok(true));
            parallel::the_cause(fetched.map(|_| ()), unpacked).map(|()| fetched_any)
        })
    }

    /// Unpacks a layer, again when what had arrived was not what it should be.
    fn unpack(&self, layer: &Layer, arrival: &Arrival) -> Result<(), ImageError> {
        loop {
            let round = arrival.round();
            let open = || Ok(Watched::new(arrival.follow(), layer, self.progress, self.abandon));
            let Err(error) = self.store.unpack_layer(layer, open) else {
                self.progress.event(&layer.event(BlobState::Unpacked));
                return Ok(());
            };
            if matches!(error, ImageError::File { .. }) {
                return Err(error);
            }
            match arrival.settled(round) {
                Settled::BegunAgain => {}
                Settled::Complete if !self.abandon.is_set() => return Err(error),
                Settled::Complete | Settled::GivenUp => return Err(ImageError::Abandoned),
            }
        }
    }

    /// Asks the policy, before anything comes in, with the signatures of the manifest and of the index that
    /// led there where it asks for one. Returns those there are.
    fn admit(&self, manifest: &Digest, index: Option<&Digest>) -> Result<Vec<Signature>, Error> {
        let digests: Vec<Digest> = std::iter::once(manifest).chain(index).cloned().collect();
        let subject = Subject { name: Some(self.name), digests: &digests };
        let demand = self.policy.demand(&Origin::registry(self.name), Some(self.name));
        demand.check(&subject)?;
        let mut found = Vec::new();
        if demand.asks_for_signatures() {
            for digest in &digests {
                let (repository, scope) = (self.name.repository(), self.scope);
                found.extend(signatures::fetch(self.clients, repository, scope, digest, self.progress)?);
            }
        }
        demand.check_signed(&subject, &found)?;
        Ok(found)
    }

    /// Keeps what the policy will be asked about when the image is to run.
    fn note(
        &self,
        manifest: &Digest,
        index: Option<&Digest>,
        signatures: Vec<Signature>,
    ) -> Result<(), Error> {
        let (name, index) = (self.name.full().to_owned(), index.map(ToString::to_string));
        let provenance =
            Provenance { name: Some(name), origin: Origin::registry(self.name), index, signatures };
        Ok(self.store.note_pulled(manifest, provenance)?)
    }

    /// The manifest for our platform, and the digest of the index that led to it.
    fn resolve(&self) -> Result<(Received, Box<ImageManifest>, Option<Digest>), Error> {
        let digest = self.name.digest();
        let which = match &digest {
            Some(digest) => Which::Digest(digest, None),
            None => Which::Tag(self.name.tag().unwrap_or("latest")),
        };
        let mut received = self.document(which)?;
        self.progress.event(&Event::Resolved(&received.digest));
        let top = received.digest.clone();
        for depth in 0..=DEPTH_LIMIT {
            let what = format!("{} ({})", self.name, received.digest);
            match received.document {
                Document::Manifest(manifest) => {
                    if manifest.layers().len() > LAYERS_LIMIT {
                        let count = manifest.layers().len();
                        let reason =
                            format!("has {count} layers; no more than {LAYERS_LIMIT} can be mounted");
                        return Err(ImageError::invalid(what, reason).into());
                    }
                    let index = (received.digest != top).then_some(top);
                    received.document = Document::Manifest(manifest.clone());
                    return Ok((received, manifest, index));
                }
                Document::Index(index) => {
                    if index.manifests().len() > ENTRIES_LIMIT {
                        let reason = format!("has more than {ENTRIES_LIMIT} entries; refused");
                        return Err(ImageError::invalid(what, reason).into());
                    }
                    if depth < DEPTH_LIMIT {
                        let chosen = self.platform.choose(&index, &what)?;
                        let digest = digest_of(chosen)?;
                        received = self.document(Which::Digest(&digest, Some(chosen.size())))?;
                        continue;
                    }
                    break;
                }
            }
        }
        Err(ImageError::invalid(self.name.to_string(), "indexes point to each other without end").into())
    }

    fn document(&self, which: Which<'_>) -> Result<Received, Error> {
        fetch(self.clients, self.name.repository(), self.scope, which, self.progress)
    }

    fn wanted(&self, descriptor: &Descriptor) -> Result<Wanted, Error> {
        let digest = digest_of(descriptor)?;
        let size = descriptor.size();
        if size > BLOB_LIMIT {
            let reason = format!("is said to have {size} bytes; refused above {BLOB_LIMIT}");
            return Err(ImageError::invalid(format!("blob {digest}"), reason).into());
        }
        let urls = descriptor.urls().clone().unwrap_or_default();
        Ok(Wanted { digest, size, urls })
    }

    /// Puts the manifest into the ingest area; false when the store has it.
    fn keep_manifest(&self, received: &Received, ingest: &Ingest) -> Result<bool, Error> {
        if self.store.holds(&received.digest, received.bytes.len() as u64) {
            return Ok(false);
        }
        if let Claim::Partial(mut partial) = ingest.claim(&received.digest, true)? {
            partial.restart()?;
            partial.write(&received.bytes)?;
            if let Err(found) = partial.finish(&received.digest)? {
                let (what, expected) = ("the manifest".to_owned(), received.digest.to_string());
                return Err(ImageError::Mismatch { what, expected, found: found.to_string() }.into());
            }
        }
        Ok(true)
    }

    /// Fetches what the store lacks; false when it lacks nothing.
    fn fetch(&self, ingest: &Ingest, blobs: &[Coming]) -> Result<bool, Error> {
        let (present, missing): (Vec<&Coming>, Vec<&Coming>) =
            blobs.iter().partition(|blob| self.store.holds(&blob.wanted.digest, blob.wanted.size));
        for blob in present {
            let (digest, size) = (&blob.wanted.digest, blob.wanted.size);
            let file = self.store.blob(digest)?;
            blob.arrival.is_there(file).map_err(|error| self.unreadable(digest, &error))?;
            self.progress.event(&Event::Blob { digest, size, state: BlobState::Present });
        }
        self.check_room(&missing)?;
        let repository = self.name.repository();
        let downloads =
            Downloads { clients: self.clients, repository, scope: self.scope, store: self.store, ingest };
        parallel::each(&missing, self.options.parallel, self.abandon, |blob| {
            if let Some(file) = downloads.fetch(&blob.wanted, &blob.arrival, self.progress)? {
                blob.arrival.is_there(file).map_err(|error| self.unreadable(&blob.wanted.digest, &error))?;
            }
            Ok::<(), Error>(())
        })?;
        Ok(!missing.is_empty())
    }

    fn unreadable(&self, digest: &Digest, error: &std::io::Error) -> Error {
        ImageError::invalid(format!("blob {digest} of {}", self.name), error.to_string()).into()
    }

    /// Better now than after an hour.
    fn check_room(&self, missing: &[&Coming]) -> Result<(), Error> {
        let needed = missing.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.wanted.size));
        match self.store.room() {
            Some(room) if room < needed => {
                let what = format!("image {}", self.name);
                let reason = format!(
                    "needs {needed} bytes in the store, which has room for {room}; make room, or choose another place with --root"
                );
                Err(ImageError::invalid(what, reason).into())
            }
            _ => Ok(()),
        }
    }

    /// A document that has been fetched, or was there.
    fn bytes_of(&self, ingest: &Ingest, document: &Wanted) -> Result<Vec<u8>, Error> {
        let path = ingest.complete(&document.digest);
        match std::fs::File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                let read = file.take(DOCUMENT_LIMIT).read_to_end(&mut bytes);
                read.map(|_| bytes).map_err(|source| Error::file("read", &path, source))
            }
            // Another pull may have made an image of it by now.
            Err(_) => Ok(self.store.document(&document.digest)?),
        }
    }

    /// An image for other machines, or with a config that does not fit, is refused before its layers come.
    fn check_config(
        &self,
        ingest: &Ingest,
        config: &Wanted,
        manifest: &ImageManifest,
    ) -> Result<ImageConfiguration, Error> {
        let what = format!("the config of {}", self.name);
        if config.size > DOCUMENT_LIMIT {
            let reason = format!("is larger than {DOCUMENT_LIMIT} bytes");
            return Err(ImageError::invalid(what, reason).into());
        }
        let parsed = parse_config(&self.bytes_of(ingest, config)?, &what)?;
        self.platform.check(&parsed, &what)?;
        check_layer_count(parsed.rootfs().diff_ids().len(), manifest.layers().len(), &what)?;
        Ok(parsed)
    }
}

/// A blob that is fetched, for those who read along.
struct Coming {
    wanted: Wanted,
    arrival: Arc<Arrival>,
}

impl Coming {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, arrival: Arc::default() }
    }
}
