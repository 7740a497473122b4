//! Signatures as cosign makes them with a key: over a small document that names a repository and a digest.
//! It is believed only after its signature has been verified.
use super::super::{Digest, ImageName};
use super::identity::Identity;
use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P384_SHA256, ED25519, RSA_PKCS1_2048_8192_SHA256};
use webpki::{Error as Unverified, RawPublicKeyEntity};

const TYPE: &str = "cosign container image signature";

/// What cosign's keys are; webpki compares an algorithm with the one that the key itself states.
static ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 4] =
    [ECDSA_P256_SHA256, ECDSA_P384_SHA256, ED25519, RSA_PKCS1_2048_8192_SHA256];

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(SubjectPublicKeyInfoDer<'static>);

impl Key {
    /// Reads a PEM file's "PUBLIC KEY".
    pub(super) fn of_pem(pem: &[u8]) -> Result<Self, String> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| "holds no PEM block \"PUBLIC KEY\"".to_owned())?;
        RawPublicKeyEntity::try_from(&key).map_err(|_| "holds a public key that is malformed".to_owned())?;
        let key = Self(key);
        // Better now than at the first image that it should have opened.
        match key.verify(b"", b"") {
            Err(Unverified::InvalidSignatureForPublicKey) => Ok(key),
            _ => Err("holds a key that is not ECDSA P-256 or P-384, Ed25519 or RSA of 2048 bits or more"
                .to_owned()),
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Unverified> {
        let key = RawPublicKeyEntity::try_from(&self.0)?;
        let mut result = Err(Unverified::BadDer);
        for algorithm in ALGORITHMS {
            result = key.verify_signature(algorithm, message, signature);
            if matches!(result, Ok(()) | Err(Unverified::InvalidSignatureForPublicKey)) {
                break;
            }
        }
        result
    }
}

/// A signature and what it is over, nothing of it believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::image) struct Signature {
    /// The document's bytes, in base64.
    payload: String,
    /// In base64, as cosign has it.
    signature: String,
}

/// cosign's "simple signing" document, as containers-signature(5) has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    #[serde(rename = "optional", default)]
    _optional: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: SignedIdentity,
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedIdentity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Signature {
    pub(in crate::image) fn new(payload: &[u8], signature: &str) -> Self {
        let payload = base64::engine::general_purpose::STANDARD.encode(payload);
        Self { payload, signature: signature.to_owned() }
    }

    /// Whether one of the keys made it, for one of the digests and for this name.
    ///
    /// # Errors
    /// Says why it does not count.
    pub(super) fn check(
        &self,
        keys: &[Key],
        digests: &[Digest],
        name: &ImageName,
        identity: &Identity,
    ) -> Result<(), String> {
        let base64 = &base64::engine::general_purpose::STANDARD;
        let payload = base64.decode(&self.payload).map_err(|_| "its payload is not base64")?;
        let signature = base64.decode(self.signature.trim()).map_err(|_| "it is not base64")?;
        if !keys.iter().any(|key| key.verify(&payload, &signature).is_ok()) {
            return Err("none of the keys made it".to_owned());
        }
        let payload: Payload = serde_json::from_slice(&payload)
            .map_err(|error| format!("what it signs is not understood: {error}"))?;
        let Critical { identity: signed, image, kind } = payload.critical;
        if kind != TYPE {
            return Err(format!("it signs a {kind:?}"));
        }
        if !digests.iter().any(|digest| digest.to_string() == image.digest) {
            return Err(format!("it is for another image, {}", image.digest));
        }
        if identity.accepts(&signed.reference, name) {
            return Ok(());
        }
        let hint = "cosign signs the names of repositories, for which signedIdentity must be matchRepository";
        Err(format!("it is for {:?}; {hint}", signed.reference))
    }
}
