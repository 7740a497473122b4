//! `USER[:GROUP]`, looked up in the image's own passwd(5) and group(5).
//!
//! The files are the image's, so they are opened inside its root, must be regular, and are read up to a
//! limit (CVE-2024-9676). A number is always an id: a passwd entry whose name is that number changes
//! nothing (CVE-2016-3697, CVE-2024-40635).
use super::super::Error;
use oci_spec::runtime::{User, UserBuilder};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::BorrowedFd;

/// The passwd of a large site has some 100,000 lines.
const FILE_LIMIT: u64 = 16 << 20;

/// A user as the process becomes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    /// Exactly the groups that list the user (CVE-2022-2989).
    groups: Vec<u32>,
    pub(super) home: String,
}

struct Line<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Account {
    /// Root when `text` is empty.
    pub(super) fn look_up(text: &str, rootfs: BorrowedFd<'_>) -> Result<Self, Error> {
        let text = if text.is_empty() { "0" } else { text };
        let passwd = read(rootfs, "etc/passwd")?;
        let group = read(rootfs, "etc/group")?;
        Self::find(text, &passwd, &group)
    }

    fn find(text: &str, passwd: &str, group: &str) -> Result<Self, Error> {
        let (user, wanted_group) =
            text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let number = number(user, text)?;
        let line = passwd.lines().filter_map(passwd_line).find(|line| match number {
            Some(uid) => line.uid == uid,
            None => line.name == user,
        });
        let (uid, gid) = match (&line, number) {
            (Some(line), _) => (line.uid, line.gid),
            (None, Some(uid)) => (uid, 0),
            (None, None) => {
                return Err(Error::Config(format!(
                    "user {user:?} is not in the image's /etc/passwd; use a number, or add it to the image"
                )));
            }
        };
        let home = line.as_ref().map(|line| line.home).filter(|home| home.starts_with('/')).unwrap_or("/");
        let gid_and_groups = match wanted_group.filter(|group| !group.is_empty()) {
            // An explicit group stands alone.
            Some(name) => (group_id(name, group, text)?, Vec::new()),
            None => (gid, line.as_ref().map(|line| groups_of(line.name, gid, group)).unwrap_or_default()),
        };
        Ok(Self { uid, gid: gid_and_groups.0, groups: gid_and_groups.1, home: home.to_owned() })
    }

    pub(super) fn user(&self) -> User {
        let mut user = UserBuilder::default().uid(self.uid).gid(self.gid);
        if !self.groups.is_empty() {
            user = user.additional_gids(self.groups.clone());
        }
        user.build().unwrap_or_default()
    }
}

/// `None` for a name; a number that no id can be is an error, not a name.
fn number(text: &str, whole: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_digit()) {
        return match text.is_empty() || text.starts_with(['-', '+']) {
            true => Err(Error::Config(format!("user {whole:?} is not USER[:GROUP]"))),
            false => Ok(None),
        };
    }
    // 4294967295 is -1, which setresuid(2) takes for "leave as it is".
    text.parse()
        .ok()
        .filter(|id| *id != u32::MAX)
        .map(Some)
        .ok_or_else(|| Error::Config(format!("user {whole:?}: {text} is above the largest id, 4294967294")))
}

fn passwd_line(line: &str) -> Option<Line<'_>> {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
    Some(Line { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
}

fn group_id(name: &str, group: &str, whole: &str) -> Result<u32, Error> {
    if let Some(gid) = number(name, whole)? {
        return Ok(gid);
    }
    let found = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name));
    found.and_then(|fields| fields.get(2)?.parse().ok()).ok_or_else(|| {
        Error::Config(format!(
            "group {name:?} is not in the image's /etc/group; use a number, or add it to the image"
        ))
    })
}

fn groups_of(name: &str, own: u32, group: &str) -> Vec<u32> {
    let mut groups = Vec::new();
    for line in group.lines() {
        let fields: Vec<&str> = line.trim_end().split(':').collect();
        let [_, _, gid, members, ..] = fields[..] else { continue };
        let Ok(gid) = gid.parse::<u32>() else { continue };
        if members.split(',').any(|member| member == name) && gid != own && !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    groups
}

/// The file's text; empty when the image has none.
fn read(rootfs: BorrowedFd<'_>, path: &str) -> Result<String, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let error = |reason: String| Error::Config(format!("the image's /{path} {reason}"));
    let file = match openat2(rootfs, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        file => file.map_err(|errno| error(format!("cannot be opened: {}", std::io::Error::from(errno))))?,
    };
    let stat =
        fstat(&file).map_err(|errno| error(format!("cannot be read: {}", std::io::Error::from(errno))))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(error("is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file).take(FILE_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|cause| error(format!("cannot be read: {cause}")))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(error(format!("is larger than {FILE_LIMIT} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::AsFd;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/srv:/bin/sh\n4294967296:x:0:0::/:\n7:x:0:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:1000:web\nlog:x:4:web,root\ndup:x:4:web\n";

    fn find(text: &str) -> Result<Account, String> {
        Account::find(text, PASSWD, GROUP).map_err(|error| error.to_string())
    }

    #[test]
    fn names_numbers_and_groups() {
        let account = |uid, gid, groups: &[u32], home: &str| Account {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.into(),
        };
        assert_eq!(find("web").unwrap(), account(1000, 1000, &[4], "/srv"));
        assert_eq!(find("1000").unwrap(), account(1000, 1000, &[4], "/srv"));
        assert_eq!(find("web:log").unwrap(), account(1000, 4, &[], "/srv"));
        assert_eq!(find("55:66").unwrap(), account(55, 66, &[], "/"));
    }

    #[test]
    fn a_number_is_never_looked_up_as_a_name() {
        assert_eq!(find("7").unwrap().uid, 7);
        for text in ["4294967296", "4294967295", "-1", "+1", "0:4294967296", ":web"] {
            assert!(find(text).is_err(), "{text}");
        }
    }

    #[test]
    fn who_is_unknown_is_named() {
        assert!(find("nobody").unwrap_err().contains("\"nobody\""));
        assert!(find("web:nogroup").unwrap_err().contains("\"nogroup\""));
    }

    #[test]
    fn a_fifo_or_an_escaping_link_in_place_of_passwd_neither_hangs_nor_leaves_the_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let open = std::fs::File::open(root.path()).unwrap();
        let passwd = root.path().join("etc/passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert!(Account::look_up("web", open.as_fd()).unwrap_err().to_string().contains("no regular file"));
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/../../../../../../etc/passwd", &passwd).unwrap();
        assert!(Account::look_up("daemon", open.as_fd()).is_err());
    }

    proptest! {
        #[test]
        fn looking_up_never_panics(text in "\\PC{0,30}", passwd in "[a-z0-9:\n]{0,80}") {
            let _ = Account::find(&text, &passwd, &passwd);
        }
    }
}
