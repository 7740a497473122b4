//! `process.rlimits`, see `getrlimit(2)`.
use super::plan::Error;
use super::step::{Limit, Step};
use oci_spec::runtime::{PosixRlimit, PosixRlimitType as Type};
use rustix::process::{Resource, Rlimit};

pub(super) fn compile(rlimits: &[PosixRlimit]) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::with_capacity(rlimits.len());
    for (index, rlimit) in rlimits.iter().enumerate() {
        let at = format!("process.rlimits[{index}]");
        if rlimits[..index].iter().any(|earlier| earlier.typ() == rlimit.typ()) {
            return Err(Error::config(&at, format!("{} is listed already", rlimit.typ())));
        }
        if rlimit.soft() > rlimit.hard() {
            let reason = format!("soft {} is above hard {}", rlimit.soft(), rlimit.hard());
            return Err(Error::config(&at, reason));
        }
        let (resource, name) = resource(rlimit.typ());
        // The kernel's RLIM_INFINITY is the largest u64, which rustix says as None.
        let bound = |value: u64| (value != u64::MAX).then_some(value);
        let limit = Rlimit { current: bound(rlimit.soft()), maximum: bound(rlimit.hard()) };
        steps.push(Step::Rlimit(Limit { resource, limit, index, name }));
    }
    Ok(steps)
}

/// The steps that raise hard limits while the process has the privilege, for those that set the limits.
pub(super) fn raise(limits: &[Step]) -> impl Iterator<Item = Step> {
    limits.iter().filter_map(|step| match step {
        Step::Rlimit(limit) => Some(Step::RaiseRlimit(limit.clone())),
        _ => None,
    })
}

fn resource(kind: Type) -> (Resource, &'static str) {
    match kind {
        Type::RlimitCpu => (Resource::Cpu, "RLIMIT_CPU"),
        Type::RlimitFsize => (Resource::Fsize, "RLIMIT_FSIZE"),
        Type::RlimitData => (Resource::Data, "RLIMIT_DATA"),
        Type::RlimitStack => (Resource::Stack, "RLIMIT_STACK"),
        Type::RlimitCore => (Resource::Core, "RLIMIT_CORE"),
        Type::RlimitRss => (Resource::Rss, "RLIMIT_RSS"),
        Type::RlimitNproc => (Resource::Nproc, "RLIMIT_NPROC"),
        Type::RlimitNofile => (Resource::Nofile, "RLIMIT_NOFILE"),
        Type::RlimitMemlock => (Resource::Memlock, "RLIMIT_MEMLOCK"),
        Type::RlimitAs => (Resource::As, "RLIMIT_AS"),
        Type::RlimitLocks => (Resource::Locks, "RLIMIT_LOCKS"),
        Type::RlimitSigpending => (Resource::Sigpending, "RLIMIT_SIGPENDING"),
        Type::RlimitMsgqueue => (Resource::Msgqueue, "RLIMIT_MSGQUEUE"),
        Type::RlimitNice => (Resource::Nice, "RLIMIT_NICE"),
        Type::RlimitRtprio => (Resource::Rtprio, "RLIMIT_RTPRIO"),
        Type::RlimitRttime => (Resource::Rttime, "RLIMIT_RTTIME"),
    }
}
