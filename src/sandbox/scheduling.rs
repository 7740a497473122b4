//! When and where the process runs: `process.scheduler`, `process.ioPriority` and
//! `process.execCPUAffinity`; runtime-spec config.md#linux-process.
use super::list_format;
use super::plan::Error;
use super::step::Step;
use crate::sys::process::Scheduling;
use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag as Flag,
    LinuxSchedulerPolicy as Policy, Process, Scheduler,
};
use rustix::thread::CpuSet;

/// The steps for `scheduler` and `ioPriority`; both want the capabilities that root of the container's
/// user namespace still has.
pub(super) fn compile(process: &Process) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    if let Some(priority) = process.io_priority() {
        steps.push(io_priority(priority)?);
    }
    if let Some(scheduler) = process.scheduler() {
        steps.push(Step::Scheduler(scheduling(scheduler)?));
    }
    Ok(steps)
}

/// `SCHED_*` of linux/sched.h.
fn policy(policy: Policy) -> Option<u32> {
    let number = match policy {
        Policy::SchedOther => libc::SCHED_OTHER,
        Policy::SchedFifo => libc::SCHED_FIFO,
        Policy::SchedRr => libc::SCHED_RR,
        Policy::SchedBatch => libc::SCHED_BATCH,
        Policy::SchedIdle => libc::SCHED_IDLE,
        Policy::SchedDeadline => libc::SCHED_DEADLINE,
        Policy::SchedIso => return None,
    };
    Some(number.unsigned_abs())
}

fn flag(flag: Flag) -> u64 {
    let bits = match flag {
        Flag::SchedResetOnFork => libc::SCHED_FLAG_RESET_ON_FORK,
        Flag::SchedFlagReclaim => libc::SCHED_FLAG_RECLAIM,
        Flag::SchedFlagDLOverrun => libc::SCHED_FLAG_DL_OVERRUN,
        Flag::SchedFlagKeepPolicy => libc::SCHED_FLAG_KEEP_POLICY,
        Flag::SchedFlagKeepParams => libc::SCHED_FLAG_KEEP_PARAMS,
        Flag::SchedFlagUtilClampMin => libc::SCHED_FLAG_UTIL_CLAMP_MIN,
        Flag::SchedFlagUtilClampMax => libc::SCHED_FLAG_UTIL_CLAMP_MAX,
    };
    u64::from(bits.unsigned_abs())
}

fn scheduling(scheduler: &Scheduler) -> Result<Scheduling, Error> {
    let refuse =
        |field: &str, reason: String| Err(Error::config(&format!("process.scheduler.{field}"), reason));
    let kind = *scheduler.policy();
    let Some(policy) = policy(kind) else {
        return refuse("policy", "SCHED_ISO is reserved and no kernel implements it; use another".to_owned());
    };
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return refuse("nice", format!("{nice} is not within -20..19"));
    }
    let priority = scheduler.priority().unwrap_or(0);
    match kind {
        Policy::SchedFifo | Policy::SchedRr if !(1..=99).contains(&priority) => {
            return refuse("priority", format!("{priority} is not within 1..99, which {kind} needs"));
        }
        Policy::SchedFifo | Policy::SchedRr => {}
        _ if priority != 0 => {
            return refuse("priority", "can only be given for SCHED_FIFO and SCHED_RR".to_owned());
        }
        _ => {}
    }
    check_deadline(scheduler, kind == Policy::SchedDeadline)?;
    Ok(Scheduling {
        policy,
        flags: scheduler.flags().iter().flatten().fold(0, |flags, one| flags | flag(*one)),
        nice,
        priority: priority.unsigned_abs(),
        runtime_ns: scheduler.runtime().unwrap_or(0),
        deadline_ns: scheduler.deadline().unwrap_or(0),
        period_ns: scheduler.period().unwrap_or(0),
    })
}

/// sched(7): runtime ≤ deadline ≤ period, where no period means the deadline.
fn check_deadline(scheduler: &Scheduler, is_deadline: bool) -> Result<(), Error> {
    let times = [
        ("runtime", scheduler.runtime().unwrap_or(0)),
        ("deadline", scheduler.deadline().unwrap_or(0)),
        ("period", scheduler.period().unwrap_or(0)),
    ];
    let refuse =
        |field: &str, reason: &str| Err(Error::config(&format!("process.scheduler.{field}"), reason));
    let [(_, runtime), (_, deadline), (_, period)] = times;
    if !is_deadline {
        return match times.iter().find(|(_, time)| *time != 0) {
            Some((field, _)) => refuse(field, "can only be given for SCHED_DEADLINE"),
            None => Ok(()),
        };
    }
    if runtime < MIN_RUNTIME_NS {
        return refuse("runtime", "SCHED_DEADLINE needs at least 1024 ns");
    }
    if runtime > deadline {
        return refuse("deadline", "must be at least the runtime");
    }
    if period != 0 && deadline > period {
        return refuse("period", "must be at least the deadline, or left out");
    }
    Ok(())
}

