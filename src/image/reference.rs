//! Image references, normalised as Docker and containerd do: `web` is `docker.io/library/web:latest`.
use super::{Digest, Error};
use oci_spec::distribution::Reference;
use std::fmt;
use std::str::FromStr;

/// A full reference, shown in its familiar form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    full: String,
}

impl ImageName {
    /// Registry, repository and tag or digest, such as `docker.io/library/web:latest`.
    pub fn full(&self) -> &str {
        &self.full
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
        let reference: Reference = text.parse().map_err(|cause| error(format!("{cause}")))?;
        if let Some(digest) = reference.digest() {
            digest.parse::<Digest>().map_err(|cause| error(cause.to_string()))?;
        }
        Ok(Self { full: reference.whole() })
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
