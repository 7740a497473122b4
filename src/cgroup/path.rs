//! Where a cgroup stands below the hierarchies' roots.
use super::Error;
use super::systemd::{self, Property, ScopeName};
use std::collections::HashMap;
use std::path::{Component, Path};

/// Where containers with a relative cgroupsPath stand.
pub(super) const PARENT: &str = "wharf";

/// A validated cgroupsPath: absolute below the hierarchy's root, without `..`, such as `/wharf/web`.
#[derive(Debug, Clone, PartialEq)]
pub struct CgroupPath {
    text: String,
    /// Made by systemd.
    scope: Option<Scope>,
}

/// A scope to be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scope {
    pub(super) name: ScopeName,
    /// What annotations ask for.
    pub(super) properties: Vec<Property>,
}

impl CgroupPath {
    /// Parses `linux.cgroupsPath`: an absolute path stands below the hierarchy's root, a relative one
    /// below `/wharf`, and without one it is `/wharf-ID`, for each level costs its making and its controllers;
    /// runtime-spec config-linux.md#cgroups-path.
    ///
    /// # Errors
    /// Names what is not acceptable in the path.
    pub fn parse(path: Option<&str>, id: &str) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Ok(Self::plain(format!("/{PARENT}-{id}")));
        };
        let refuse = |reason| Err(Error::Path { path: path.to_owned(), reason });
        if path.contains(['\0', '\n']) {
            return refuse("holds a control character");
        }
        if !path.contains('/') && path.matches(':').count() == 2 {
            return refuse("is meant for the systemd cgroup driver: give --systemd-cgroup, or use a path");
        }
        let mut clean = if path.starts_with('/') { String::new() } else { format!("/{PARENT}") };
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => {
                    clean.push('/');
                    clean.push_str(&name.to_string_lossy());
                }
                Component::ParentDir => return refuse("climbs with '..'"),
                _ => {}
            }
        }
        if clean.is_empty() {
            return refuse("is the root cgroup itself");
        }
        Ok(Self::plain(clean))
    }

    /// Parses `linux.cgroupsPath` for the systemd driver: `slice:prefix:name`, and without one
    /// `system.slice:wharf:ID`. `org.systemd.property.NAME` annotations become properties of the scope. A user's
    /// own systemd (`of_user`) is asked for the cgroup in which its scopes are.
    ///
    /// # Errors
    /// Names what is not acceptable, or that systemd is not running.
    pub fn parse_scope(
        path: Option<&str>,
        id: &str,
        annotations: Option<&HashMap<String, String>>,
        of_user: bool,
    ) -> Result<Self, Error> {
        let mut name = ScopeName::parse(path, id, of_user.then(String::new))?;
        let properties = systemd::check(annotations)?;
        if of_user {
            name = ScopeName::parse(path, id, Some(systemd::cgroup_of_user_manager()?))?;
        }
        Ok(Self { text: name.path(), scope: Some(Scope { name, properties }) })
    }

    fn plain(text: String) -> Self {
        Self { text, scope: None }
    }

    pub(super) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// The path as text, with a leading slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Names from the top down.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_relative_and_missing_paths() {
        let parse = |path| CgroupPath::parse(path, "id").map(|path| path.text);
        assert_eq!(parse(None).unwrap(), "/wharf-id");
        assert_eq!(parse(Some("/a//b/./c/")).unwrap(), "/a/b/c");
        assert_eq!(parse(Some("a/b")).unwrap(), "/wharf/a/b");
        for bad in ["/", "..", "/a/../../b", "a\nb", "system.slice:wharf:id"] {
            assert!(parse(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
