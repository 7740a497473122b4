//! Where an image comes from, and the scopes that it falls under, the narrowest first.
use super::super::ImageName;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A transport of containers-transports(5) and what it calls the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::image) struct Origin {
    transport: String,
    /// A full reference, an absolute path, or nothing for standard input.
    place: String,
}

impl Origin {
    /// A registry, under this name.
    pub(in crate::image) fn registry(name: &ImageName) -> Self {
        Self { transport: "docker".to_owned(), place: name.full().to_owned() }
    }

    /// An archive or layout: `oci`, `oci-archive` or `docker-archive`. Without a path it came by a pipe.
    pub(in crate::image) fn archive(transport: &str, path: Option<&Path>) -> Self {
        let path = path.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        let place = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        Self { transport: transport.to_owned(), place }
    }

    pub(super) fn transport(&self) -> &str {
        &self.transport
    }

    pub(super) fn is_registry(&self) -> bool {
        self.transport == "docker"
    }

    /// The reference, of an image from a registry.
    pub(super) fn name(&self) -> Option<ImageName> {
        if self.is_registry() { self.place.parse().ok() } else { None }
    }

    /// containers-policy.json(5), "SUPPORTED TRANSPORTS AND THEIR SCOPES".
    pub(super) fn scopes(&self) -> Vec<String> {
        match self.name() {
            Some(name) => scopes_of_name(&name),
            None if self.is_registry() => Vec::new(),
            // The root directory is no scope.
            None => Path::new(&self.place)
                .ancestors()
                .filter(|path| path.parent().is_some())
                .map(|path| path.to_string_lossy().into_owned())
                .filter(|path| !path.is_empty())
                .collect(),
        }
    }
}

/// Reference, repository, its parents, the host, and `*.` with each of the host's parents.
fn scopes_of_name(name: &ImageName) -> Vec<String> {
    let repository = format!("{}/{}", name.registry(), name.repository());
    // In NAME:TAG@DIGEST the digest decides, so that what is said of the tag means another image.
    let reference = match (name.digest(), name.tag()) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, tag) => format!("{repository}:{}", tag.unwrap_or("latest")),
    };
    let mut scopes = vec![reference];
    let mut rest = Some(repository.as_str());
    while let Some(scope) = rest {
        scopes.push(scope.to_owned());
        rest = scope.rsplit_once('/').map(|(parent, _)| parent);
    }
    let host = name.registry();
    let mut domain = host.rsplit_once(':').map_or(host, |(host, _)| host);
    while let Some((_, parent)) = domain.split_once('.') {
        scopes.push(format!("*.{parent}"));
        domain = parent;
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_go_from_the_reference_to_the_hosts_parents() {
        let scopes = |name: &str| Origin::registry(&name.parse().unwrap()).scopes();
        let expected = [
            "a.b.example:5000/team/web:1",
            "a.b.example:5000/team/web",
            "a.b.example:5000/team",
            "a.b.example:5000",
            "*.b.example",
            "*.example",
        ];
        assert_eq!(scopes("a.b.example:5000/team/web:1"), expected);
        assert_eq!(
            scopes("web")[..3],
            ["docker.io/library/web:latest", "docker.io/library/web", "docker.io/library"]
        );
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(scopes(&format!("web:1@{digest}"))[0], format!("docker.io/library/web@{digest}"));
    }

    #[test]
    fn a_path_has_its_directories_for_scopes() {
        let scopes = |path: Option<&str>| Origin::archive("oci-archive", path.map(Path::new)).scopes();
        assert_eq!(
            scopes(Some("/nonexistent/a/b.tar")),
            ["/nonexistent/a/b.tar", "/nonexistent/a", "/nonexistent"]
        );
        assert_eq!(scopes(None), [""; 0]);
    }
}
