//! Targets that lie directly in a file system which the Plan makes itself, such as `/dev/null` and
//! `/proc/keys`.
//!
//! They are reached by the descriptor of that mount and one name: one system call in place of a lookup
//! below the root, and no way for an image to have a say, since what is in the file system comes from the
//! kernel and the Plan alone.
use crate::sandbox::step::{NewMount, Slot, Step};
use crate::sandbox::target::Target;
use rustix::mount::MountAttrFlags;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

/// Names in a procfs that are symlinks, and so are looked up.
const LINKS_OF_PROC: [&CStr; 4] = [c"self", c"thread-self", c"net", c"mounts"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    /// Nothing but what the Plan puts there.
    Plans,
    /// What the kernel shows.
    Kernels,
}

/// Marks the targets of steps that follow the attachment of such a file system.
pub(in crate::sandbox) fn mark(steps: &mut [Step]) {
    let mut made: BTreeMap<Slot, Contents> = BTreeMap::new();
    let mut attached: BTreeMap<Vec<u8>, (Slot, Contents)> = BTreeMap::new();
    for step in steps {
        if let Step::CreateMount(new) = step {
            made.extend(contents(new).map(|contents| (new.slot, contents)));
            continue;
        }
        let wants = match step {
            Step::Mask { .. } | Step::ReadonlyPath(_) => Contents::Kernels,
            _ => Contents::Plans,
        };
        let Some(target) = target(step) else { continue };
        if let Some((slot, contents)) = target.parent().and_then(|parent| attached.get(parent))
            && *contents == wants
            && !(wants == Contents::Kernels && LINKS_OF_PROC.contains(&target.name()))
        {
            target.set_within(*slot);
        }
        let place = target.path().to_bytes().to_vec();
        let (slot, copy_up) = match step {
            Step::Attach { slot, .. } | Step::AttachOrLink { slot, .. } => (*slot, false),
            Step::AttachTmpfs { slot, copy_up, .. } => (*slot, *copy_up),
            _ => continue,
        };
        // What is there now covers whatever was there and below.
        attached.retain(|path, _| !is_below(path, &place));
        attached.extend(made.get(&slot).filter(|_| !copy_up).map(|contents| (place, (slot, *contents))));
    }
}

/// Has file systems that stand in one of the Plan's own be mounted there by `mount(2)`, one call for the many of
/// `fsopen(2)`; unless something needs their descriptor, or they are given what only that takes.
pub(in crate::sandbox) fn mount_in_place(steps: &mut Vec<Step>) {
    // mount(2) would follow a symlink that stands at the name.
    if steps.iter().any(|step| matches!(step, Step::AttachOrLink { .. })) {
        return;
    }
    let mut wanted: BTreeMap<Slot, usize> = BTreeMap::new();
    for step in steps.iter_mut() {
        let within = target(step).and_then(|target| target.within());
        let own = match step {
            Step::Console { devpts, .. } => Some(*devpts),
            Step::Attach { slot, .. } | Step::AttachTmpfs { slot, .. } => Some(*slot),
            _ => None,
        };
        within.into_iter().chain(own).for_each(|slot| *wanted.entry(slot).or_default() += 1);
    }
    let mut index = 0;
    while index < steps.len() {
        if let Step::Attach { slot, target } | Step::AttachTmpfs { slot, target, copy_up: false, .. } =
            &steps[index]
            && target.within().is_some()
            && wanted.get(slot) == Some(&1)
            && let Some(made) = steps.iter().position(|step| makes_plainly(step, *slot))
        {
            let target = target.clone();
            if let Step::CreateMount(new) = steps.remove(made) {
                // What makes a file system comes before what attaches it.
                index -= 1;
                let options = options(&new);
                steps[index] = Step::MountInPlace { new, options, target };
            }
        }
        index += 1;
    }
}

fn makes_plainly(step: &Step, slot: Slot) -> bool {
    matches!(step, Step::CreateMount(new) if new.slot == slot && is_plain(new))
}

/// Whether `mount(2)` makes the same of it: of procfs and sysfs the kernel looks at what else is mounted, so they are
/// made while the host's still are; what is read-only would be so everywhere; and a comma in a value would end it.
fn is_plain(new: &NewMount) -> bool {
    let plain = |text: &CString| !text.to_bytes().contains(&b',');
    let read_only = new.attr & MountAttrFlags::MOUNT_ATTR_RDONLY.bits() != 0;
    !read_only
        && [b"tmpfs".as_slice(), b"devpts", b"mqueue"].contains(&new.fstype.to_bytes())
        && new.data.iter().all(|(key, value)| plain(key) && value.as_ref().is_none_or(plain))
}

