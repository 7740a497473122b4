//! The device filter: `linux.resources.devices` as lines for v1's devices controller, and as a BPF
//! program for v2. Each kind of access to a device is decided by the last rule that matches it; without a match it
//! is denied. An access of several kinds is allowed when each of them is.
use super::device_list::DeviceList;
use super::device_tree::DeviceTree;
use crate::cgroup::Error;
use crate::sys::bpf::Instruction;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// `BPF_DEVCG_ACC_*`, linux/bpf.h.
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// Which kind of node a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Any,
    Block,
    Character,
}

impl Kind {
    /// `BPF_DEVCG_DEV_*`, linux/bpf.h; `None` where every kind is meant.
    pub(super) fn number(self) -> Option<u32> {
        match self {
            Self::Any => None,
            Self::Block => Some(1),
            Self::Character => Some(2),
        }
    }
}

/// One rule; `None` is every major or minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) kind: Kind,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u8,
}

/// The rules in the order of the config, then those that every container needs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::cgroup) struct Rules(Vec<Rule>);

const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind, major, minor, access }
}

/// Making any node is harmless while using it is denied; the rest are config-linux.md#default-devices,
/// terminals and their multiplexer.
const ALWAYS: &[Rule] = &[
    allow(Kind::Character, None, None, MKNOD),
    allow(Kind::Block, None, None, MKNOD),
    allow(Kind::Character, Some(1), Some(3), ALL),
    allow(Kind::Character, Some(1), Some(5), ALL),
    allow(Kind::Character, Some(1), Some(7), ALL),
    allow(Kind::Character, Some(1), Some(8), ALL),
    allow(Kind::Character, Some(1), Some(9), ALL),
    allow(Kind::Character, Some(5), Some(0), ALL),
    allow(Kind::Character, Some(5), Some(1), ALL),
    allow(Kind::Character, Some(5), Some(2), ALL),
    allow(Kind::Character, Some(136), None, ALL),
];

impl Rules {
    pub(super) fn compile(rules: &[LinuxDeviceCgroup]) -> Result<Self, Error> {
        let mut compiled = Vec::with_capacity(rules.len() + ALWAYS.len());
        for (index, rule) in rules.iter().enumerate() {
            compiled.push(Rule::compile(rule, &format!("linux.resources.devices[{index}]"))?);
        }
        compiled.extend_from_slice(ALWAYS);
        Ok(Self(compiled))
    }

    /// Whether a filter is needed at all.
    pub(in crate::cgroup) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `devices.list` is to say on v1.
    pub(in crate::cgroup) fn v1_list(&self) -> Result<DeviceList, Error> {
        DeviceList::compile(&self.0)
    }

    /// The v2 program: rules from the last to the first, with the kinds of access that none has decided yet.
    /// One that allows takes its kinds off, and none left is allowed; one that denies a kind left ends it.
    ///
    /// The kernel's verifier walks all ways through it, which multiply with everything that a way may have changed.
    /// Rules that allow all of a device, which most are, therefore change nothing: see [`super::device_tree`].
    pub(in crate::cgroup) fn program(&self) -> Vec<Instruction> {
        let mut program = vec![
            Instruction::load_word(Self::SCRATCH, Self::CONTEXT, 0),
            Instruction::move_register(Self::KIND, Self::SCRATCH),
            Instruction::and(Self::KIND, 0xffff),
            Instruction::move_register(Self::ACCESS, Self::SCRATCH),
            Instruction::shift_right(Self::ACCESS, 16),
            Instruction::load_word(Self::MAJOR, Self::CONTEXT, 4),
            Instruction::load_word(Self::MINOR, Self::CONTEXT, 8),
        ];
        let mut tree = DeviceTree::default();
        let mut rules = self.0.iter().rev().peekable();
        while let Some(rule) = rules.next() {
            if rule.allows_whole_device() {
                tree.add(rule);
                continue;
            }
            if rule.matches_everything() && !rule.allow {
                // As what comes to the end.
                break;
            }
            std::mem::take(&mut tree).append(&mut program);
            rule.with_twin(rules.next_if(|next| rule.is_twin_of(next))).append(&mut program);
            if rule.matches_everything() {
                break;
            }
        }
        tree.append(&mut program);
        program.extend([Instruction::set(Self::RESULT, 0), Instruction::exit()]);
        program
    }

    pub(super) const RESULT: u8 = 0;
    const CONTEXT: u8 = 1;
    pub(super) const KIND: u8 = 2;
    const ACCESS: u8 = 3;
    pub(super) const MAJOR: u8 = 4;
    pub(super) const MINOR: u8 = 5;
    const SCRATCH: u8 = 6;
}

