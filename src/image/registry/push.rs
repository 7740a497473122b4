//! From the store into a registry.
use super::auth::Scope;
use super::client::{Call, Client, Payload};
use super::hosts::Capability;
use super::transport::Transport;
use super::upload::Upload;
use super::{Abandon, Error, Options, clients, manifest, no_endpoint};
use crate::image::manifest::{Document, digest_of, media_type_of};
use crate::image::parallel;
use crate::image::progress::{BlobState, Event, Progress};
use crate::image::{Digest, Error as ImageError, Image, ImageName, Store};
use oci_spec::image::Descriptor;
use ureq::http::Method;

/// What was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// Digest of the manifest, at the registry as in the store.
    pub digest: Digest,
}

/// Pushes an image under a name.
///
/// # Errors
/// Names what was attempted, the URL, the reason and what to do.
pub fn push(
    store: &Store,
    image: &Image,
    name: &ImageName,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Pushed, Error> {
    let (transport, abandon) = (Transport::new(&options.certs_dir, options.timeout), Abandon::default());
    let clients =
        clients(name.registry(), name.repository(), &[Capability::Push], options, &transport, &abandon)?;
    let client = clients.first().ok_or_else(|| no_endpoint("push to"))?;
    Push { store, image, name, client, progress }.run(options.parallel, &abandon)
}

struct Push<'a> {
    store: &'a Store,
    image: &'a Image,
    name: &'a ImageName,
    client: &'a Client<'a>,
    progress: &'a dyn Progress,
}

impl Push<'_> {
    fn run(&self, threads: usize, abandon: &Abandon) -> Result<Pushed, Error> {
        let digest: Digest = self.image.digest().parse()?;
        if let Some(named) = self.name.digest().filter(|named| *named != digest) {
            let reason = format!("has digest {digest} and cannot be pushed as {named}; name a tag");
            return Err(ImageError::invalid(format!("image {}", self.image.reference()), reason).into());
        }
        let bytes = self.store.document(&digest)?;
        if bytes.len() as u64 > manifest::LIMIT {
            let reason = format!("is larger than the {} bytes that registries take", manifest::LIMIT);
            return Err(ImageError::invalid(format!("manifest {digest}"), reason).into());
        }
        let document = self.image.manifest();
        let mut blobs: Vec<&Descriptor> = document.layers().iter().chain([document.config()]).collect();
        blobs.sort_by_key(|blob| blob.digest().to_string());
        blobs.dedup_by(|one, other| one.digest() == other.digest());
        parallel::each(&blobs, threads, abandon, |blob| self.blob(blob))?;
        self.manifest(&digest, &bytes)?;
        Ok(Pushed { digest })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<(), Error> {
        let (digest, size) = (digest_of(descriptor)?, descriptor.size());
        let tell = |state: BlobState<'_>| self.progress.event(&Event::Blob { digest: &digest, size, state });
        if is_foreign(descriptor) {
            tell(BlobState::Skipped);
            return Ok(());
        }
        let source = self.source(&digest)?;
        let repository = self.name.repository();
        let mut scopes = vec![format!("repository:{repository}:pull,push")];
        scopes.extend(source.iter().map(|from| format!("repository:{from}:pull")));
        let scope = Scope(scopes);
        let upload =
            Upload { client: self.client, repository, scope: &scope, digest: &digest, size, tell: &tell };
        if upload.is_there()? {
            tell(BlobState::Present);
            return Ok(());
        }
        tell(BlobState::At(0));
        upload.send(&self.store.blob(&digest)?, source.as_deref())?;
        tell(BlobState::Done);
        Ok(())
    }

    /// Another repository of the same registry that probably has the blob, since an image from it is here.
    fn source(&self, digest: &Digest) -> Result<Option<String>, Error> {
        let names = self.store.names_with(digest)?;
        let other = |name: &&ImageName| {
            name.registry() == self.name.registry() && name.repository() != self.name.repository()
        };
        Ok(names.iter().find(other).map(|name| name.repository().to_owned()))
    }

    fn manifest(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let repository = self.name.repository();
        let reference = match (self.name.tag(), self.name.digest()) {
            (_, Some(digest)) => digest.to_string(),
            (tag, None) => tag.unwrap_or("latest").to_owned(),
        };
        let document = Document::parse(bytes, &format!("manifest {digest}"))?;
        let url = self.client.url(repository, &format!("manifests/{reference}"));
        let answer = self.client.call(&Call {
            method: Method::PUT,
            url: url.clone(),
            headers: vec![("content-type", media_type_of(bytes, &document))],
            payload: Payload::Bytes(bytes),
            scope: &Scope(vec![format!("repository:{repository}:pull,push")]),
            action: "push the manifest to".to_owned(),
        })?;
        match answer.header("docker-content-digest").filter(|text| text.starts_with("sha256:")) {
            Some(stored) if stored != digest.to_string() => {
                let reason =
                    format!("the registry stored it as {}, not as {digest}", super::harmless(stored));
                Err(Error::Content { action: "push the manifest to".to_owned(), url: url.shown(), reason })
            }
            _ => Ok(()),
        }
    }
}

/// Layers that may not be passed on: image-spec layer.md, "Non-Distributable Layers".
fn is_foreign(descriptor: &Descriptor) -> bool {
    let kind = descriptor.media_type().to_string();
    let has_urls = descriptor.urls().as_ref().is_some_and(|urls| !urls.is_empty());
    has_urls && (kind.contains("nondistributable") || kind.contains("foreign"))
}
