//! A resolved profile becomes BPF: the architecture is looked at once, then the number is searched for in
//! a tree of ranges, and only calls with conditions have their arguments looked at.
//!
//! Before the arguments, nothing but loads of the number and the architecture, jumps and returns are used:
//! the kernel can then tell, once and for all, the calls that are always allowed, and runs no filter for
//! them (`seccomp_cache_prepare` in kernel/seccomp.c).
use super::Error;
use super::arch::X32_BIT;
use super::assembler::{Assembler, Jump, Label};
use super::filter::{Action, Condition, Filter, Rule, Table, Test, Verdict};
use rustc_hash::FxHashMap;
use seccompiler::sock_filter;
use std::ops::RangeInclusive;

/// `BPF_MAXINSNS` of linux/bpf_common.h.
const MAX_INSTRUCTIONS: usize = 4096;

/// Offsets into `struct seccomp_data`, seccomp(2); both families are little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How much nearer to the root of the tree calls belong that services live on.
const HOT_WEIGHT: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    Return(Action),
    Rules(&'a [Rule]),
}

/// Numbers from `first` to the next range's, and where they lead.
#[derive(Debug)]
struct Range<'a> {
    first: u32,
    target: Target<'a>,
    weight: u32,
}

pub(super) fn assemble(filter: &Filter) -> Result<Vec<sock_filter>, Error> {
    let mut writer =
        Writer { assembler: Assembler::default(), default: filter.default, blocks: FxHashMap::default() };
    let mut start = Label::Return(Action::FOREIGN);
    for tables in filter.tables.chunk_by(|a, b| a.architecture.audit() == b.architecture.audit()).rev() {
        let ranges = ranges(filter, tables);
        let tree = writer.tree(&ranges);
        let search = writer.assembler.load(NUMBER, tree);
        start = writer.assembler.branch(Jump::Equal, tables[0].architecture.audit(), search, start);
    }
    start = writer.assembler.load(ARCHITECTURE, start);
    let program = writer.assembler.finish(start);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::new(
            ".syscalls",
            format!(
                "the filter takes {} BPF instructions and the kernel accepts {MAX_INSTRUCTIONS}; use fewer args",
                program.len()
            ),
        ));
    }
    Ok(program)
}

/// All numbers under one value of `seccomp_data.arch`, in order, neighbours with one target joined.
fn ranges<'a>(filter: &Filter, tables: &'a [Table]) -> Vec<Range<'a>> {
    let mut ranges = Ranges(Vec::new());
    let mut next = Some(0);
    for table in tables {
        let hot = table.architecture.hot_numbers();
        for (first, last, action) in unlisted(filter, table) {
            let mut from = first;
            for (number, verdict) in table.between(first, last) {
                if *number > from {
                    ranges.push(from, Target::Return(action), 1);
                }
                let weight = if hot.contains(number) { HOT_WEIGHT } else { 1 };
                ranges.push(*number, verdict.target(), weight);
                from = number.saturating_add(1);
            }
            if from <= last {
                ranges.push(from, Target::Return(action), 1);
            }
        }
        next = table.architecture.numbers().end().checked_add(1);
    }
    if let Some(X32_BIT) = next {
        ranges.push(X32_BIT, Target::Return(Action::FOREIGN), 1);
        next = Some(u32::MAX);
    }
    if let Some(first) = next {
        ranges.push(first, Target::Return(filter.unknown), 1);
    }
    ranges.0
}

/// The numbers of a table, as (first, last, action for those that the profile does not name).
fn unlisted(filter: &Filter, table: &Table) -> Vec<(u32, u32, Action)> {
    let (first, last) = table.architecture.numbers().into_inner();
    let Some(newest) = table.newest else { return vec![(first, last, filter.default)] };
    let mut segments = vec![(first, newest, filter.default)];
    let Some((private_first, private_last)) =
        table.architecture.private_numbers().map(RangeInclusive::into_inner)
    else {
        if newest < last {
            segments.push((newest + 1, last, filter.unknown));
        }
        return segments;
    };
    if newest + 1 < private_first {
        segments.push((newest + 1, private_first - 1, filter.unknown));
    }
    segments.push((private_first, private_last, filter.default));
    segments.push((private_last + 1, last, filter.unknown));
    segments
}

struct Ranges<'a>(Vec<Range<'a>>);

