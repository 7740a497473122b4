//! Callers to whom not all of the cgroup tree belongs: which hierarchies they may make a cgroup in, and what
//! must not be asked of them then. A container of theirs may do without a cgroup; a limit may not.
use super::resources::Write;
use super::{CgroupPath, Error, Hierarchies, Resources, systemd};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// A hierarchy in which the caller may not make the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What cannot be written.
    path: PathBuf,
    errno: Errno,
    /// Its controllers on v1; `None` is cgroup2, to which all limits go that v1 has no controller for.
    controllers: Option<Vec<String>>,
}

impl Hierarchies {
    /// These hierarchies for a scope of a user's own systemd.
    ///
    /// # Errors
    /// Where they are not cgroup v2 alone.
    pub fn of_user_manager(&self) -> Result<Self, Error> {
        if self.has_v1() {
            return Err(systemd::Error::NoUnified.into());
        }
        Ok(Self { delegated: true, ..self.clone() })
    }

    /// What of these hierarchies a caller may use that owns but parts of them, or nothing. What is left out
    /// has no limit to apply.
    ///
    /// # Errors
    /// Names the limit, or the `linux.cgroupsPath` (`is_named`), that needs a cgroup all the same.
    pub fn delegated(&self, path: &CgroupPath, is_named: bool, resources: &Resources) -> Result<Self, Error> {
        let mut kept = Self { delegated: true, ..Self::default() };
        let mut refusals = Vec::new();
        let mut refuse = |(path, errno), controllers| refusals.push(Refusal { path, errno, controllers });
        if let Some(v2) = &self.v2 {
            match check(&v2.mount, path) {
                None => kept.v2 = Some(v2.clone()),
                Some(place) => refuse(place, None),
            }
        }
        for v1 in &self.v1 {
            match check(&v1.mount, path) {
                None => kept.v1.push(v1.clone()),
                Some(place) => refuse(place, Some(v1.controllers.clone())),
            }
        }
        check_limits(resources, &refusals)?;
        match refusals.first() {
            Some(refusal) if is_named && kept.v2.is_none() && kept.v1.is_empty() => {
                Err(refusal.error("linux.cgroupsPath", "leave it out to run without a cgroup"))
            }
            _ => Ok(kept),
        }
    }
}

impl Refusal {
    fn error(&self, at: &str, hint: &str) -> Error {
        let reason = format!(
            "needs a cgroup, and this user may not write {}: {}; {hint}, or name a cgroup that was delegated to it",
            self.path.display(),
            std::io::Error::from(self.errno)
        );
        Error::config(at, reason)
    }
}

fn check_limits(resources: &Resources, refusals: &[Refusal]) -> Result<(), Error> {
    let v2 = refusals.iter().find(|refusal| refusal.controllers.is_none()).zip(resources.v2.first());
    let in_v1 = |write: &Write| {
        let has =
            |refusal: &&Refusal| refusal.controllers.iter().flatten().any(|name| name == write.controller);
        refusals.iter().find(has)
    };
    let mut refused =
        v2.into_iter().chain(resources.v1.iter().filter_map(|write| in_v1(write).zip(Some(write))));
    match refused.next() {
        Some((refusal, write)) => Err(refusal.error(&write.at, "leave the limit out")),
        None => Ok(()),
    }
}

/// What the caller would have to write and may not: the deepest directory that exists, or the cgroup's own
/// `cgroup.procs`.
fn check(mount: &Path, path: &CgroupPath) -> Option<(PathBuf, Errno)> {
    let mut leaf = mount.to_owned();
    leaf.extend(path.names());
    let mut place = leaf.as_path();
    loop {
        let (needed, access) = match place == leaf {
            true => (place.join("cgroup.procs"), Access::WRITE_OK),
            false => (place.to_owned(), Access::WRITE_OK | Access::EXEC_OK),
        };
        match accessat(CWD, &needed, access, AtFlags::EACCESS) {
            Ok(()) => return None,
            Err(Errno::NOENT) if place != mount => place = place.parent().unwrap_or(mount),
            Err(errno) => return Some((needed, errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str, hierarchies: &Hierarchies) -> Resources {
        Resources::compile(Some(&serde_json::from_str(text).unwrap()), hierarchies).unwrap()
    }

    #[test]
    fn a_limit_in_a_hierarchy_that_may_not_be_written_is_named() {
        let host = Hierarchies::unified(&["memory", "pids"]);
        let resources = limits(r#"{"memory": {"limit": 1000000}, "devices": [{"allow": false}]}"#, &host);
        let refusal = |controllers: Option<&[&str]>| Refusal {
            path: "/sys/fs/cgroup/x".into(),
            errno: Errno::ACCESS,
            controllers: controllers.map(|names| names.iter().map(ToString::to_string).collect()),
        };
        let error = check_limits(&resources, &[refusal(None)]).unwrap_err().to_string();
        assert!(
            error.starts_with("linux.resources.memory.limit: ") && error.contains("/sys/fs/cgroup/x"),
            "{error}"
        );
        check_limits(&limits(r#"{"devices": [{"allow": false}]}"#, &host), &[refusal(None)]).unwrap();
        let host = Hierarchies::legacy(&["memory", "pids"]);
        let resources = limits(r#"{"pids": {"limit": 5}}"#, &host);
        let error = check_limits(&resources, &[refusal(Some(&["pids"]))]).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.pids.limit: "), "{error}");
        check_limits(&resources, &[refusal(Some(&["memory"])), refusal(None)]).unwrap();
    }

    #[test]
    fn what_may_be_written_is_the_deepest_directory_that_exists() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(mount.path().join("a/b")).unwrap();
        let path = |text| CgroupPath::parse(Some(text), "id").unwrap();
        assert_eq!(check(mount.path(), &path("/a/new/leaf")), None);
        let nowhere = Path::new("/proc/self");
        assert_eq!(check(nowhere, &path("/x/y")).map(|(path, _)| path), Some("/proc/self".into()));
    }
}