impl Rule {
    fn compile(rule: &LinuxDeviceCgroup, at: &str) -> Result<Self, Error> {
        let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => Kind::Any,
            LinuxDeviceType::B => Kind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => Kind::Character,
            LinuxDeviceType::P => return Err(Error::config(&format!("{at}.type"), "\"p\" is no device")),
        };
        let number = |value: Option<i64>, field: &str| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value).map(Some).map_err(|_| {
                Error::config(
                    &format!("{at}.{field}"),
                    format!("{value} is no device number; -1 is every one"),
                )
            }),
        };
        let mut access = 0;
        for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => {
                    let reason = format!("{letter:?} is none of r, w and m");
                    return Err(Error::config(&format!("{at}.access"), reason));
                }
            };
        }
        let (major, minor) = (number(rule.major(), "major")?, number(rule.minor(), "minor")?);
        // v1 reads "a" as everything and ignores the rest of the line; both versions do the same here.
        let whole = kind == Kind::Any && major.is_none() && minor.is_none();
        let access = if access == 0 || whole && access == ALL { ALL } else { access };
        Ok(Self { allow: rule.allow(), kind, major, minor, access })
    }

    pub(super) fn matches_everything(&self) -> bool {
        self.kind == Kind::Any && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    /// Whether it allows every access to devices of one kind, so that no other rule matters to those.
    fn allows_whole_device(&self) -> bool {
        self.allow && self.access == ALL && self.kind != Kind::Any
    }

    /// Whether the two say the same, one of block devices and the other of character devices.
    fn is_twin_of(&self, other: &Self) -> bool {
        self.kind != Kind::Any
            && other.kind != Kind::Any
            && self.kind != other.kind
            && Self { kind: self.kind, ..*other } == *self
    }

    /// This rule, of every kind of device where a twin says the same of the other.
    fn with_twin(&self, twin: Option<&Self>) -> Self {
        Self { kind: if twin.is_some() { Kind::Any } else { self.kind }, ..*self }
    }

    /// A test for each condition that jumps over the rule when it fails, then the verdict.
    fn append(&self, program: &mut Vec<Instruction>) {
        let mut tests = Vec::with_capacity(5);
        tests.extend(self.kind.number().map(|kind| Instruction::jump_unless_equal(Rules::KIND, kind)));
        if let Some(major) = self.major {
            tests.push(Instruction::jump_unless_equal(Rules::MAJOR, major));
        }
        if let Some(minor) = self.minor {
            tests.push(Instruction::jump_unless_equal(Rules::MINOR, minor));
        }
        let verdict = self.verdict();
        let count = tests.len();
        for (index, test) in tests.into_iter().enumerate() {
            program.push(test.jumping(count - index - 1 + verdict.len()));
        }
        program.extend(verdict);
    }

    /// For a device that matches; goes on with the next rule where this one leaves something undecided.
    fn verdict(&self) -> Vec<Instruction> {
        let access = u32::from(self.access);
        let mut verdict = if self.allow {
            vec![
                Instruction::and(Rules::ACCESS, !access),
                Instruction::jump_unless_equal(Rules::ACCESS, 0).jumping(2),
            ]
        } else {
            vec![
                Instruction::move_register(Rules::SCRATCH, Rules::ACCESS),
                Instruction::and(Rules::SCRATCH, access),
                Instruction::jump_if_equal(Rules::SCRATCH, 0).jumping(2),
            ]
        };
        verdict.extend([Instruction::set(Rules::RESULT, u32::from(self.allow)), Instruction::exit()]);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::bpf::Operation;
    use proptest::prelude::*;

    fn rules(json: &str) -> Rules {
        Rules::compile(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap()).unwrap()
    }

    /// Runs the program as the kernel's verifier and interpreter would.
    fn verdict(program: &[Instruction], kind: u32, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let instruction = &program[at];
            let (to, from) = (usize::from(instruction.to()), usize::from(instruction.from()));
            let value = instruction.value();
            at += 1;
            match instruction.operation() {
                Operation::LoadWord(offset) => registers[to] = context[usize::from(offset) / 4].into(),
                Operation::MoveRegister => registers[to] = registers[from] & 0xffff_ffff,
                Operation::And => registers[to] &= u64::from(value),
                Operation::ShiftRight => registers[to] >>= value,
                Operation::Set => registers[to] = value.into(),
                Operation::JumpUnlessEqual(offset) if registers[to] != u64::from(value) => {
                    at += usize::from(offset);
                }
                Operation::JumpIfEqual(offset) if registers[to] == u64::from(value) => {
                    at += usize::from(offset);
                }
                Operation::JumpUnlessEqual(_) | Operation::JumpIfEqual(_) => {}
                Operation::Exit => return registers[0] == 1,
            }
        }
    }

    #[test]
    fn the_last_matching_rule_decides_and_default_devices_stay_allowed() {
        let rules = rules(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"minor":1,"access":"r"},
                {"allow":true,"type":"c","major":10,"access":"rw"},{"allow":false,"type":"c","major":10,"minor":229}]"#,
        );
        let program = rules.program();
        for (kind, access, major, minor, allowed) in [
            (2, ALL, 1, 3, true),
            (1, READ, 8, 1, true),
            (1, READ | WRITE, 8, 1, false),
            (2, READ, 10, 200, true),
            (2, READ, 10, 229, false),
            (1, MKNOD, 99, 99, true),
            (1, READ, 99, 99, false),
            (2, ALL, 136, 42, true),
        ] {
            assert_eq!(
                verdict(&program, kind, access, major, minor),
                allowed,
                "{kind} {access} {major}:{minor}"
            );
        }
    }

    #[test]
    fn a_denied_kind_of_access_cannot_hide_behind_an_allowed_one() {
        let rules = rules(
            r#"[{"allow":true,"type":"b","major":8,"access":"rwm"},
                {"allow":false,"type":"b","major":8,"minor":1,"access":"w"},
                {"allow":true,"type":"c","major":4,"access":"r"},{"allow":true,"type":"c","minor":64,"access":"w"}]"#,
        );
        let program = rules.program();
        assert!(verdict(&program, 1, READ, 8, 1));
        assert!(!verdict(&program, 1, READ | WRITE, 8, 1), "opened for both, it could be written");
        assert!(verdict(&program, 1, READ | WRITE, 8, 2));
        assert!(verdict(&program, 2, READ | WRITE, 4, 64), "two rules allow one kind each");
    }

    /// What the rules say, read off them one by one.
    fn meant(rules: &Rules, kind: Kind, access: u8, major: u32, minor: u32) -> bool {
        [MKNOD, READ, WRITE].into_iter().filter(|one| access & one != 0).all(|one| {
            let matches = |rule: &&Rule| {
                (rule.kind == Kind::Any || rule.kind == kind)
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
                    && rule.access & one != 0
            };
            rules.0.iter().rev().find(matches).is_some_and(|rule| rule.allow)
        })
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let kind = prop_oneof![Just(Kind::Any), Just(Kind::Block), Just(Kind::Character)];
        let number = || prop_oneof![Just(None), (0..3_u32).prop_map(Some)];
        let access = prop_oneof![Just(ALL), 1..=ALL];
        (any::<bool>(), kind, number(), number(), access)
            .prop_map(|(allow, kind, major, minor, access)| Rule { allow, kind, major, minor, access })
    }

    proptest! {
        #[test]
        fn the_program_says_of_every_access_what_the_rules_say(rules in prop::collection::vec(any_rule(), 0..8)) {
            let rules = Rules(rules);
            let program = rules.program();
            for kind in [Kind::Block, Kind::Character] {
                for (access, major, minor) in
                    (1..=ALL).flat_map(|access| (0..4).flat_map(move |major| (0..4).map(move |minor| (access, major, minor))))
                {
                    let number = kind.number().unwrap_or_default();
                    prop_assert_eq!(
                        verdict(&program, number, access, major, minor),
                        meant(&rules, kind, access, major, minor),
                        "{:?} {} {}:{} by {:?}", kind, access, major, minor, rules
                    );
                }
            }
        }
    }

    #[test]
    fn the_program_of_a_usual_config_is_short() {
        let program = rules(r#"[{"allow":false,"access":"rwm"}]"#).program();
        assert!(program.len() <= 32, "{} instructions", program.len());
    }

    #[test]
    fn a_config_that_allows_all_ends_in_one_rule() {
        let program = rules(r#"[{"allow":true,"type":"a","access":"rwm"}]"#).program();
        assert!(verdict(&program, 1, ALL, 8, 0));
    }

    #[test]
    fn the_kernel_accepts_the_program() {
        let program =
            rules(r#"[{"allow":false},{"allow":true,"type":"c","major":10,"access":"rw"}]"#).program();
        match crate::sys::bpf::load_device_program(&program) {
            Ok(_) => {}
            Err(errno) if !rustix::process::geteuid().is_root() => eprintln!("SKIPPED: needs root ({errno})"),
            Err(errno) => panic!("{errno}"),
        }
    }
}
