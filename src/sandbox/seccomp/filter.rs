//! A profile, resolved: every name a number, every action a return value, every rule in its place.
use super::Error;
use super::arch::{Architecture, Family, multiplexed};
use libc::{
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_LOG,
    SECCOMP_RET_TRACE, SECCOMP_RET_TRAP, SECCOMP_RET_USER_NOTIF,
};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use rustc_hash::{FxBuildHasher, FxHashMap};

/// What the kernel does with a call: a `SECCOMP_RET_*` value with its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Action(pub(super) u32);

impl Action {
    /// For calls through an architecture the profile does not cover.
    pub(super) const FOREIGN: Self = Self(SECCOMP_RET_KILL_PROCESS);
    /// For calls the profile is too old to know.
    pub(super) const UNKNOWN: Self = Self(SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs());

    /// Whether a call is carried out (a tracer is expected to let it).
    fn permits(self) -> bool {
        matches!(
            self.0 & libc::SECCOMP_RET_ACTION_FULL,
            SECCOMP_RET_ALLOW | SECCOMP_RET_LOG | SECCOMP_RET_TRACE
        )
    }
}

/// How a masked argument is held against a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// `((argument & mask) test value) == holds`, unsigned. `value` has no bit outside of `mask`; `mask` is
/// all ones, in 64 or 32 bits, unless the test is [`Test::Equal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) mask: u64,
    pub(super) test: Test,
    pub(super) value: u64,
    pub(super) holds: bool,
}

impl Condition {
    fn narrowed(self, architecture: Architecture) -> Self {
        let width = if architecture.is_32_bit() { u64::from(u32::MAX) } else { u64::MAX };
        Self { mask: self.mask & width, value: self.value & width, ..self }
    }
}

/// All conditions must be met for the action.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// What a profile says about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Always(Action),
    /// The first rule that matches decides, else the default action.
    Rules(Vec<Rule>),
}

/// What a profile says about the calls of one architecture.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) architecture: Architecture,
    /// In the order of their numbers; no number twice.
    pub(super) verdicts: Vec<(u32, Verdict)>,
    /// The highest number the profile names, unless private.
    pub(super) newest: Option<u32>,
}

/// A resolved profile.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) default: Action,
    /// For calls above [`Table::newest`].
    pub(super) unknown: Action,
    /// The native architecture's first.
    pub(super) tables: Vec<Table>,
}

pub(super) fn resolve(profile: &LinuxSeccomp, family: Family) -> Result<Filter, Error> {
    let default = action(profile.default_action(), profile.default_errno_ret(), &|field| {
        if field == "action" { ".defaultAction".into() } else { ".defaultErrnoRet".into() }
    })?;
    let entries = entries(profile.syscalls().as_deref().unwrap_or_default())?;
    let listed = profile.architectures().as_deref().unwrap_or_default();
    let (native, others) = (family.members()[0], &family.members()[1..]);
    let index = Index::new(&entries);
    let mut tables = vec![index.table(native, default)];
    for architecture in others {
        if listed.iter().any(|arch| architecture.is(*arch)) {
            tables.push(index.table(*architecture, default));
        }
    }
    Ok(Filter { default, unknown: if default.permits() { default } else { Action::UNKNOWN }, tables })
}

/// An element of `syscalls`; any of the alternatives will do, none means no condition.
struct Entry<'a> {
    names: &'a [String],
    action: Action,
    alternatives: Vec<Vec<Condition>>,
}

fn entries(syscalls: &[LinuxSyscall]) -> Result<Vec<Entry<'_>>, Error> {
    syscalls
        .iter()
        .enumerate()
        .map(|(index, syscall)| {
            let path = format!(".syscalls[{index}]");
            if syscall.names().is_empty() {
                return Err(Error::new(format!("{path}.names"), "empty; name at least one system call"));
            }
            let action = action(syscall.action(), syscall.errno_ret(), &|field| format!("{path}.{field}"))?;
            let args = syscall.args().as_deref().unwrap_or_default();
            Ok(Entry { names: syscall.names(), action, alternatives: alternatives(args, &path)? })
        })
        .collect()
}

