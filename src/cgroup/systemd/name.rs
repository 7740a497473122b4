//! `slice:prefix:name`, the form of `linux.cgroupsPath` that the systemd driver takes.
use crate::cgroup::Error;
use serde::{Deserialize, Serialize};

/// Where what names no slice is put: by the system's systemd, and by a user's own.
const DEFAULT_SLICES: [&str; 2] = ["system.slice", "user.slice"];
/// Before the id in the unit's name, when cgroupsPath does not say.
const DEFAULT_PREFIX: &str = "wharf";
/// `unit_name_is_valid` of systemd: the longest name.
const LONGEST_NAME: usize = 255;

/// A transient scope unit and the slice it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cgroup) struct ScopeName {
    /// Such as `wharf-web.scope`.
    pub(super) unit: String,
    /// Such as `machine-web.slice`.
    pub(super) slice: String,
    /// cgroup of the user's own systemd, when that makes the scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) below: Option<String>,
}

impl ScopeName {
    /// Reads `slice:prefix:name`; without a path it is `system.slice:wharf:ID`. `below` is the cgroup of the
    /// user's own systemd, which has `user.slice`.
    pub(in crate::cgroup) fn parse(
        path: Option<&str>,
        id: &str,
        below: Option<String>,
    ) -> Result<Self, Error> {
        let default_slice = DEFAULT_SLICES[usize::from(below.is_some())];
        let default = format!("{default_slice}:{DEFAULT_PREFIX}:{id}");
        let path = path.filter(|path| !path.is_empty()).unwrap_or(&default);
        let refuse = |reason| Err(Error::Path { path: path.to_owned(), reason });
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return refuse(
                "must have the form slice:prefix:name with the systemd cgroup driver; \
                 leave out --systemd-cgroup for a plain path",
            );
        };
        let slice = if slice.is_empty() { default_slice } else { slice };
        if !is_slice(slice) {
            return refuse("does not begin with the name of a slice unit such as machine-web.slice");
        }
        if name.is_empty() || !plain(name) || !plain(prefix) {
            return refuse(
                r"holds characters that a unit's name cannot have; letters, digits and _.-@\ are possible",
            );
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        if unit.len() > LONGEST_NAME || slice.len() > LONGEST_NAME {
            return refuse("is too long for the name of a unit, which has 255 characters at most");
        }
        // systemd escapes the directory's name then: cg_escape.
        if unit.starts_with(['_', '.']) || unit.starts_with("cgroup.") {
            return refuse("makes a unit that begins with '_', '.' or 'cgroup.'; give it a prefix");
        }
        Ok(Self { unit, slice: slice.to_owned(), below })
    }

    /// The scope's directory below the hierarchy's root: every `-` of a slice's name is a level.
    pub(in crate::cgroup) fn path(&self) -> String {
        let mut path = self.below.as_deref().unwrap_or_default().trim_end_matches('/').to_owned();
        let stem = self.slice.strip_suffix(".slice").unwrap_or(&self.slice);
        for (at, _) in stem.match_indices('-').filter(|_| stem != "-") {
            path.push_str(&format!("/{}.slice", &stem[..at]));
        }
        if stem != "-" {
            path.push_str(&format!("/{}", self.slice));
        }
        format!("{path}/{}", self.unit)
    }
}

/// `systemd.slice(5)`: names between dashes; `-.slice` is the root.
fn is_slice(name: &str) -> bool {
    match name.strip_suffix(".slice") {
        Some("-") => true,
        Some(stem) => {
            stem.split('-').all(|part| !part.is_empty()) && plain(stem) && !stem.starts_with(['_', '.'])
        }
        None => false,
    }
}

fn plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || r"_.-@\".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_units() {
        let path = |text| ScopeName::parse(text, "id", None).map(|name| name.path());
        assert_eq!(path(None).unwrap(), "/system.slice/wharf-id.scope");
        assert_eq!(path(Some("")).unwrap(), "/system.slice/wharf-id.scope");
        assert_eq!(path(Some(":cri:web")).unwrap(), "/system.slice/cri-web.scope");
        assert_eq!(path(Some("-.slice:cri:web")).unwrap(), "/cri-web.scope");
        assert_eq!(path(Some("machine.slice::web")).unwrap(), "/machine.slice/web.scope");
        assert_eq!(
            path(Some("kubepods-burstable-pod1_2.slice:cri:a")).unwrap(),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-a.scope"
        );
    }

    #[test]
    fn units_of_a_users_own_systemd_stand_below_it() {
        let below = || Some("/user.slice/user-1000.slice/user@1000.service".to_owned());
        let path = |text| ScopeName::parse(text, "id", below()).map(|name| name.path());
        let expected = "/user.slice/user-1000.slice/user@1000.service/user.slice/wharf-id.scope";
        assert_eq!(path(None).unwrap(), expected);
        let expected = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-web.slice/x-y.scope";
        assert_eq!(path(Some("app-web.slice:x:y")).unwrap(), expected);
    }

    #[test]
    fn other_forms_are_refused() {
        let long = format!("a.slice:b:{}", "x".repeat(250));
        for bad in [
            "/a/b",
            "a:b",
            "a:b:c",
            "a.slice:b:c:d",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            ".slice:b:c",
            "../a.slice:b:c",
            "a/b.slice:c:d",
            "a.slice:b/c:d",
            "a.slice:b:..:",
            "a.slice:b:",
            "a.slice:b:c d",
            "a.slice::_c",
            &long,
        ] {
            assert!(ScopeName::parse(Some(bad), "id", None).is_err(), "{bad:?}");
        }
    }
}
