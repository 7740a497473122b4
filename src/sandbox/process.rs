//! What `process` says becomes the second half of a Plan: from the standard streams to execve.
use super::caller::{Caller, OwnStatus};
use super::capabilities::CapabilityMasks;
use super::clone::pid_of;
use super::identity::Identity;
use super::inputs::Start;
use super::plan::{Error, Plan, Root};
use super::security_label::{self, Modules};
use super::step::Step;
use super::target::Target;
use super::{memory_policy, personality, rlimits, scheduling, seccomp};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Process, Spec, User};
use rustix::process::Gid;
use std::ffi::CString;
use std::os::fd::AsFd as _;

impl Plan {
    /// The steps that a new container's process and one that joins have in common.
    pub(super) fn become_process(
        &mut self,
        spec: &Spec,
        process: &Process,
        preserve_fds: u32,
        user_namespace: bool,
    ) -> Result<(), Error> {
        let user = process.user();
        let no_new_privileges = process.no_new_privileges().unwrap_or(false);
        let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let filter = profile.map(seccomp::compile).transpose()?;
        let (capabilities, unknown) =
            CapabilityMasks::compile(process.capabilities().as_ref(), user_namespace)?;
        self.warnings.extend(unknown);
        check_ids(user)?;
        let groups = user.additional_gids().as_deref().unwrap_or_default();
        let identity = Identity {
            uid: user.uid(),
            gid: user.gid(),
            groups: groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
            capabilities,
            is_born_so: (user.uid(), user.gid()) == (0, 0)
                && !user_namespace
                && OwnStatus::get().is_some_and(|status| status.is_root_throughout),
            keep_effective: filter.is_some() && !no_new_privileges,
        };
        if user_namespace {
            check_mapped(spec.linux().as_ref(), user)?;
        }
        if !groups.is_empty() && !self.may_set_groups() {
            let reason = "setgroups(2) is denied in the user namespace, as it is where a user maps no group but \
                          its own; leave the groups out, or map more with newgidmap(1) (linux.gidMappings)";
            return Err(Error::config("process.user.additionalGids", reason));
        }
        let cwd = working_directory(process)?;
        let keep_below = preserve_fds.saturating_add(3);
        self.steps.push(Step::Streams { keep_below, owner: user.uid() });
        let limits = rlimits::compile(process.rlimits().as_deref().unwrap_or_default())?;
        self.steps.extend(rlimits::raise(&limits));
        self.steps.extend(security_label::compile(process, Modules::of_this_kernel)?);
        self.steps.extend(scheduling::compile(process)?);
        self.steps.extend(from_linux(spec.linux().as_ref())?);
        self.steps.push(Step::WorkingDirectory(cwd));
        self.steps.push(Step::Umask(user.umask().unwrap_or(0o022) & 0o777));
        self.steps.push(Step::Identity(identity.clone()));
        self.steps.push(Step::FindProgram);
        if !matches!(self.start, Start::AtOnce) {
            if self.deputy.is_some() && self.joins.is_empty() {
                self.steps.push(Step::BeJoinable);
            }
            // Others may come to be beside it while it waits; who creates it to start it at once lets nobody in before.
            if !matches!(self.start, Start::ByCreator { awaits: false }) {
                self.steps.push(Step::CloseOthers { keep_below });
            }
            self.steps.push(Step::AwaitStart);
        }
        // So late that no step before it runs out of what the limits leave.
        self.steps.extend(limits);
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is installed before the capabilities
        // go; with it, last, so that the profile need not allow the calls before it.
        let (early, late) = if no_new_privileges { (None, filter) } else { (filter, None) };
        self.steps.extend(early.map(Step::Seccomp));
        self.steps.push(Step::Capabilities(identity));
        if no_new_privileges {
            self.steps.push(Step::NoNewPrivileges);
        }
        self.steps.push(Step::Announce);
        self.steps.extend(late.map(Step::Seccomp));
        self.steps.push(Step::Execute);
        Ok(())
    }
}

impl Plan {
    /// As far as it can be told before the namespace exists: user_namespaces(7) "setgroups".
    fn may_set_groups(&self) -> bool {
        let denied = |process: &str| {
            let file = std::fs::read_to_string(format!("/proc/{process}/setgroups"));
            file.is_ok_and(|text| text.trim() == "deny")
        };
        match (&self.root, Caller::of_this_process()) {
            (Root::Joined { init }, _) => {
                !pid_of(init.as_fd()).is_ok_and(|pid| denied(&pid.as_raw_nonzero().to_string()))
            }
            (Root::New { .. }, Caller::HostRoot) => true,
            (Root::New { .. }, Caller::User) => {
                let joined = self.joins.iter().any(|join| join.kind == LinuxNamespaceType::User);
                joined || self.id_maps.as_ref().is_none_or(|maps| !maps.has_own_group_alone())
            }
            (Root::New { .. }, _) => !denied("self"),
        }
    }
}

