//! Groups below a container's, made by its processes or an administrator, that a further process joins.
use super::group::open;
use super::{Cgroup, Error, Hierarchies, Record, tree};
use rustix::process::Pid;
use std::path::{Component, Path, PathBuf};

/// What `exec --cgroup` may hold, as errors name it.
const AT: &str = "--cgroup";

/// Where below a container's cgroup a process is to run, as `exec --cgroup` says it: one `PATH` for all
/// hierarchies, or `CONTROLLER[,CONTROLLER...]:PATH` for some of v1. Never above or beside the container.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Below {
    everywhere: Option<PathBuf>,
    by_controller: Vec<(String, PathBuf)>,
}

impl Below {
    /// Parses the values of `--cgroup`.
    ///
    /// # Errors
    /// Names the value that cannot be understood, or that leaves the container.
    pub fn parse(values: &[String]) -> Result<Self, Error> {
        let mut below = Self::default();
        for value in values {
            let Some((controllers, path)) = value.split_once(':') else {
                if values.len() > 1 {
                    let reason = format!("{value:?} has no controller, so it must be the only one");
                    return Err(Error::config(AT, reason));
                }
                below.everywhere = Some(relative(value, value)?);
                continue;
            };
            let path = relative(path, value)?;
            for controller in controllers.split(',') {
                if controller.is_empty() || below.by_controller.iter().any(|(known, _)| known == controller) {
                    let reason = format!("{value:?}: name each controller once, such as cpu,memory:jobs");
                    return Err(Error::config(AT, reason));
                }
                below.by_controller.push((controller.to_owned(), path.clone()));
            }
        }
        Ok(below)
    }

    fn path_for(&self, controllers: &[String]) -> Result<Option<&Path>, Error> {
        let named = |name: &str| controllers.iter().any(|own| own == name || own == &format!("name={name}"));
        let mut paths = self.by_controller.iter().filter(|(name, _)| named(name)).map(|(_, path)| path);
        let first = paths.next().or(self.everywhere.as_ref());
        if paths.any(|path| Some(path) != first) {
            let reason = format!("{} are one hierarchy; give them one path", controllers.join(" and "));
            return Err(Error::config(AT, reason));
        }
        Ok(first.map(PathBuf::as_path))
    }
}

/// The path without its leading slash: it is always meant from the container's group on.
fn relative(path: &str, value: &str) -> Result<PathBuf, Error> {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => {
                let reason = format!("{value:?} climbs with '..'; it must stay in the container's cgroup");
                return Err(Error::config(AT, reason));
            }
        }
    }
    if clean.as_os_str().as_encoded_bytes().contains(&0) || path.contains(':') {
        return Err(Error::config(AT, format!("{value:?} is not CONTROLLER:PATH or PATH")));
    }
    Ok(clean)
}

impl Cgroup {
    /// The group below this one that is meant; it must exist.
    ///
    /// # Errors
    /// Names the controller that has no hierarchy of its own, or the directory that is missing.
    pub fn below(&self, below: &Below) -> Result<Self, Error> {
        let own = self.record();
        if let Some((unknown, _)) =
            below.by_controller.iter().find(|(name, _)| self.v1_hierarchy(name).is_none())
        {
            let reason =
                format!("no v1 hierarchy has the controller {unknown}; on cgroup v2 give a path alone");
            return Err(Error::config(AT, reason));
        }
        let mut record = Record::default();
        if let Some(directory) = &own.v2 {
            record.v2 = Some(existing(directory, below.everywhere.as_deref())?);
        }
        for (controllers, directory) in &own.v1 {
            let directory = existing(directory, below.path_for(controllers)?)?;
            record.v1.push((controllers.clone(), directory));
        }
        Ok(Self::from_record(&record))
    }

    /// Where a further process can live beside this member: on v2 a group that hands controllers on to
    /// groups below takes none itself (cgroup-v2.rst "No Internal Process Constraint"), which is what an
    /// init such as systemd makes of its container's. `None` when the group itself takes processes.
    ///
    /// # Errors
    /// Names the file.
    pub fn beside(&self, member: Pid, hierarchies: &Hierarchies) -> Result<Option<Self>, Error> {
        let own = self.record();
        let (Some(directory), Some(v2)) = (&own.v2, &hierarchies.v2) else { return Ok(None) };
        if tree::read(directory, "cgroup.subtree_control")?.trim().is_empty() {
            return Ok(None);
        }
        let member = PathBuf::from(format!("/proc/{}", member.as_raw_nonzero()));
        let groups = tree::read(&member, "cgroup")?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"));
        let beside = path.map(|path| v2.mount.join(path)).filter(|path| path.starts_with(directory));
        Ok(beside.map(|v2| Self::from_record(&Record { v2: Some(v2), v1: own.v1.clone(), scope: None })))
    }

    fn v1_hierarchy(&self, controller: &str) -> Option<&Path> {
        self.v1_with(controller).or_else(|| self.v1_with(&format!("name={controller}")))
    }
}

fn existing(directory: &Path, below: Option<&Path>) -> Result<PathBuf, Error> {
    let Some(below) = below else { return Ok(directory.to_owned()) };
    let path = directory.join(below);
    match open(&path) {
        Ok(_) => Ok(path),
        Err(Error::File { source, path, .. }) => {
            Err(Error::config(AT, format!("open {path}: {source}; it must exist before exec")))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Result<Below, String> {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        Below::parse(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn a_path_is_for_all_and_a_controller_for_its_hierarchy() {
        let all = parse(&["/jobs/./one"]).unwrap();
        let named = |controllers: &[&str]| controllers.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(all.path_for(&named(&["cpu"])).unwrap(), Some(Path::new("jobs/one")));
        let some = parse(&["cpu,cpuacct:a", "systemd:/b"]).unwrap();
        assert_eq!(some.path_for(&named(&["cpu", "cpuacct"])).unwrap(), Some(Path::new("a")));
        assert_eq!(some.path_for(&named(&["name=systemd"])).unwrap(), Some(Path::new("b")));
        assert_eq!(some.path_for(&named(&["memory"])).unwrap(), None);
        let torn = parse(&["cpu:a", "cpuacct:b"]).unwrap();
        assert!(torn.path_for(&named(&["cpu", "cpuacct"])).is_err());
    }

    #[test]
    fn what_leaves_the_container_or_is_ambiguous_is_refused() {
        for values in
            [&["../other"][..], &["cpu:a/../../b"], &["a", "b"], &["cpu:a", "b"], &["cpu:a", "cpu:b"]]
        {
            assert!(parse(values).unwrap_err().starts_with("--cgroup: "), "{values:?}");
        }
        for values in [&[":a"][..], &["cpu,:a"], &["cpu:a:b"]] {
            assert!(parse(values).is_err(), "{values:?}");
        }
        assert_eq!(parse(&[]), Ok(Below::default()));
    }
}
