//! References of the usual shape, taken apart without a pattern.
//!
//! The library's own parser compiles a pattern with bounded repeats first, which takes longer than everything else
//! of a `wharf run` until the instance prints. What is not of the usual shape is left to it, and with it every error.
use oci_spec::distribution::Reference;

/// What a name without a registry stands for.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The same under an older name.
const LEGACY_REGISTRY: &str = "index.docker.io";
const OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// Longest repository and longest tag, bytes.
const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

/// `[REGISTRY/]REPOSITORY[:TAG][@sha256:HEX]`; `None` for what only the library can tell about.
pub(super) fn parse(text: &str) -> Option<Reference> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest).filter(|digest| is_sha256(digest)).map(Some)?),
        None => (text, None),
    };
    let last = named.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match named[last..].find(':') {
        Some(colon) => (&named[..last + colon], Some(&named[last + colon + 1..])),
        None => (named, None),
    };
    if !tag.is_none_or(is_tag) {
        return None;
    }
    let (registry, repository) = match path.split_once('/') {
        Some((registry, rest)) if registry.contains(['.', ':']) || registry == "localhost" => {
            (Some(registry).filter(|registry| is_registry(registry))?, rest)
        }
        _ => (DEFAULT_REGISTRY, path),
    };
    if !repository.split('/').all(is_component) {
        return None;
    }
    let registry = if registry == LEGACY_REGISTRY { DEFAULT_REGISTRY } else { registry }.to_owned();
    let repository = match registry == DEFAULT_REGISTRY && !repository.contains('/') {
        true => format!("{OFFICIAL}/{repository}"),
        false => repository.to_owned(),
    };
    if repository.len() > LONGEST_REPOSITORY {
        return None;
    }
    Some(match (tag.map(str::to_owned), digest.map(str::to_owned)) {
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, repository, tag, digest),
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
        (tag, None) => {
            Reference::with_tag(registry, repository, tag.unwrap_or_else(|| DEFAULT_TAG.to_owned()))
        }
    })
}

fn is_sha256(digest: &str) -> bool {
    let hex = digest.strip_prefix("sha256:");
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= LONGEST_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// Labels with dots between, perhaps a port.
fn is_registry(registry: &str) -> bool {
    let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    digits(port) && host.split('.').all(label)
}

/// Lower-case words with one of `.`, `_`, `__` or some `-` between.
fn is_component(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    component.starts_with(word) && component.ends_with(word) && component.split(word).all(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_shapes_are_plain() {
        let hex = "a".repeat(64);
        for text in [
            "web",
            "team/web:2",
            "localhost:5000/web",
            "ghcr.io/a-b/c__d.e:v1.2-rc",
            "docker.io/library/web:latest",
        ] {
            assert_eq!(parse(text), Some(text.parse().unwrap()), "{text}");
        }
        let text = format!("a.example/b:1@sha256:{hex}");
        assert_eq!(parse(&text), Some(text.parse().unwrap()));
    }

    proptest! {
        /// Whatever is plain is, to the library, the same.
        #[test]
        fn the_library_agrees(
            text in "([a-zA-Z0-9.:-]{0,6}/)?[a-zA-Z0-9._/-]{0,10}(:[\\w.-]{0,6})?(@sha256:[0-9a-fA-F]{63,65})?"
        ) {
            if let Some(reference) = parse(&text) {
                prop_assert_eq!(Ok(reference), text.parse::<Reference>());
            }
        }
    }
}