/// The kernel's `DL_SCALE`: shorter runtimes are lost in its arithmetic.
const MIN_RUNTIME_NS: u64 = 1024;

fn io_priority(priority: &LinuxIOPriority) -> Result<Step, Error> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = priority.priority();
    match u16::try_from(level) {
        Ok(level @ 0..=7) => Ok(Step::IoPriority { class, level }),
        _ => Err(Error::config("process.ioPriority.priority", format!("{level} is not within 0..7"))),
    }
}

/// On which CPUs a process that joins a container runs: until it is in the container's cgroup, and then.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Affinity {
    pub(super) initial: Option<CpuSet>,
    pub(super) last: Option<CpuSet>,
}

pub(super) fn affinity(affinity: Option<&ExecCPUAffinity>) -> Result<Affinity, Error> {
    let Some(affinity) = affinity else { return Ok(Affinity::default()) };
    let set = |field: &str, list: &Option<String>| {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { return Ok(None) };
        let path = format!("process.execCPUAffinity.{field}");
        let cpus =
            list_format::parse(list, CpuSet::MAX_CPU).map_err(|reason| Error::config(&path, reason))?;
        if cpus.is_empty() {
            return Err(Error::config(&path, format!("{list:?} lists no CPU")));
        }
        let mut set = CpuSet::new();
        cpus.into_iter().for_each(|cpu| set.set(cpu));
        Ok(Some(set))
    };
    Ok(Affinity {
        initial: set("initial", affinity.initial())?,
        last: set("final", affinity.cpu_affinity_final())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn scheduler(value: Value) -> Result<Scheduling, String> {
        scheduling(&serde_json::from_value(value).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_policy_takes_its_own_attributes() {
        let fifo = scheduler(json!({"policy": "SCHED_FIFO", "priority": 10})).unwrap();
        assert_eq!((fifo.policy, fifo.priority), (1, 10));
        let batch = scheduler(json!({"policy": "SCHED_BATCH", "nice": -5})).unwrap();
        assert_eq!((batch.policy, batch.nice), (3, -5));
        let times = json!({"policy": "SCHED_DEADLINE", "runtime": 4096, "deadline": 8192, "period": 8192});
        let deadline = scheduler(times).unwrap();
        let times = (deadline.runtime_ns, deadline.deadline_ns, deadline.period_ns);
        assert_eq!((deadline.policy, times), (6, (4096, 8192, 8192)));
    }

    #[test]
    fn attributes_of_another_policy_are_refused_by_path() {
        for (value, path) in [
            (json!({"policy": "SCHED_OTHER", "nice": 20}), "nice"),
            (json!({"policy": "SCHED_OTHER", "priority": 1}), "priority"),
            (json!({"policy": "SCHED_RR"}), "priority"),
            (json!({"policy": "SCHED_RR", "priority": 100}), "priority"),
            (json!({"policy": "SCHED_IDLE", "runtime": 1}), "runtime"),
            (json!({"policy": "SCHED_DEADLINE"}), "runtime"),
            (json!({"policy": "SCHED_DEADLINE", "runtime": 4096, "deadline": 1}), "deadline"),
            (json!({"policy": "SCHED_DEADLINE", "runtime": 4096, "deadline": 8192, "period": 1}), "period"),
            (json!({"policy": "SCHED_ISO"}), "policy"),
        ] {
            let error = scheduler(value).unwrap_err();
            assert!(error.starts_with(&format!("process.scheduler.{path}: ")), "{error}");
        }
    }

    #[test]
    fn a_cpu_beyond_all_is_refused_by_path() {
        let value: ExecCPUAffinity =
            serde_json::from_value(json!({"initial": "0", "final": "0-9999"})).unwrap();
        let error = affinity(Some(&value)).unwrap_err().to_string();
        assert!(error.starts_with("process.execCPUAffinity.final: 9999 is above"), "{error}");
    }
}
