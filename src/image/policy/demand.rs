//! What a policy asks of one image.
use super::super::{Digest, Error, ImageName};
use super::{Policy, Requirement, Signature};

/// Of whom it is asked.
#[derive(Debug, Clone)]
pub(in crate::image) struct Subject<'a> {
    /// How the image is called here.
    pub(in crate::image) name: Option<&'a ImageName>,
    /// Digests that stand for it: of its manifest, and of the index that led there.
    pub(in crate::image) digests: &'a [Digest],
}

impl Subject<'_> {
    fn words(&self) -> String {
        match (self.name, self.digests.first()) {
            (Some(name), _) => name.to_string(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => "the image".to_owned(),
        }
    }
}

/// Requirements with the places where they stand. All of them must be met.
#[derive(Debug)]
pub(in crate::image) struct Demand<'a> {
    policy: &'a Policy,
    scopes: Vec<(String, &'a [Requirement])>,
}

impl<'a> Demand<'a> {
    pub(super) fn new(policy: &'a Policy, scopes: Vec<(String, &'a [Requirement])>) -> Self {
        Self { policy, scopes }
    }

    /// Whether a signature can make a difference.
    pub(in crate::image) fn asks_for_signatures(&self) -> bool {
        self.all().any(|(_, requirement)| matches!(requirement, Requirement::Signed { .. }))
    }

    /// Checks what needs no signature.
    ///
    /// # Errors
    /// Names the image, the policy and the place in it.
    pub(in crate::image) fn check(&self, subject: &Subject<'_>) -> Result<(), Error> {
        self.check_each(subject, |_| true)
    }

    /// Checks what does not depend on digests, of an image whose digest is not known yet.
    ///
    /// # Errors
    /// Names the image, the policy and the place in it.
    pub(in crate::image) fn check_origin(&self, subject: &Subject<'_>) -> Result<(), Error> {
        self.check_each(subject, |requirement| !matches!(requirement, Requirement::Pinned(_)))
    }

    fn check_each(&self, subject: &Subject<'_>, asked: impl Fn(&Requirement) -> bool) -> Result<(), Error> {
        for (place, requirement) in self.all().filter(|(_, requirement)| asked(requirement)) {
            let reason = match requirement {
                Requirement::Accept | Requirement::Signed { .. } => continue,
                Requirement::Pinned(digests) if subject.digests.iter().any(|own| digests.contains(own)) => {
                    continue;
                }
                Requirement::Pinned(_) => {
                    let own: Vec<String> = subject.digests.iter().map(ToString::to_string).collect();
                    format!(
                        "its digest is not one of those that are pinned; it is {}",
                        own.join(" of index ")
                    )
                }
                Requirement::Reject => "rejects it".to_owned(),
                Requirement::Unsupported(what) => {
                    format!(
                        "asks for what wharf cannot verify, so that it is refused: {what}; see docs/policy.md"
                    )
                }
            };
            return Err(self.refusal(subject, place, reason));
        }
        Ok(())
    }

    /// Checks everything.
    ///
    /// # Errors
    /// Names the image, the policy, the place in it, and why no signature counts.
    pub(in crate::image) fn check_signed(
        &self,
        subject: &Subject<'_>,
        signatures: &[Signature],
    ) -> Result<(), Error> {
        self.check(subject)?;
        for (place, requirement) in self.all() {
            let Requirement::Signed { keys, identity } = requirement else { continue };
            let Some(name) = subject.name else {
                let reason =
                    "asks for a signature, and the image has no name that one could be for".to_owned();
                return Err(self.refusal(subject, place, reason));
            };
            let mut reasons = Vec::new();
            let mut counts = |one: &Signature| {
                let checked = one.check(keys, subject.digests, name, identity);
                checked.map_err(|reason| reasons.push(reason)).is_ok()
            };
            if !signatures.iter().any(&mut counts) {
                return Err(self.refusal(subject, place, why_none_counts(&reasons)));
            }
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Requirement)> {
        self.scopes.iter().flat_map(|(place, all)| all.iter().map(move |one| (place.as_str(), one)))
    }

    fn refusal(&self, subject: &Subject<'_>, place: &str, reason: String) -> Error {
        let policy = self.policy.what.clone();
        Error::Refused { image: subject.words(), policy, place: place.to_owned(), reason }
    }
}

fn why_none_counts(reasons: &[String]) -> String {
    match reasons {
        [] => "asks for a signature, and there is none".to_owned(),
        [only] => format!("asks for a signature, and the one there is does not count: {only}"),
        [first, ..] => {
            let count = reasons.len();
            format!("asks for a signature, and none of the {count} there are counts; the first: {first}")
        }
    }
}
