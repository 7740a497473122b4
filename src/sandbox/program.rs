//! What is executed in the end: `process.args`, `process.env` and the search in `$PATH`.
use super::plan::Error;
use crate::sys::exec::StringArray;
use oci_spec::runtime::Process;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments, environment and the paths at which the program may be found.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    candidates: Vec<CString>,
    pub(super) arguments: StringArray,
    pub(super) environment: StringArray,
}

impl Program {
    /// Compiles a process; `home` is asked when the environment has no HOME.
    pub(super) fn compile(process: &Process, home: impl FnOnce() -> String) -> Result<Self, Error> {
        let name = process.args().iter().flatten().next();
        let name = name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Error::config("process.args", "is empty; name the program to execute"))?;
        let env = process.env().as_deref().unwrap_or_default();
        let mut environment = environment(env)?;
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            environment.extend(CString::new(format!("HOME={}", home())));
        }
        let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        Self::new(name, candidates(name, path), process, environment)
    }

    /// The program at this path, with the arguments of the process and nothing but its environment.
    pub(super) fn at(path: &Path, process: &Process) -> Result<Self, Error> {
        let name = path.to_string_lossy();
        let candidate = CString::new(path.as_os_str().as_bytes());
        let candidate = candidate.map_err(|_| Error::config("path", "holds a NUL byte"))?;
        Self::new(&name, vec![candidate], process, environment(process.env().as_deref().unwrap_or_default())?)
    }

    fn new(
        name: &str,
        candidates: Vec<CString>,
        process: &Process,
        environment: Vec<CString>,
    ) -> Result<Self, Error> {
        let arguments = strings("process.args", process.args().as_deref().unwrap_or_default())?;
        Ok(Self {
            name: name.to_owned(),
            candidates,
            arguments: StringArray::new(arguments),
            environment: StringArray::new(environment),
        })
    }

    /// The program as the config names it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether `$PATH` was searched.
    pub(super) fn is_searched(&self) -> bool {
        !self.name.contains('/')
    }

    /// Paths to try, in order.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &CStr> {
        self.candidates.iter().map(CString::as_c_str)
    }
}

fn environment(env: &[String]) -> Result<Vec<CString>, Error> {
    for (index, entry) in env.iter().enumerate() {
        if entry.find('=').is_none_or(|at| at == 0) {
            let path = format!("process.env[{index}]");
            return Err(Error::config(&path, format!("{entry:?} is not KEY=VALUE")));
        }
    }
    strings("process.env", env)
}

fn candidates(name: &str, path: &str) -> Vec<CString> {
    if name.contains('/') {
        return CString::new(name).into_iter().collect();
    }
    // An empty entry of $PATH means the working directory, execvp(3).
    let join = |directory: &str| match directory {
        "" => format!("./{name}"),
        directory => format!("{directory}/{name}"),
    };
    path.split(':').filter_map(|directory| CString::new(join(directory)).ok()).collect()
}

fn strings(path: &str, texts: &[String]) -> Result<Vec<CString>, Error> {
    let convert = |(index, text): (usize, &String)| {
        CString::new(text.as_str())
            .map_err(|_| Error::config(&format!("{path}[{index}]"), "holds a NUL byte"))
    };
    texts.iter().enumerate().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_slash_is_searched_in_path_and_an_empty_entry_is_the_working_directory() {
        let found: Vec<_> =
            candidates("sh", "/bin::/usr/bin").into_iter().map(|c| c.into_string().unwrap()).collect();
        assert_eq!(found, ["/bin/sh", "./sh", "/usr/bin/sh"]);
        assert_eq!(candidates("./run", "/bin").len(), 1);
    }

    #[test]
    fn env_entries_without_a_value_are_refused() {
        let mut process = Process::default();
        process.set_args(Some(vec!["sh".into()])).set_env(Some(vec!["A=1".into(), "KEY".into()]));
        assert_eq!(
            Program::compile(&process, || "/".to_owned()).unwrap_err().to_string(),
            "process.env[1]: \"KEY\" is not KEY=VALUE"
        );
    }
}