impl<'a> Ranges<'a> {
    fn push(&mut self, first: u32, target: Target<'a>, weight: u32) {
        match self.0.last_mut() {
            Some(last) if last.target == target => last.weight += weight,
            _ => self.0.push(Range { first, target, weight }),
        }
    }
}

impl Table {
    fn between(&self, first: u32, last: u32) -> &[(u32, Verdict)] {
        let from = self.verdicts.partition_point(|(number, _)| *number < first);
        let to = self.verdicts.partition_point(|(number, _)| *number <= last);
        &self.verdicts[from..to]
    }
}

impl Verdict {
    fn target(&self) -> Target<'_> {
        match self {
            Self::Always(action) => Target::Return(*action),
            Self::Rules(rules) => Target::Rules(rules),
        }
    }
}

struct Writer<'a> {
    assembler: Assembler,
    default: Action,
    /// Blocks of comparisons written already: architectures share them.
    blocks: FxHashMap<&'a [Rule], Label>,
}

impl<'a> Writer<'a> {
    /// Searches the accumulator in `ranges`, which are not empty.
    fn tree(&mut self, ranges: &[Range<'a>]) -> Label {
        match ranges {
            [only] => self.target(only.target),
            [before, single, after] if before.target == after.target && after.first - single.first == 1 => {
                let then = self.target(single.target);
                let otherwise = self.target(before.target);
                self.assembler.branch(Jump::Equal, single.first, then, otherwise)
            }
            _ => {
                let (below, above) = ranges.split_at(middle(ranges));
                let then = self.tree(above);
                let otherwise = self.tree(below);
                self.assembler.branch(Jump::GreaterOrEqual, above[0].first, then, otherwise)
            }
        }
    }

    fn target(&mut self, target: Target<'a>) -> Label {
        match target {
            Target::Return(action) => Label::Return(action),
            Target::Rules(rules) => {
                if let Some(label) = self.blocks.get(rules) {
                    return *label;
                }
                let label = self.rules(rules);
                self.blocks.insert(rules, label);
                label
            }
        }
    }

    fn rules(&mut self, rules: &[Rule]) -> Label {
        let mut otherwise = Label::Return(self.default);
        for rule in rules.iter().rev() {
            let mut then = Label::Return(rule.action);
            for condition in rule.conditions.iter().rev() {
                then = self.condition(condition, then, otherwise);
            }
            otherwise = then;
        }
        otherwise
    }

    /// BPF words have 32 bits: the upper half of an argument decides, or leaves it to the lower.
    fn condition(&mut self, condition: &Condition, then: Label, otherwise: Label) -> Label {
        let (then, otherwise) = if condition.holds { (then, otherwise) } else { (otherwise, then) };
        let offset = ARGUMENTS + 8 * condition.argument;
        let (mask_low, mask_high) = halves(condition.mask);
        let (low, high) = halves(condition.value);
        let jump = match condition.test {
            Test::Equal => Jump::Equal,
            Test::Greater => Jump::Greater,
            Test::GreaterOrEqual => Jump::GreaterOrEqual,
        };
        let lower = self.compare(offset, mask_low, jump, low, then, otherwise);
        if mask_high == 0 {
            return lower;
        }
        if condition.test == Test::Equal {
            return self.compare(offset + 4, mask_high, Jump::Equal, high, lower, otherwise);
        }
        let equal = self.assembler.branch(Jump::Equal, high, lower, otherwise);
        self.compare(offset + 4, mask_high, Jump::Greater, high, then, equal)
    }

    fn compare(
        &mut self,
        offset: u32,
        mask: u32,
        jump: Jump,
        value: u32,
        then: Label,
        otherwise: Label,
    ) -> Label {
        if mask == 0 && value == 0 {
            // Nothing is compared with nothing: equal.
            return then;
        }
        let mut label = self.assembler.branch(jump, value, then, otherwise);
        if mask != u32::MAX {
            label = self.assembler.and(mask, label);
        }
        self.assembler.load(offset, label)
    }
}

fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// Where to part ranges so that both sides weigh about the same.
fn middle(ranges: &[Range<'_>]) -> usize {
    let total: u32 = ranges.iter().map(|r| r.weight).sum();
    let mut below = 0;
    let mut best = (u32::MAX, 1);
    for (index, range) in ranges.iter().enumerate().take(ranges.len() - 1) {
        below += range.weight;
        best = best.min((below.abs_diff(total - below), index + 1));
    }
    best.1
}
