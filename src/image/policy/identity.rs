//! `signedIdentity`: for which names a signature counts.
use super::super::ImageName;
use serde::Deserialize;

/// containers-policy.json(5), "signedBy", signedIdentity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum Identity {
    /// The same repository and tag; for an image by digest, the same repository.
    #[serde(rename = "matchRepoDigestOrExact")]
    RepositoryOfDigestOrExact {},
    /// The very reference.
    #[serde(rename = "matchExact")]
    Exact {},
    /// The same repository, whatever the tag.
    #[serde(rename = "matchRepository")]
    Repository {},
    /// This reference, whatever the image is called here.
    #[serde(rename = "exactReference")]
    ThisReference {
        #[serde(rename = "dockerReference")]
        reference: String,
    },
    /// This repository, whatever the image is called here.
    #[serde(rename = "exactRepository")]
    ThisRepository {
        #[serde(rename = "dockerRepository")]
        repository: String,
    },
    /// What begins with the first prefix was signed under the second, as it is with mirrors.
    #[serde(rename = "remapIdentity")]
    Remap {
        prefix: String,
        #[serde(rename = "signedPrefix")]
        signed_prefix: String,
    },
}

impl Default for Identity {
    fn default() -> Self {
        Self::RepositoryOfDigestOrExact {}
    }
}

/// A reference that may be the name of a repository alone, as cosign signs it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Parts {
    fn parse(text: &str) -> Option<Self> {
        let name: ImageName = text.parse().ok()?;
        // A tag that was not written was not signed.
        let without_digest = text.split('@').next().unwrap_or_default();
        let has_tag = without_digest.rsplit('/').next().is_some_and(|last| last.contains(':'));
        Some(Self {
            repository: format!("{}/{}", name.registry(), name.repository()),
            tag: name.tag().filter(|_| has_tag).map(str::to_owned),
            digest: name.digest().map(|digest| digest.to_string()),
        })
    }

    fn is_repository(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }
}

