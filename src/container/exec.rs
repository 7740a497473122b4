//! `exec`: one more process in a running container.
use super::directory::CONFIG_FILE;
use super::state::State;
use super::{Child, Container, Error, ExecOptions, Status, config, resctrl};
use crate::cgroup::{Below, Cgroup, Hierarchies};
use crate::sandbox::seccomp::Agent;
use crate::sandbox::{self, ExecInputs, Init, Plan};
use oci_spec::runtime::{Process, Spec};
use std::os::fd::AsFd as _;
use std::path::Path;

pub(super) fn exec(
    container: &Container,
    process: &Process,
    options: ExecOptions,
) -> Result<(Child, Vec<String>), Error> {
    let spec = used_config(container)?;
    match container.status()? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Stopped => return Err(Error::NotRunning(container.record.id.to_string())),
        status => {
            let id = container.record.id.to_string();
            return Err(Error::WrongStatus { action: "exec in", id, status });
        }
    }
    let ExecOptions { stdio, console, preserve_fds, below, process_file } = options;
    let inputs = ExecInputs { stdio, console_socket: console, preserve_fds, ..ExecInputs::default() };
    let other = group(container, &below)?;
    let cgroup = other.as_ref().unwrap_or(container.own_cgroup());
    let done = spawn_in(container, &spec, process, inputs, cgroup);
    done.map_err(|error| in_file(error, process_file.as_deref()))
}

/// What is wrong with a process of a file of its own, where config.json is named otherwise.
fn in_file(error: Error, file: Option<&Path>) -> Error {
    let (Error::Plan(plan), Some(file)) = (&error, file) else { return error };
    match plan.to_string().strip_prefix("process.") {
        Some(text) => {
            let file = file.display().to_string();
            Error::Config { file, path: String::new(), reason: text.to_owned() }
        }
        None => error,
    }
}

/// The group that the process joins when it is not the container's own.
fn group(container: &Container, below: &Below) -> Result<Option<Cgroup>, Error> {
    let own = container.own_cgroup();
    if *below != Below::default() {
        return Ok(Some(own.below(below)?));
    }
    match container.pid() {
        _ if own.record().is_empty() => Ok(None),
        Some(first) => Ok(own.beside(first, &Hierarchies::detect()?)?),
        None => Ok(None),
    }
}

/// Starts a process in the namespaces and the cgroup of a container that has a first process.
pub(super) fn spawn(
    container: &Container,
    spec: &Spec,
    process: &Process,
    inputs: ExecInputs,
) -> Result<Child, Error> {
    spawn_in(container, spec, process, inputs, container.own_cgroup()).map(|(child, _)| child)
}

fn spawn_in(
    container: &Container,
    spec: &Spec,
    process: &Process,
    mut inputs: ExecInputs,
    cgroup: &Cgroup,
) -> Result<(Child, Vec<String>), Error> {
    inputs.agent = agent(container, spec, container.status()?);
    let init = container.pidfd()?;
    let mut plan = Plan::compile_exec(spec, process, init.as_fd(), inputs)?;
    let resctrl = container.record.resctrl.as_ref();
    plan.write_pid_to(resctrl.map(resctrl::Record::task_files).unwrap_or_default());
    let Init { pid, pidfd } = sandbox::spawn(&plan, Some(cgroup))?;
    Ok((Child { pid, pidfd }, plan.warnings().to_vec()))
}

/// Who answers the system calls that the container's seccomp profile notifies about.
pub(super) fn agent(container: &Container, spec: &Spec, status: Status) -> Option<Agent> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    // Strings, numbers and maps with string keys, as in State::to_json.
    Agent::of(profile, || serde_json::to_value(State::new(&container.record, status)).unwrap_or_default())
}

/// The config the container was made from; changes to the bundle since then have no effect
/// (runtime-spec runtime.md#create).
pub(super) fn used_config(container: &Container) -> Result<Spec, Error> {
    let text = container.directory.read(CONFIG_FILE)?;
    let text = text.ok_or_else(|| Error::NotFound(container.record.id.to_string()))?;
    config::parse(CONFIG_FILE, &text)
}
