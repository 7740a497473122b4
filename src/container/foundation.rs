//! What every new container stands on, created or restored: its checked config, its record on disk and
//! its cgroup, and how they are taken back.
use super::directory::{CONFIG_FILE, StateDirectory};
use super::hooks::{self, Kind, Place};
use super::record::{Phase, Record};
use super::resctrl::Groups;
use super::state::State;
use super::status::ProcessIdentity;
use super::{Child, ContainerId, Error, Status, config};
use crate::cgroup::{self, Cgroup, CgroupPath, Hierarchies, Resources};
use crate::sandbox::{Caller, Init};
use oci_spec::runtime::{Hooks, Spec};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

/// What is known of a container before anything of it exists.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) record: Record,
    pub(super) hierarchies: Hierarchies,
    /// Those in which a cgroup is made, where that is not all of them.
    usable: Option<Hierarchies>,
    resources: Resources,
    resctrl: Option<Groups>,
    pub(super) cgroup_path: CgroupPath,
}

impl Draft {
    /// Checks what does not depend on how the container comes to life.
    pub(super) fn of(
        id: &ContainerId,
        bundle: &Path,
        spec: &Spec,
        systemd_cgroup: bool,
        rootless: Option<bool>,
    ) -> Result<Self, Error> {
        config::validate(spec)?;
        if let Some(hooks) = spec.hooks() {
            hooks::validate(hooks)?;
        }
        let bundle = config::resolve_bundle(bundle)?;
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let lenient = rootless.unwrap_or_else(|| !Caller::of_this_process().is_host_root());
        let hierarchies = match Hierarchies::detect_for(resources) {
            Err(cgroup::Error::NotMounted) if lenient => Hierarchies::default(),
            found => found?,
        };
        let resources = Resources::compile(resources, &hierarchies)?;
        let cgroups_path =
            linux.and_then(|linux| linux.cgroups_path().as_ref()).and_then(|path| path.to_str());
        let of_user = systemd_cgroup && acts_for_a_user();
        let of_user_manager = of_user.then(|| hierarchies.of_user_manager()).transpose()?;
        let cgroup_path = if systemd_cgroup {
            CgroupPath::parse_scope(cgroups_path, id.as_str(), spec.annotations().as_ref(), of_user)?
        } else {
            CgroupPath::parse(cgroups_path, id.as_str())?
        };
        let usable = match lenient && !systemd_cgroup {
            true => {
                let is_named = cgroups_path.is_some_and(|path| !path.is_empty());
                Some(hierarchies.delegated(&cgroup_path, is_named, &resources)?)
            }
            false => of_user_manager,
        };
        let planned = cgroup::Record::planned(usable.as_ref().unwrap_or(&hierarchies), &cgroup_path);
        let mut record = draft(id, &bundle, spec, planned);
        let rdt = linux.and_then(|linux| linux.intel_rdt().as_ref());
        let resctrl = rdt.map(|rdt| Groups::compile(rdt, id)).transpose()?;
        record.resctrl = resctrl.as_ref().map(|groups| groups.record.clone());
        Ok(Self { record, hierarchies, usable, resources, resctrl, cgroup_path })
    }

    /// The cgroup to come, as `plan` shows it.
    pub(super) fn cgroup_json(&self) -> serde_json::Value {
        serde_json::json!({
            "path": self.cgroup_path.as_str(),
            "directories": self.record.cgroup.directories(),
            "writes": self.resources.to_json(),
        })
    }

    /// Limits that have no effect and stop nothing.
    pub(super) fn warnings(&self) -> &[String] {
        self.resources.warnings()
    }
}

/// Whether the systemd to ask is a user's own.
pub(super) fn acts_for_a_user() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    Caller::of_this_process().acts_for_a_user(is_root, |name| std::env::var_os(name))
}

