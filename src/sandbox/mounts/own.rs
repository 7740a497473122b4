//! Targets that lie directly in a file system which the Plan makes itself, such as `/dev/null` and
//! `/proc/keys`.
//!
//! They are reached by the descriptor of that mount and one name: one system call in place of a lookup
//! below the root, and no way for an image to have a say, since what is in the file system comes from the
//! kernel and the Plan alone.
use crate::sandbox::step::{NewMount, Slot, Step};
use crate::sandbox::target::Target;
use std::collections::HashMap;
use std::ffi::CStr;

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
    let mut made: HashMap<Slot, Contents> = HashMap::new();
    let mut attached: HashMap<Vec<u8>, (Slot, Contents)> = HashMap::new();
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
