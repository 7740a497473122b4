//! WWW-Authenticate, RFC 9110 11.6.1: what a registry wants to see before it answers.

/// The values that a challenge may have before it is nonsense.
const PARAMETERS_LIMIT: usize = 32;

/// One challenge that wharf can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token of another service: distribution's token specification.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The best of the challenges of all these headers: a token where there is a choice.
    pub(super) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut all: Vec<Self> = headers.flat_map(parse).collect();
        let bearer = all.iter().position(|challenge| matches!(challenge, Self::Bearer { .. }));
        match bearer {
            Some(index) => Some(all.swap_remove(index)),
            None => all.into_iter().next(),
        }
    }
}

/// All challenges of one header value; what is not understood is passed over.
fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = header;
    let mut found = Vec::new();
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    loop {
        // What is left of a token68 ends with equals signs.
        rest = rest.trim_start_matches([' ', '\t', ',', '=']);
        let Some((word, after)) = token(rest) else { break };
        let after_blanks = after.trim_start_matches([' ', '\t']);
        let parameter = after_blanks.strip_prefix('=').filter(|value| !value.starts_with('='));
        match (parameter, &mut current) {
            (Some(value), Some((_, parameters))) if parameters.len() < PARAMETERS_LIMIT => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else { break };
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), _) => break,
            (None, _) => {
                found.extend(current.take().and_then(finished));
                current = Some((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.extend(current.and_then(finished));
    found
}

fn finished((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let get = |key: &str| parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
        }
        _ => None,
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token or a quoted string with its escapes undone.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, rest)| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) }
    }

    #[test]
    fn challenges_of_real_registries_are_read() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                ),
            ),
            (r#"bearer  Realm = "x" , error="invalid_token""#, bearer("x", None, None)),
            (r#"Basic realm="Registry Realm""#, Challenge::Basic),
            (r#"Basic realm="a, b", Bearer realm="c\"d",service=e"#, bearer("c\"d", Some("e"), None)),
            (r#"Negotiate abc==, Basic realm=x"#, Challenge::Basic),
            ("Negotiate, Basic", Challenge::Basic),
        ] {
            assert_eq!(Challenge::best([header].into_iter()), Some(expected), "{header}");
        }
        assert_eq!(
            Challenge::best(["Basic", r#"Bearer realm="x""#].into_iter()),
            Some(bearer("x", None, None))
        );
    }

    #[test]
    fn a_header_without_a_usable_challenge_is_none() {
        for header in ["", ",,,", "Digest realm=x", "Bearer service=x", r#"Bearer realm="open"#, "=", "\"x\""]
        {
            assert_eq!(Challenge::best([header].into_iter()), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,200}") {
            let _ = Challenge::best([text.as_str()].into_iter());
        }
    }
}