fn options(new: &NewMount) -> CString {
    let mut text = Vec::new();
    for (key, value) in &new.data {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(key.to_bytes());
        if let Some(value) = value {
            text.push(b'=');
            text.extend_from_slice(value.to_bytes());
        }
    }
    // None of the parts holds one.
    CString::new(text).unwrap_or_default()
}

fn contents(new: &NewMount) -> Option<Contents> {
    match new.fstype.to_bytes() {
        b"tmpfs" => Some(Contents::Plans),
        b"proc" | b"sysfs" => Some(Contents::Kernels),
        _ => None,
    }
}

fn target(step: &mut Step) -> Option<&mut Target> {
    match step {
        Step::Attach { target, .. }
        | Step::AttachOrLink { target, .. }
        | Step::AttachTmpfs { target, .. }
        | Step::Link { target, .. }
        | Step::Mask { target, .. }
        | Step::ReadonlyPath(target) => Some(target),
        Step::MakeDevice(device) => Some(&mut device.target),
        _ => None,
    }
}

/// Whether a path is this place or below it.
fn is_below(path: &[u8], place: &[u8]) -> bool {
    let rest = path.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn new(slot: Slot, fstype: &CStr) -> Step {
        let (fstype, at) = (fstype.to_owned(), String::new());
        Step::CreateMount(NewMount { slot, fstype, source: None, data: Vec::new(), attr: 0, at })
    }

    fn at(path: &str) -> Target {
        Target::parse(Path::new(path)).unwrap()
    }

    fn within(mut steps: Vec<Step>) -> Vec<Option<Slot>> {
        mark(&mut steps);
        steps.iter_mut().filter_map(target).map(|target| target.within()).collect()
    }

    #[test]
    fn names_in_a_file_system_of_the_plan_need_no_lookup() {
        let found = within(vec![
            new(0, c"proc"),
            new(1, c"tmpfs"),
            new(2, c"devpts"),
            Step::Attach { slot: 0, target: at("/proc") },
            Step::AttachTmpfs { slot: 1, target: at("/dev"), take_mode: true, copy_up: false },
            Step::Attach { slot: 2, target: at("/dev/pts") },
            Step::Link { target: at("/dev/fd"), points_to: c"x".to_owned() },
            Step::Link { target: at("/dev/pts/x"), points_to: c"x".to_owned() },
            Step::Mask { target: at("/proc/keys"), null: 3 },
            Step::Mask { target: at("/proc/net"), null: 3 },
            Step::Mask { target: at("/proc/sys/x"), null: 3 },
            Step::ReadonlyPath(at("/proc/sys")),
        ]);
        let expected = [None, None, Some(1), Some(1), None, Some(0), None, None, Some(0)];
        assert_eq!(found, expected);
    }

    #[test]
    fn only_what_nothing_else_needs_is_mounted_in_place() {
        let tmpfs = |slot, path| {
            let target = at(path);
            Step::AttachTmpfs { slot, target, take_mode: false, copy_up: false }
        };
        let mut steps = vec![
            new(0, c"tmpfs"),
            new(1, c"tmpfs"),
            new(2, c"tmpfs"),
            new(3, c"devpts"),
            new(4, c"mqueue"),
            tmpfs(0, "/dev"),
            tmpfs(1, "/dev/shm"),
            tmpfs(2, "/dev/deep"),
            Step::Attach { slot: 3, target: at("/dev/pts") },
            Step::Attach { slot: 4, target: at("/dev/deep/mqueue") },
            Step::Console { devpts: 3, size: None },
        ];
        mark(&mut steps);
        mount_in_place(&mut steps);
        let in_place = |step: &Step| match step {
            Step::MountInPlace { target, .. } => Some(target.to_string()),
            _ => None,
        };
        assert_eq!(steps.iter().filter_map(in_place).collect::<Vec<_>>(), ["/dev/shm", "/dev/deep/mqueue"]);
        assert_eq!(steps.len(), 9);
    }

    #[test]
    fn what_has_been_covered_or_filled_from_the_image_is_looked_up() {
        let tmpfs = |slot, copy_up| {
            let target = at("/dev");
            Step::AttachTmpfs { slot, target, take_mode: false, copy_up }
        };
        let link = || Step::Link { target: at("/dev/fd"), points_to: c"x".to_owned() };
        let covered =
            vec![new(0, c"tmpfs"), tmpfs(0, false), Step::Attach { slot: 1, target: at("/dev") }, link()];
        assert_eq!(within(covered), [None, None, None]);
        assert_eq!(within(vec![new(0, c"tmpfs"), tmpfs(0, true), link()]), [None, None]);
        let other = Step::AttachTmpfs { slot: 0, target: at("/devices"), take_mode: false, copy_up: false };
        let beside = vec![new(0, c"tmpfs"), tmpfs(0, false), other, link()];
        assert_eq!(within(beside), [None, None, Some(0)]);
    }
}
