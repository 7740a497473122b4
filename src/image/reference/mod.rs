//! Image references, normalised as Docker and containerd do: `web` is `docker.io/library/web:latest`.

mod plain;

use super::{Digest, Error};
use oci_spec::distribution::Reference;
use std::fmt;
use std::str::FromStr;

/// A full reference, shown in its familiar form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    full: String,
    reference: Reference,
}

impl ImageName {
    /// Registry, repository and tag or digest, such as `docker.io/library/web:latest`.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// The registry's name, perhaps with a port; Docker's own is `docker.io`.
    pub fn registry(&self) -> &str {
        self.reference.registry()
    }

    /// The name within the registry, such as `library/web`.
    pub fn repository(&self) -> &str {
        self.reference.repository()
    }

    /// The tag, if it names one.
    pub fn tag(&self) -> Option<&str> {
        self.reference.tag()
    }

    /// The digest, which counts over the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.reference.digest()?.parse().ok()
    }

    /// The form that people type, such as `web:latest`.
    pub fn familiar(&self) -> &str {
        let name = self.full.strip_prefix("docker.io/").unwrap_or(&self.full);
        name.strip_prefix("library/").filter(|short| !short.contains('/')).unwrap_or(name)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.familiar())
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = |reason: String| Error::Reference { text: text.to_owned(), reason };
        let reference = match plain::parse(text) {
            Some(reference) => reference,
            None => text.parse::<Reference>().map_err(|cause| error(format!("{cause}")))?,
        };
        if let Some(digest) = reference.digest() {
            digest.parse::<Digest>().map_err(|cause| error(cause.to_string()))?;
        }
        Ok(Self { full: reference.whole(), reference })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn familiar_names_are_normalised_both_ways() {
        for (typed, full, shown) in [
            ("web", "docker.io/library/web:latest", "web:latest"),
            ("team/web:2", "docker.io/team/web:2", "team/web:2"),
            ("localhost:5000/web", "localhost:5000/web:latest", "localhost:5000/web:latest"),
            ("ghcr.io/a/b:c", "ghcr.io/a/b:c", "ghcr.io/a/b:c"),
            ("library/a/b:1", "docker.io/library/a/b:1", "library/a/b:1"),
        ] {
            let name: ImageName = typed.parse().unwrap();
            assert_eq!((name.full(), name.familiar()), (full, shown));
            assert_eq!(shown.parse::<ImageName>().unwrap(), name);
        }
    }

    #[test]
    fn a_reference_has_parts() {
        let hex = "a".repeat(64);
        for (text, registry, repository, tag, digest) in [
            ("web".to_owned(), "docker.io", "library/web", Some("latest"), false),
            ("index.docker.io/a/web:1".to_owned(), "docker.io", "a/web", Some("1"), false),
            (format!("web@sha256:{hex}"), "docker.io", "library/web", None, true),
            (format!("a.example:5000/b/c:1@sha256:{hex}"), "a.example:5000", "b/c", Some("1"), true),
        ] {
            let name: ImageName = text.parse().unwrap();
            let digest = digest.then(|| format!("sha256:{hex}"));
            assert_eq!((name.registry(), name.repository(), name.tag()), (registry, repository, tag));
            assert_eq!(name.digest().map(|found| found.to_string()), digest);
            assert_eq!(name.familiar().parse::<ImageName>().unwrap(), name);
        }
    }

    #[test]
    fn what_is_no_reference_is_told() {
        for bad in ["", "Web", "a b", "../x", "web:", "web@sha256:12"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<ImageName>();
        }
    }
}
