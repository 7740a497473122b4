//! Rules that allow every access to devices, as one decision: by kind, then major, then minor number. Where
//! one of them matches, the answer is yes at once; where none does, nothing has changed.
use super::devices::{Kind, Rule, Rules};
use crate::sys::bpf::Instruction;
use std::collections::{BTreeMap, BTreeSet};

/// Minor numbers by major number by kind; `None` is every number.
#[derive(Debug, Default)]
pub(super) struct DeviceTree(BTreeMap<Kind, BTreeMap<Option<u32>, BTreeSet<Option<u32>>>>);

impl DeviceTree {
    /// Takes a rule that allows every access to devices of one kind.
    pub(super) fn add(&mut self, rule: &Rule) {
        let majors = self.0.entry(rule.kind).or_default();
        majors.entry(rule.major).or_default().insert(rule.minor);
    }

    pub(super) fn append(self, program: &mut Vec<Instruction>) {
        for (kind, majors) in self.0 {
            let mut block = Vec::new();
            // Nothing may follow what is always reached: the verifier refuses what it cannot get to.
            let all = majors.get(&None).filter(|minors| minors.contains(&None)).is_some();
            let decided = if all { BTreeMap::from([(None, BTreeSet::from([None]))]) } else { majors };
            for (major, minors) in decided {
                block.extend(guarded(Rules::MAJOR, major, allow_minors(&minors)));
            }
            program.extend(guarded(Rules::KIND, kind.number(), block));
        }
    }
}

/// The block for where a register has a value, if one is asked for.
fn guarded(register: u8, value: Option<u32>, block: Vec<Instruction>) -> Vec<Instruction> {
    let test = value.map(|value| Instruction::jump_unless_equal(register, value).jumping(block.len()));
    test.into_iter().chain(block).collect()
}

/// Tests for each number that lead to one verdict, and one that leads past it.
fn allow_minors(minors: &BTreeSet<Option<u32>>) -> Vec<Instruction> {
    let verdict = [Instruction::set(Rules::RESULT, 1), Instruction::exit()];
    if minors.contains(&None) {
        return verdict.into();
    }
    let mut block = Vec::with_capacity(minors.len() + verdict.len());
    for (index, minor) in minors.iter().flatten().enumerate() {
        let left = minors.len() - index - 1;
        block.push(match left {
            0 => Instruction::jump_unless_equal(Rules::MINOR, *minor).jumping(verdict.len()),
            left => Instruction::jump_if_equal(Rules::MINOR, *minor).jumping(left),
        });
    }
    block.extend(verdict);
    block
}