fn action(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    path: &dyn Fn(&str) -> String,
) -> Result<Action, Error> {
    let (value, largest) = match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            (SECCOMP_RET_KILL_THREAD, None)
        }
        LinuxSeccompAction::ScmpActKillProcess => (SECCOMP_RET_KILL_PROCESS, None),
        LinuxSeccompAction::ScmpActTrap => (SECCOMP_RET_TRAP, None),
        LinuxSeccompAction::ScmpActErrno => (SECCOMP_RET_ERRNO, Some(MAX_ERRNO)),
        LinuxSeccompAction::ScmpActTrace => (SECCOMP_RET_TRACE, Some(libc::SECCOMP_RET_DATA)),
        LinuxSeccompAction::ScmpActAllow => (SECCOMP_RET_ALLOW, None),
        LinuxSeccompAction::ScmpActLog => (SECCOMP_RET_LOG, None),
        LinuxSeccompAction::ScmpActNotify => (SECCOMP_RET_USER_NOTIF, None),
    };
    match (errno, largest) {
        (None, None) => Ok(Action(value)),
        (None, Some(_)) => Ok(Action(value | libc::EPERM.unsigned_abs())),
        (Some(errno), Some(largest)) if errno <= largest => Ok(Action(value | errno)),
        (Some(errno), Some(largest)) => Err(Error::new(
            path("errnoRet"),
            format!("{errno} is above {largest}, the largest the kernel returns"),
        )),
        (Some(_), None) => {
            Err(Error::new(path("errnoRet"), format!("{action} returns no error number; remove it")))
        }
    }
}

/// `MAX_ERRNO` of linux/err.h; seccomp(2) returns this for anything larger.
const MAX_ERRNO: u32 = 4095;

fn alternatives(args: &[LinuxSeccompArg], path: &str) -> Result<Vec<Vec<Condition>>, Error> {
    let mut conditions = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        let argument = u32::try_from(arg.index()).ok().filter(|argument| *argument < 6).ok_or_else(|| {
            Error::new(
                format!("{path}.args[{index}].index"),
                format!("{} is not an argument; a system call has 0 to 5", arg.index()),
            )
        })?;
        conditions.push(condition(argument, arg));
    }
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let seen = |c: &Condition| 1u8 << c.argument;
    let shared =
        conditions.iter().map(seen).fold(0, |all, one| all | one).count_ones() as usize != conditions.len();
    Ok(if shared { conditions.into_iter().map(|c| vec![c]).collect() } else { vec![conditions] })
}

fn condition(argument: u32, arg: &LinuxSeccompArg) -> Condition {
    let (test, holds) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq | LinuxSeccompOperator::ScmpCmpMaskedEq => (Test::Equal, true),
        LinuxSeccompOperator::ScmpCmpNe => (Test::Equal, false),
        LinuxSeccompOperator::ScmpCmpGt => (Test::Greater, true),
        LinuxSeccompOperator::ScmpCmpLe => (Test::Greater, false),
        LinuxSeccompOperator::ScmpCmpGe => (Test::GreaterOrEqual, true),
        LinuxSeccompOperator::ScmpCmpLt => (Test::GreaterOrEqual, false),
    };
    if arg.op() == LinuxSeccompOperator::ScmpCmpMaskedEq {
        let mask = arg.value();
        return Condition { argument, mask, test, value: arg.value_two().unwrap_or(0) & mask, holds };
    }
    Condition { argument, mask: u64::MAX, test, value: arg.value(), holds }
}

/// Which entries name a call: a profile names hundreds, and looking them up is on the way of every start.
struct Index<'a> {
    entries: &'a [Entry<'a>],
    /// By name, the first of its mentions.
    first: FxHashMap<&'a str, usize>,
    /// The entry, and the next mention of the same name.
    mentions: Vec<(usize, Option<usize>)>,
}

