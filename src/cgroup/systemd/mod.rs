//! The systemd cgroup driver: systemd makes the container's cgroup as a transient scope unit and leaves it
//! to us (`Delegate=yes`), over D-Bus, `org.freedesktop.systemd1(5)`.
//!
//! A scope cannot exist without a process, so it is made when the first one waits, not before. systemd
//! learns the limits it has properties for; then everything is written as on other hosts, for systemd
//! rounds some values and has no word for others. Device rules are ours alone: systemd attaches a filter
//! only where it was given rules, and its rules cannot express all of the specification's.
mod annotations;
mod bus;
mod name;
mod properties;
mod sockets;
mod wire;

use super::{Error as CgroupError, Resources};
use bus::{Connection, GET_PROPERTY, manager};
use rustix::process::Pid;
use sockets::Manager;
use std::collections::HashMap;
use std::path::Path;
use wire::Value;

pub(super) use name::ScopeName;
pub(super) use properties::Property;

/// systemd's answer when a unit of that name is still known, `org.freedesktop.systemd1.UnitExists`.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another program is the first process.
    #[error(
        "the systemd cgroup driver needs systemd as the first process, and it is not ({BOOTED} is missing); leave out \
         --systemd-cgroup, or set the engine's cgroup driver (cgroup manager) to cgroupfs"
    )]
    NotRunning,
    /// There is no way to systemd.
    #[error("connect to systemd at {path}: {source}; is dbus installed and running?")]
    Connect {
        /// The socket.
        path: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A user without a session.
    #[error(
        "--systemd-cgroup as a user asks the user's own systemd, and neither DBUS_SESSION_BUS_ADDRESS nor \
         XDG_RUNTIME_DIR says where that is; log in with a session of your own, or leave --systemd-cgroup out"
    )]
    NoSession,
    /// A user's systemd has nothing to say over v1 hierarchies.
    #[error(
        "--systemd-cgroup as a user needs a host with cgroup v2 alone, and this one has controllers on v1; leave it out"
    )]
    NoUnified,
    /// The connection broke.
    #[error("call {method} of systemd: {source}")]
    Talk {
        /// Which method.
        method: &'static str,
        /// What happened.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("call {method} of systemd: no answer within {seconds} s; see systemctl list-jobs")]
    Late {
        /// Which method.
        method: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// Not a message.
    #[error("call {method} of systemd: the answer breaks the rules of D-Bus")]
    Garbled {
        /// Which method.
        method: &'static str,
    },
    /// An error reply.
    #[error("call {method} of systemd: {text} ({name})")]
    Refused {
        /// Which method.
        method: &'static str,
        /// The error's D-Bus name.
        name: String,
        /// systemd's words.
        text: String,
    },
    /// The job was done without success.
    #[error(
        "systemd could not start or stop {unit}: the job ended as {result:?}; see systemctl status {unit}"
    )]
    Job {
        /// The unit.
        unit: String,
        /// systemd's word.
        result: String,
    },
}

/// The properties that a container's annotations ask for; whether there is a systemd to give them to.
pub(super) fn check(annotations: Option<&HashMap<String, String>>) -> Result<Vec<Property>, CgroupError> {
    if !Path::new(BOOTED).is_dir() {
        return Err(Error::NotRunning.into());
    }
    annotations::parse(annotations)
}

/// The cgroup of the calling user's own systemd, in which its scopes are.
pub(super) fn cgroup_of_user_manager() -> Result<String, Error> {
    let property = [Value::text(GET_PROPERTY_OF), Value::text("ControlGroup")];
    let answer = Connection::open(Manager::User)?.call(GET_PROPERTY, &property)?;
    answer.into_iter().next().ok_or(Error::Garbled { method: GET_PROPERTY.member })
}

const GET_PROPERTY_OF: &str = "org.freedesktop.systemd1.Manager";

impl ScopeName {
    fn manager(&self) -> Manager {
        if self.below.is_some() { Manager::User } else { Manager::System }
    }
}

/// Has systemd make the scope with this process in it. Nothing is left when it fails.
pub(super) fn start(
    scope: &ScopeName,
    pid: Pid,
    resources: &Resources,
    asked: &[Property],
) -> Result<(), Error> {
    let mut properties = vec![
        Property::text("Description", &format!("wharf container {}", scope.unit)),
        Property::text("Slice", &scope.slice),
        Property::new(
            "PIDs",
            Value::Array("u".to_owned(), vec![Value::Uint32(pid.as_raw_nonzero().get() as u32)]),
        ),
        Property::flag("Delegate", true),
        // No dependency on basic.target or shutdown.target: engines start containers early and end them late.
        Property::flag("DefaultDependencies", false),
    ];
    let accounting = ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"];
    properties.extend(accounting.map(|name| Property::flag(name, true)));
    properties.extend(limits(resources));
    properties.extend_from_slice(asked);
    let arguments = [
        Value::text(scope.unit.clone()),
        Value::text("fail"),
        properties::to_value(&properties),
        Value::Array("(sa(sv))".to_owned(), Vec::new()),
    ];
    let mut systemd = Connection::open(scope.manager())?;
    let method = manager("StartTransientUnit");
    match systemd.job(method, &scope.unit, &arguments) {
        Err(Error::Refused { name, .. }) if name == EXISTS => {
            // A failed scope of that name stays until it is forgotten; a living one refuses again.
            forget(&mut systemd, scope)?;
            systemd.job(method, &scope.unit, &arguments)
        }
        done => done,
    }
}

/// Tells systemd what files of the cgroup are going to hold, as long as the unit lasts. When this returns,
/// systemd has written its own values.
pub(super) fn update<'a>(
    scope: &ScopeName,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), Error> {
    let properties = properties::of_files(files);
    if properties.is_empty() {
        return Ok(());
    }
    let unit = Value::text(scope.unit.clone());
    let arguments = [unit.clone(), Value::Bool(true), properties::to_value(&properties)];
    let mut systemd = Connection::open(scope.manager())?;
    systemd.call(manager("SetUnitProperties"), &arguments)?;
    // systemd answers first and writes then, but before it takes the next call.
    systemd.call(manager("GetUnit"), &[unit]).map(drop)
}

/// Stops the scope, which ends its processes, and has it forgotten also when it had failed. One that is
/// gone is no error.
pub(super) fn stop(scope: &ScopeName) -> Result<(), Error> {
    let arguments = [Value::text(scope.unit.clone()), Value::text("replace")];
    let mut systemd = Connection::open(scope.manager())?;
    unless_unknown(systemd.job(manager("StopUnit"), &scope.unit, &arguments))?;
    forget(&mut systemd, scope)
}

fn forget(systemd: &mut Connection, scope: &ScopeName) -> Result<(), Error> {
    let arguments = [Value::text(scope.unit.clone())];
    unless_unknown(systemd.call(manager("ResetFailedUnit"), &arguments).map(drop))
}

fn unless_unknown(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
        done => done,
    }
}

fn limits(resources: &Resources) -> Vec<Property> {
    let writes = resources.v2.iter().chain(&resources.v1);
    properties::of_files(writes.map(|write| (write.file.as_str(), write.value.as_str())))
}
