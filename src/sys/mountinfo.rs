//! The mount table, `proc_pid_mountinfo(5)`. For the parent's side: it allocates.
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Mount id, as `fdinfo` files name it.
    pub id: u64,
    /// What of the file system is shown.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Type of the file system.
    pub fstype: &'a str,
    /// Options of the file system as a whole.
    pub options: &'a str,
}

/// The mounts that the text of a mountinfo file lists; lines that have another form are passed over.
pub fn parse(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        let (place, filesystem) = line.split_once(" - ")?;
        let mut place = place.split(' ');
        let id = place.next()?.parse().ok()?;
        let (root, point) = (place.nth(2)?, place.next()?);
        let mut filesystem = filesystem.split(' ');
        let (fstype, options) = (filesystem.next()?, filesystem.nth(1)?);
        Some(Mount { id, root: unescape(root), point: unescape(point), fstype, options })
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn escaped_mount_points_are_read() {
        assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape("/plain\\"), Path::new("/plain\\"));
    }

    #[test]
    fn a_line_is_read_with_and_without_optional_fields() {
        let text = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
                    37 35 0:5 / /proc rw - proc proc rw\nnonsense\n";
        let mounts: Vec<_> = parse(text).collect();
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].id, mounts[0].root.as_path()), (36, Path::new("/mnt1")));
        assert_eq!((mounts[0].point.as_path(), mounts[0].fstype), (Path::new("/mnt2"), "ext3"));
        assert_eq!((mounts[0].options, mounts[1].fstype), ("rw,errors=continue", "proc"));
    }
}