fn draft(id: &ContainerId, bundle: &Path, spec: &Spec, cgroup: cgroup::Record) -> Record {
    let root = spec.root().as_ref().map(|root| bundle.join(root.path())).unwrap_or_default();
    let args = spec.process().as_ref().and_then(|process| process.args().as_deref());
    let annotations = spec.annotations().iter().flatten();
    let later = |hooks: &&Hooks| {
        [Kind::StartContainer, Kind::Poststart, Kind::Poststop]
            .into_iter()
            .any(|kind| hooks::any(Some(hooks), kind))
    };
    Record {
        oci_version: spec.version().clone(),
        id: id.clone(),
        bundle: bundle.to_owned(),
        program: args.and_then(<[String]>::first).cloned().unwrap_or_default(),
        rootfs: root,
        created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
        annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
        phase: Phase::Creating,
        process: None,
        resctrl: None,
        restored: false,
        cgroup,
        hooks: spec.hooks().as_ref().filter(later).cloned(),
    }
}

/// What tells the first process, a child of the caller, from every other.
pub(super) fn identity(init: &Init) -> Result<ProcessIdentity, Error> {
    ProcessIdentity::of_child(init.pid).map_err(|source| {
        let pid = init.pid.as_raw_nonzero().get();
        Error::Process { action: "read the start time of", pid, source }
    })
}

/// What exists of a container that is being made, in the order of making.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) directory: &'a StateDirectory,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) init: Option<Init>,
}

impl<'a> Making<'a> {
    pub(super) fn new(directory: &'a StateDirectory) -> Self {
        Self { directory, cgroup: None, init: None }
    }

    /// Makes the cgroup with its limits: what the first process is born into.
    pub(super) fn lay(&mut self, draft: &Draft) -> Result<(), Error> {
        let hierarchies = draft.usable.as_ref().unwrap_or(&draft.hierarchies);
        self.cgroup = Some(Cgroup::create(hierarchies, &draft.cgroup_path, &draft.resources)?);
        if let Some(groups) = &draft.resctrl {
            groups.make()?;
        }
        Ok(())
    }

    /// What must be there before any program of the container's runs, and may be made beside its first process.
    pub(super) fn furnish(&self, draft: &Draft, spec: &Spec) -> Result<(), Error> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.finish(&draft.resources)?;
        }
        // For `exec`.
        let config = serde_json::to_vec(spec).map_err(|error| Error::config("", error.to_string()))?;
        self.directory.write(CONFIG_FILE, &config)
    }

    /// Moves a process that waits, and with it all that it is going to make, into the cgroup and the class of
    /// service.
    pub(super) fn admit(&self, draft: &Draft, pid: Pid) -> Result<(), Error> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.enter(pid)?;
        }
        draft.resctrl.as_ref().map_or(Ok(()), |groups| groups.record.add(pid))
    }

    /// Takes the first process, which is a child of the caller.
    pub(super) fn take(&mut self, init: Init) -> Result<ProcessIdentity, Error> {
        identity(self.init.insert(init))
    }

    /// Hands over what was made.
    pub(super) fn done(self) -> Result<(OnceLock<Cgroup>, Child), Error> {
        let gone = || Error::InitGone(self.directory.id().to_string());
        let Init { pid, pidfd } = self.init.ok_or_else(gone)?;
        Ok((self.cgroup.map_or_else(OnceLock::new, OnceLock::from), Child { pid, pidfd }))
    }

    /// Takes back what was made. What cannot be removed keeps its record, so that `delete --force`
    /// finds it.
    pub(super) fn undo(self, record: &Record, hooks: Option<&Hooks>) {
        if let Some(init) = &self.init {
            // Both can only fail when the process is gone already.
            let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        let removed = self.cgroup.as_ref().is_none_or(|cgroup| {
            // The error that led here is the one to report.
            let _ = cgroup.kill();
            cgroup.delete().is_ok()
        });
        let removed = record.resctrl.as_ref().is_none_or(|groups| groups.remove().is_ok()) && removed;
        if self.init.is_some() {
            let state = State::new(record, Status::Stopped).to_json();
            let place = Place::Runtime(&record.bundle);
            hooks::run_all(hooks, Kind::Poststop, &state, place);
        }
        if removed {
            let _ = self.directory.remove();
        }
    }
}
