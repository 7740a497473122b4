//! Which images may come in and run: containers-policy.json(5), as Podman, skopeo and CRI-O read it, with
//! signatures made by cosign's keys, and digests that may be pinned.
//!
//! What a policy says is asked twice: where an image enters (`pull` before anything but its manifest was
//! fetched, `load` before anything is in the store) and where an instance is made of it. Whatever in the
//! file is unknown, malformed or not supported refuses: a policy is never taken for less than it says.

mod demand;
mod file;
mod identity;
mod scope;
mod signature;

pub(super) use demand::{Demand, Subject};
pub(super) use scope::Origin;
pub(super) use signature::Signature;

use super::{Digest, Error, ImageName};
use identity::Identity;
use signature::Key;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a policy is when no option or variable names it.
const PLACES: [&str; 2] = ["/etc/wharf/policy.json", "/etc/containers/policy.json"];

/// What may come in and run.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How to call it in an error.
    what: String,
    default: Vec<Requirement>,
    /// Requirements by transport and scope.
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// One of the requirements of a scope, which all must be met.
#[derive(Debug, Clone)]
enum Requirement {
    Accept,
    Reject,
    /// A signature by one of the keys, for an identity that fits.
    Signed {
        keys: Vec<Key>,
        identity: Identity,
    },
    /// One of these digests, of the manifest or of the index that led to it.
    Pinned(Vec<Digest>),
    /// What wharf cannot verify, and so does not accept.
    Unsupported(String),
}

impl Policy {
    /// The policy of a host that has none.
    pub fn accept_all() -> Self {
        Self { what: "no policy".to_owned(), default: vec![Requirement::Accept], transports: BTreeMap::new() }
    }

    /// The named file, or the first there is of /etc/wharf/policy.json and /etc/containers/policy.json;
    /// everything is accepted where there is none.
    ///
    /// # Errors
    /// Names the file and the place in it.
    pub fn find(named: Option<&Path>) -> Result<Self, Error> {
        if let Some(path) = named {
            return Self::read(path);
        }
        // One that is there and cannot be read is an error, not a reason to accept everything.
        let mut places = PLACES.iter().map(PathBuf::from);
        let there = |path: &PathBuf| !matches!(path.symlink_metadata(), Err(error) if is_absent(&error));
        places.find(there).map_or_else(|| Ok(Self::accept_all()), |path| Self::read(&path))
    }

    /// Reads a policy with all keys that it names.
    ///
    /// # Errors
    /// Names the file and the place in it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        file::read(path)
    }

    /// What is asked of an image of that origin and name: the origin's own requirements, and, where it did
    /// not come from a registry, those that the policy has for its name. An archive must not bring an image
    /// under a name that is trusted.
    pub(super) fn demand(&self, origin: &Origin, name: Option<&ImageName>) -> Demand<'_> {
        let mut all = vec![self.requirements(origin)];
        if let (false, Some(name)) = (origin.is_registry(), name) {
            let claimed = Origin::registry(name);
            all.extend(self.scoped(&claimed, false));
        }
        Demand::new(self, all)
    }

    /// The requirements, and where in the file they are.
    fn requirements(&self, origin: &Origin) -> (String, &[Requirement]) {
        self.scoped(origin, true).unwrap_or_else(|| ("default".to_owned(), &self.default))
    }

    /// The most specific scope of a transport; its scope for all, if that counts.
    fn scoped(&self, origin: &Origin, any: bool) -> Option<(String, &[Requirement])> {
        let scopes = self.transports.get(origin.transport())?;
        let all = any.then(String::new);
        let found = origin.scopes().into_iter().chain(all).find_map(|scope| scopes.get_key_value(&scope));
        let (scope, requirements) = found?;
        Some((format!("transports.{}[{scope:?}]", origin.transport()), requirements))
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
