//! `wharf inspect`
use super::listing::print_json;
use crate::cgroup::Stats;
use crate::image::{self, Store};
use crate::network::{Mode, PublishedPort};
use crate::sandbox::IdRange;
use crate::service::{Instance, LastExit, Limits, RestartPolicy, Roots, Status, UpperKind, reconcile};
use clap::{Args, ValueEnum};
use oci_spec::runtime::{Mount, Spec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Show all that is known of an instance or image, as one JSON document
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Name of an instance, or name or digest of an image
    name: String,
    /// Look among these only [default: instances, then images]
    #[arg(long = "type", value_name = "KIND", value_enum)]
    kind: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Instance,
    Image,
}

/// The document. Field names are stable.
#[derive(Debug, Serialize)]
struct Document {
    id: String,
    name: String,
    status: Status,
    pid: Option<i32>,
    supervisor_pid: Option<i32>,
    created: String,
    started_at: Option<String>,
    restart_count: u32,
    restart_policy: RestartPolicy,
    next_start_at: Option<String>,
    last_exit: Option<LastExit>,
    start_error: Option<String>,
    oom_kills: u64,
    image: String,
    image_digest: String,
    command: Vec<String>,
    environment: Vec<String>,
    hostname: String,
    /// Path below each hierarchy.
    cgroup: Option<String>,
    cgroup_directories: Vec<PathBuf>,
    limits: Limits,
    usage: Option<Stats>,
    network: Mode,
    address: Option<String>,
    gateway: Option<String>,
    veth: Option<String>,
    ports: Vec<PublishedPort>,
    mounts: Vec<Mount>,
    /// Ids of the host that are its own.
    userns: Option<IdRange>,
    upper: UpperKind,
    labels: BTreeMap<String, String>,
    terminal: bool,
    init: bool,
    remove: bool,
    stop_signal: i32,
    stop_timeout_ms: u64,
    directory: PathBuf,
    log: PathBuf,
    runtime_spec: PathBuf,
}

impl Inspect {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let instance = match self.kind {
            Some(Kind::Image) => return self.image(roots),
            Some(Kind::Instance) => Instance::find(roots, &self.name)?,
            None => match Instance::find(roots, &self.name) {
                Err(missing) => {
                    return self.image(roots).map_err(|error| match is_missing(&error) {
                        true => anyhow::Error::from(missing).context(format!("no image {}", self.name)),
                        false => error,
                    });
                }
                Ok(found) => found,
            },
        };
        reconcile(&instance)?;
        print_json(&document(&instance)?)?;
        Ok(0)
    }

    fn image(&self, roots: &Roots) -> anyhow::Result<u8> {
        let store = Store::open(roots.state())?;
        let image = store.find(&self.name)?;
        print_json(&store.details(&image)?)?;
        Ok(0)
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(image::Error::NotFound(_)))
}

fn document(instance: &Instance) -> Result<Document, crate::service::Error> {
    let state = instance.state()?;
    let spec = instance.spec()?;
    let container = instance.container()?;
    let cgroup = container.as_ref().and_then(|container| container.cgroup());
    let usage = cgroup.and_then(|cgroup| cgroup.stats().ok());
    let record = cgroup.map(crate::cgroup::Cgroup::record);
    let directories = record.iter().flat_map(|record| record.directories()).map(ToOwned::to_owned);
    let lease = state.lease.as_ref();
    let wish = instance.wish().clone();
    Ok(Document {
        cgroup: cgroup_path(&spec),
        cgroup_directories: directories.collect(),
        environment: spec.process().as_ref().and_then(|process| process.env().clone()).unwrap_or_default(),
        mounts: spec.mounts().clone().unwrap_or_default(),
        supervisor_pid: instance.supervisor()?.map(|pid| pid.as_raw_nonzero().get()),
        address: lease.map(|lease| lease.address.to_string()),
        gateway: lease.map(|lease| lease.gateway.to_string()),
        veth: lease.map(|lease| lease.veth.clone()),
        oom_kills: state.oom_kills + usage.as_ref().map_or(0, |usage| usage.oom_kills),
        usage,
        directory: instance.directory().to_owned(),
        log: instance.path("log"),
        runtime_spec: instance.path("config.json"),
        status: state.status,
        pid: state.pid,
        started_at: state.started_at,
        restart_count: state.restart_count,
        next_start_at: state.next_start_at,
        last_exit: state.last_exit,
        start_error: state.start_error,
        id: wish.id,
        name: wish.name.into(),
        created: wish.created,
        restart_policy: wish.restart,
        image: wish.image,
        image_digest: wish.image_digest,
        command: wish.command,
        hostname: wish.hostname,
        limits: wish.limits,
        network: wish.network,
        ports: wish.ports,
        userns: wish.userns,
        upper: wish.upper,
        labels: wish.labels,
        terminal: wish.terminal,
        init: wish.init,
        remove: wish.remove,
        stop_signal: wish.stop_signal,
        stop_timeout_ms: wish.stop_timeout_ms,
    })
}

fn cgroup_path(spec: &Spec) -> Option<String> {
    let path = spec.linux().as_ref()?.cgroups_path().as_ref()?;
    Some(path.to_string_lossy().into_owned())
}