/// What `linux` says of the process itself; it holds for every process of the container.
fn from_linux(linux: Option<&Linux>) -> Result<Vec<Step>, Error> {
    let Some(linux) = linux else { return Ok(Vec::new()) };
    let policy = linux.memory_policy().as_ref().map(memory_policy::compile).transpose()?;
    let personality = linux.personality().as_ref().map(personality::compile).transpose()?;
    Ok(policy.into_iter().chain(personality).collect())
}

/// What comes before any namespace is entered. In a user namespace the container's own masks over /proc
/// would forbid another procfs, see mount_namespaces(7), and a process that has changed its user may not
/// write its own oom_score_adj, see proc(5) "dumpable". `proc` is the procfs to write to.
pub(super) fn before_namespaces(
    process: &Process,
    has_sysctls: bool,
    proc: Step,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let value = oom_score_adj(process)?;
    if has_sysctls || value.is_some() || security_label::is_wanted(process) {
        steps.push(proc);
    }
    steps.extend(value.map(Step::OomScoreAdj));
    Ok(steps)
}

/// The kernel's answer to an id that the user namespace does not map is only EINVAL. Where the config has
/// no map, the namespace is one that is joined, and its maps are its own.
fn check_mapped(linux: Option<&Linux>, user: &User) -> Result<(), Error> {
    let Some(linux) = linux else { return Ok(()) };
    let check = |at: &str, id: u32, maps: &Option<Vec<LinuxIdMapping>>, field: &str| {
        let maps = maps.as_deref().unwrap_or_default();
        let covers =
            |map: &LinuxIdMapping| id.checked_sub(map.container_id()).is_some_and(|n| n < map.size());
        if maps.is_empty() || maps.iter().any(covers) {
            return Ok(());
        }
        Err(Error::config(at, format!("{id} is not mapped in the user namespace; add it to {field}")))
    };
    check("process.user.uid", user.uid(), linux.uid_mappings(), "linux.uidMappings")?;
    check("process.user.gid", user.gid(), linux.gid_mappings(), "linux.gidMappings")?;
    for (index, gid) in user.additional_gids().iter().flatten().enumerate() {
        let at = format!("process.user.additionalGids[{index}]");
        check(&at, *gid, linux.gid_mappings(), "linux.gidMappings")?;
    }
    Ok(())
}

/// For the kernel, the highest number stands for no id: setresuid(2) leaves what it was, which is root's
/// (CVE-2024-40635 is of that kind).
fn check_ids(user: &User) -> Result<(), Error> {
    let check = |at: &str, id: u32| match id {
        u32::MAX => Err(Error::config(at, format!("{id} is no id; the highest is {}", u32::MAX - 1))),
        _ => Ok(()),
    };
    check("process.user.uid", user.uid())?;
    check("process.user.gid", user.gid())?;
    let groups = user.additional_gids().iter().flatten().enumerate();
    groups
        .into_iter()
        .try_for_each(|(index, gid)| check(&format!("process.user.additionalGids[{index}]"), *gid))
}

fn working_directory(process: &Process) -> Result<Target, Error> {
    let cwd = process.cwd();
    if !cwd.is_absolute() {
        return Err(Error::config("process.cwd", format!("{} is not an absolute path", cwd.display())));
    }
    Target::parse(cwd).ok_or_else(|| Error::config("process.cwd", "holds a NUL byte"))
}

pub(super) fn oom_score_adj(process: &Process) -> Result<Option<CString>, Error> {
    let Some(value) = process.oom_score_adj() else { return Ok(None) };
    if !(-1000..=1000).contains(&value) {
        return Err(Error::config("process.oomScoreAdj", format!("{value} is not within -1000..1000")));
    }
    Ok(CString::new(value.to_string()).ok())
}

/// `process.terminal` and a console socket go together.
///
/// # Errors
/// Names the JSON path.
pub fn check_terminal(terminal: bool, has_socket: bool) -> Result<(), Error> {
    match (terminal, has_socket) {
        (true, false) => Err(Error::config(
            "process.terminal",
            "is true, but there is no console socket to send the terminal to",
        )),
        (false, true) => Err(Error::config("process.terminal", "is false, but a console socket was given")),
        _ => Ok(()),
    }
}

pub(super) fn console_size(process: &Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    let clamp = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    Some((clamp(size.height()), clamp(size.width())))
}