impl<'a> Index<'a> {
    fn new(entries: &'a [Entry<'a>]) -> Self {
        let count = entries.iter().map(|entry| entry.names.len()).sum();
        let first = FxHashMap::with_capacity_and_hasher(count, FxBuildHasher);
        let mut index = Self { entries, first, mentions: Vec::with_capacity(count) };
        // Backwards, so that each mention comes before those found earlier.
        for (number, entry) in entries.iter().enumerate().rev() {
            for name in entry.names {
                let next = index.first.insert(name, index.mentions.len());
                index.mentions.push((number, next));
            }
        }
        index
    }

    /// The entries that name a call, by number, in order.
    fn mentions(&self, name: &str) -> impl Iterator<Item = usize> {
        self.chain(self.first.get(name).copied())
    }

    fn chain(&self, first: Option<usize>) -> impl Iterator<Item = usize> {
        std::iter::successors(first, |at| self.mentions[*at].1).map(|at| self.mentions[at].0)
    }

    fn table(&self, architecture: Architecture, default: Action) -> Table {
        let private = architecture.private_numbers();
        let mut table =
            Table { architecture, verdicts: Vec::with_capacity(self.mentions.len()), newest: None };
        architecture.for_each_call(|name, number| {
            let first = self.first.get(name).copied();
            if first.is_some() && !private.as_ref().is_some_and(|range| range.contains(&number)) {
                table.newest = table.newest.max(Some(number));
            }
            let multiplexed = if architecture == Architecture::X86 { multiplexed(name) } else { &[] };
            let verdict = if multiplexed.is_empty() {
                verdict(architecture, self.chain(first).map(|entry| (&self.entries[entry], None)), default)
            } else {
                verdict(architecture, self.through(name, multiplexed).into_iter(), default)
            };
            table.verdicts.extend(verdict.map(|verdict| (number, verdict)));
        });
        table.verdicts.sort_by_key(|(number, _)| *number);
        // A few calls have two names.
        table.verdicts.dedup_by_key(|(number, _)| *number);
        table
    }

    /// The entries about a multiplexer and about the calls it makes, with the number of the latter.
    /// Those with arguments say nothing about it: its arguments lie behind a pointer, where no filter can
    /// look.
    fn through(&self, name: &str, calls: &[(&str, u64)]) -> Vec<(&Entry<'a>, Option<u64>)> {
        let mut mentions: Vec<_> = self.mentions(name).map(|entry| (entry, None)).collect();
        for (direct, call) in calls {
            let unconditional = |entry: &usize| self.entries[*entry].alternatives.is_empty();
            mentions.extend(self.mentions(direct).filter(unconditional).map(|entry| (entry, Some(*call))));
        }
        mentions.sort_unstable();
        mentions.into_iter().map(|(entry, call)| (&self.entries[entry], call)).collect()
    }
}

fn verdict<'a>(
    architecture: Architecture,
    entries: impl Iterator<Item = (&'a Entry<'a>, Option<u64>)>,
    default: Action,
) -> Option<Verdict> {
    let mut rules = Vec::new();
    for (entry, call) in entries.filter(|(entry, _)| entry.action != default) {
        if let Some(value) = call {
            let call = Condition { argument: 0, mask: u64::MAX, test: Test::Equal, value, holds: true };
            rules.push(Rule { conditions: vec![call.narrowed(architecture)], action: entry.action });
        } else if entry.alternatives.is_empty() {
            return Some(Verdict::Always(entry.action));
        } else {
            rules.extend(entry.alternatives.iter().map(|conditions| Rule {
                conditions: conditions.iter().map(|c| c.narrowed(architecture)).collect(),
                action: entry.action,
            }));
        }
    }
    (!rules.is_empty()).then_some(Verdict::Rules(rules))
}