impl Identity {
    /// What is wrong with it, wherever it is used.
    pub(super) fn check(&self) -> Result<(), String> {
        let repository = |text: &String| Parts::parse(text).is_some_and(|parts| parts.is_repository());
        match self {
            Self::ThisReference { reference } => match Parts::parse(reference) {
                Some(parts) if !parts.is_repository() => Ok(()),
                _ => Err(format!("dockerReference {reference:?} is not NAME:TAG or NAME@DIGEST")),
            },
            Self::ThisRepository { repository: name } if !repository(name) => {
                Err(format!("dockerRepository {name:?} is not the name of a repository"))
            }
            Self::Remap { prefix, signed_prefix } => {
                match [prefix, signed_prefix].into_iter().find(|prefix| !is_prefix(prefix)) {
                    Some(bad) => Err(format!("prefix {bad:?} is not a host, namespace or repository")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether a signature for `signed` counts for an image that is called `wanted` here.
    pub(super) fn accepts(&self, signed: &str, wanted: &ImageName) -> bool {
        let Some(signed) = Parts::parse(signed) else { return false };
        let repository = format!("{}/{}", wanted.registry(), wanted.repository());
        let tag = wanted.tag().map(str::to_owned);
        let wanted = Parts { repository, tag, digest: wanted.digest().map(|digest| digest.to_string()) };
        match self {
            Self::RepositoryOfDigestOrExact {} => repository_of_digest_or_exact(&signed, &wanted),
            Self::Exact {} => signed == wanted,
            Self::Repository {} => signed.repository == wanted.repository,
            Self::ThisReference { reference } => Parts::parse(reference).as_ref() == Some(&signed),
            Self::ThisRepository { repository } => {
                Parts::parse(repository).is_some_and(|this| this.repository == signed.repository)
            }
            Self::Remap { prefix, signed_prefix } => {
                match remapped(&wanted.repository, prefix, signed_prefix) {
                    Some(repository) => {
                        repository_of_digest_or_exact(&signed, &Parts { repository, ..wanted })
                    }
                    None => repository_of_digest_or_exact(&signed, &wanted),
                }
            }
        }
    }
}

fn repository_of_digest_or_exact(signed: &Parts, wanted: &Parts) -> bool {
    match wanted.digest {
        // The digest itself is compared with what was signed in any case.
        Some(_) => signed.repository == wanted.repository,
        None => signed == wanted,
    }
}

fn remapped(repository: &str, prefix: &str, signed_prefix: &str) -> Option<String> {
    let rest = repository.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{signed_prefix}{rest}"))
}

/// A host, a namespace or a repository.
fn is_prefix(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    !text.is_empty() && text.split('/').all(|part| !part.is_empty() && part.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(text: &str) -> Identity {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn identities_accept_what_the_manual_page_says() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_digest = format!("r.example/a/web@{digest}");
        let (exact, default) = (r#"{"type":"matchExact"}"#, r#"{"type":"matchRepoDigestOrExact"}"#);
        let repository = r#"{"type":"matchRepository"}"#;
        let this = r#"{"type":"exactReference","dockerReference":"r.example/a/web:1"}"#;
        let within = r#"{"type":"exactRepository","dockerRepository":"r.example/a/web"}"#;
        let remap = r#"{"type":"remapIdentity","prefix":"m.example/a","signedPrefix":"r.example/a"}"#;
        for (kind, signed, wanted, accepted) in [
            (exact, "r.example/a/web:1", "r.example/a/web:1", true),
            (exact, "r.example/a/web:2", "r.example/a/web:1", false),
            (exact, "r.example/a/web", "r.example/a/web:latest", false),
            (exact, "r.example/a/web:1", &by_digest, false),
            (default, "r.example/a/web:1", "r.example/a/web:1", true),
            (default, "r.example/a/web:1", &by_digest, true),
            (default, "r.example/a/web", "r.example/a/web:1", false),
            (default, "r.example/b/web:1", &by_digest, false),
            (repository, "r.example/a/web", "r.example/a/web:1", true),
            (repository, "web", "docker.io/library/web:1", true),
            (repository, "r.example/a/web2", "r.example/a/web:1", false),
            (this, "r.example/a/web:1", "other:1", true),
            (this, "r.example/a/web:2", "other:1", false),
            (within, "r.example/a/web:2", "other:1", true),
            (within, "r.example/a", "other:1", false),
            (remap, "r.example/a/web:1", "m.example/a/web:1", true),
            (remap, "m.example/a/web:1", "m.example/a/web:1", false),
            (remap, "m.example/ab/web:1", "m.example/ab/web:1", true),
            (repository, "Not a name", "web:1", false),
        ] {
            let wanted: ImageName = wanted.parse().unwrap();
            assert_eq!(identity(kind).accepts(signed, &wanted), accepted, "{kind}: {signed} for {wanted}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(signed in "[a-z0-9:/@._-]{0,40}", wanted in "[a-z]{1,8}(/[a-z]{1,8})?(:[a-z0-9]{1,5})?") {
            let wanted: ImageName = wanted.parse().unwrap();
            let accepted = Identity::Exact {}.accepts(&signed, &wanted);
            let in_repository = Identity::Repository {}.accepts(&signed, &wanted);
            prop_assert!(!accepted || in_repository);
        }
    }

    #[test]
    fn names_that_can_never_match_are_told() {
        for text in [
            r#"{"type":"exactReference","dockerReference":"r.example/a/web"}"#,
            r#"{"type":"exactRepository","dockerRepository":"r.example/a/web:1"}"#,
            r#"{"type":"remapIdentity","prefix":"","signedPrefix":"a"}"#,
            r#"{"type":"remapIdentity","prefix":"a/","signedPrefix":"a"}"#,
        ] {
            assert!(identity(text).check().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Identity>(r#"{"type":"matchExact","x":1}"#).is_err());
        assert!(serde_json::from_str::<Identity>(r#"{"type":"matchNothing"}"#).is_err());
    }
}
