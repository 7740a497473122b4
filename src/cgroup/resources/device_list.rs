//! Device rules as the exceptions of cgroup v1's `devices.list`.
//!
//! A v1 group has a default, allow or deny, and a list of exceptions to it. The kernel matches exceptions
//! by exact text, so a rule that cuts a hole into a wider exception cannot be said.
use super::devices::{Kind, MKNOD, READ, Rule, WRITE};
use crate::cgroup::{Error, tree};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// A set of block or of character devices; `None` is every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Devices {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Devices {
    /// Whether every device of `other` is in `self`.
    fn contains(&self, other: &Self) -> bool {
        let wide = |mine: Option<u32>, theirs: Option<u32>| mine.is_none() || mine == theirs;
        self.kind == other.kind && wide(self.major, other.major) && wide(self.minor, other.minor)
    }

    /// Whether some device is in both.
    fn overlaps(&self, other: &Self) -> bool {
        let meet =
            |mine: Option<u32>, theirs: Option<u32>| mine.is_none() || theirs.is_none() || mine == theirs;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// The state of a group's device filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cgroup) struct DeviceList {
    allow_by_default: bool,
    exceptions: BTreeMap<Devices, u8>,
}

impl DeviceList {
    pub(super) fn compile(rules: &[Rule]) -> Result<Self, Error> {
        let mut list = Self::default();
        for (index, rule) in rules.iter().enumerate() {
            if rule.matches_everything() {
                list = Self { allow_by_default: rule.allow, exceptions: BTreeMap::new() };
                continue;
            }
            // The kernel would take a line of type `a` for everything, whatever stands behind it.
            let kinds: &[Kind] = match rule.kind {
                Kind::Any => &[Kind::Block, Kind::Character],
                Kind::Block => &[Kind::Block],
                Kind::Character => &[Kind::Character],
            };
            for kind in kinds {
                let devices = Devices { kind: *kind, major: rule.major, minor: rule.minor };
                list.add(devices, rule, index)?;
            }
        }
        Ok(list)
    }

    fn add(&mut self, devices: Devices, rule: &Rule, index: usize) -> Result<(), Error> {
        if rule.allow != self.allow_by_default {
            *self.exceptions.entry(devices).or_default() |= rule.access;
            return Ok(());
        }
        for (exception, access) in &mut self.exceptions {
            if *access & rule.access == 0 || !exception.overlaps(&devices) {
                continue;
            }
            if !devices.contains(exception) {
                return Err(cannot_cut(index));
            }
            *access &= !rule.access;
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }

    /// Brings the group at `directory` from its present state to this one, allowing before denying, so
    /// that what is allowed before and after is allowed all the time.
    pub(in crate::cgroup) fn write(&self, directory: &Path) -> Result<(), Error> {
        let current = Self::parse(&tree::read(directory, "devices.list")?);
        self.changes_from(&current)
            .into_iter()
            .try_for_each(|(file, value)| tree::write(directory, file, &value))
    }

    fn changes_from(&self, current: &Self) -> Vec<(&'static str, String)> {
        let (add, remove) = match self.allow_by_default {
            true => ("devices.deny", "devices.allow"),
            false => ("devices.allow", "devices.deny"),
        };
        let mut changes = Vec::new();
        let empty = Self { allow_by_default: self.allow_by_default, exceptions: BTreeMap::new() };
        // A group that allows by default hides its exceptions, so it starts from none.
        let current = if !current.allow_by_default && !self.allow_by_default {
            current
        } else {
            changes.push((remove, "a".to_owned()));
            &empty
        };
        changes.extend(difference(&self.exceptions, &current.exceptions).map(|value| (add, value)));
        changes.extend(difference(&current.exceptions, &self.exceptions).map(|value| (remove, value)));
        if self.allow_by_default {
            changes.sort_by_key(|(file, _)| *file != "devices.allow");
        }
        changes
    }

    /// Reads `devices.list`. A group that allows by default shows `a *:* rwm` and hides its exceptions.
    fn parse(content: &str) -> Self {
        let mut list = Self::default();
        for line in content.lines() {
            if line.starts_with('a') {
                return Self { allow_by_default: true, exceptions: BTreeMap::new() };
            }
            if let Some((devices, access)) = parse_exception(line) {
                list.exceptions.insert(devices, access);
            }
        }
        list
    }
}

fn cannot_cut(index: usize) -> Error {
    Error::config(
        &format!("linux.resources.devices[{index}]"),
        "takes a part out of a wider rule before it, which the devices controller of cgroup v1 cannot \
         express; write the wider rule as several narrow ones",
    )
}

/// What `new` has and `old` lacks, as values to write.
fn difference<'a>(
    new: &'a BTreeMap<Devices, u8>,
    old: &'a BTreeMap<Devices, u8>,
) -> impl Iterator<Item = String> + 'a {
    new.iter().filter_map(|(devices, access)| {
        let missing = access & !old.get(devices).copied().unwrap_or_default();
        (missing != 0).then(|| exception(devices, missing))
    })
}

fn exception(devices: &Devices, access: u8) -> String {
    let mut text = String::from(if devices.kind == Kind::Block { "b " } else { "c " });
    let mut number = |number: Option<u32>, end: char| match number {
        Some(number) => write!(text, "{number}{end}"),
        None => write!(text, "*{end}"),
    };
    // Writing to a String does not fail.
    let _ = number(devices.major, ':').and_then(|()| number(devices.minor, ' '));
    for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if access & bit != 0 {
            text.push(letter);
        }
    }
    text
}

fn parse_exception(line: &str) -> Option<(Devices, u8)> {
    let mut words = line.split([' ', ':']);
    let kind = match words.next()? {
        "b" => Kind::Block,
        "c" => Kind::Character,
        _ => return None,
    };
    let mut number = || match words.next()? {
        "*" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    let devices = Devices { kind, major: number()?, minor: number()? };
    let letters = words.next()?;
    let bits = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let access = bits.iter().filter(|(_, letter)| letters.contains(*letter)).map(|(bit, _)| bit).sum();
    Some((devices, access))
}

#[cfg(test)]
mod tests {
    use super::super::devices::Rules;
    use super::*;
    use oci_spec::runtime::LinuxDeviceCgroup;

    const FRESH: &str = "a *:* rwm\n";

    fn compile(json: &str) -> Result<DeviceList, String> {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        let list = Rules::compile(&rules).and_then(|rules| rules.v1_list());
        list.map_err(|error| error.to_string())
    }

    fn writes(list: &DeviceList, current: &str) -> Vec<String> {
        let changes = list.changes_from(&DeviceList::parse(current));
        changes.into_iter().map(|(file, value)| format!("{file} {value}")).collect()
    }

    #[test]
    fn a_fresh_group_is_closed_and_then_opened_for_the_exceptions() {
        let list = compile(r#"[{"allow":false},{"allow":true,"type":"b","major":8,"access":"rw"}]"#).unwrap();
        let written = writes(&list, FRESH);
        assert_eq!(written[0], "devices.deny a");
        for want in ["devices.allow b 8:* rw", "devices.allow c 1:3 rwm", "devices.allow b *:* m"] {
            assert!(written.contains(&want.to_owned()), "{want}: {written:?}");
        }
    }

    #[test]
    fn an_update_allows_before_it_denies_and_writes_the_difference_only() {
        let list = compile(r#"[{"allow":true,"type":"b","major":8,"access":"r"}]"#).unwrap();
        let mut current: String =
            list.exceptions.iter().map(|(of, access)| exception(of, *access) + "\n").collect();
        assert_eq!(writes(&list, &current), Vec::<String>::new());
        current = current.replace("b 8:* r\n", "b 8:* w\nc 10:200 rwm\n");
        let want = ["devices.allow b 8:* r", "devices.deny b 8:* w", "devices.deny c 10:200 rwm"];
        assert_eq!(writes(&list, &current), want);
    }

    #[test]
    fn type_a_with_numbers_is_not_everything() {
        let list = compile(r#"[{"allow":true,"type":"a","major":8,"access":"r"}]"#).unwrap();
        let written = writes(&list, FRESH);
        assert!(written.contains(&"devices.allow b 8:* r".to_owned()), "{written:?}");
        assert!(written.iter().all(|line| !line.starts_with("devices.allow a")), "{written:?}");
    }

    #[test]
    fn allowing_everything_leaves_denials_as_exceptions() {
        let list = compile(r#"[{"allow":true},{"allow":false,"type":"b","major":8,"access":"w"}]"#).unwrap();
        assert_eq!(writes(&list, FRESH), ["devices.allow a", "devices.deny b 8:* w"]);
    }

    #[test]
    fn a_hole_in_a_wider_exception_is_refused_with_its_place() {
        let json = r#"[{"allow":true,"type":"b","major":8},{"allow":false,"type":"b","major":8,"minor":1,"access":"w"}]"#;
        let message = compile(json).unwrap_err();
        assert!(message.starts_with("linux.resources.devices[1]"), "{message}");
    }
}
