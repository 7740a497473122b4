//! The words of a mount's `options`: runtime-spec config.md#mounts, config-linux.md, mount(8).
use crate::sys::mount::MountAttr;
use rustix::mount::MountAttrFlags as Attr;

const ATIME_MODES: u64 = Attr::MOUNT_ATTR__ATIME.bits() as u64;

/// The options of one mount, sorted by what they act on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// `bind` or `rbind`.
    pub(super) bind: bool,
    /// `rbind`.
    pub(super) recursive: bool,
    /// `remount`: change the mount that stands there already.
    pub(super) remount: bool,
    /// Flags of this mount alone.
    pub(super) attr: MountAttr,
    /// Flags of this mount and all below it (`rro`, `rnosuid` …).
    pub(super) recursive_attr: MountAttr,
    /// Propagation changes, each with whether it is recursive.
    pub(super) propagation: Vec<(u64, bool)>,
    /// `idmap` or `ridmap`.
    pub(super) id_map: Option<IdMapWord>,
    /// `tmpcopyup`: a tmpfs starts with what it covers.
    pub(super) copy_up: bool,
    /// `src-nofollow`: bind a symlink itself.
    pub(super) source_itself: bool,
    /// `dest-nofollow`: bind over a symlink itself.
    pub(super) target_itself: bool,
    /// `copy-symlink`: a source that is a symlink is made again in place of being bound.
    pub(super) copy_symlink: bool,
    /// What the file system itself reads: `key` or `key=value`.
    pub(super) data: Vec<(String, Option<String>)>,
}

/// `idmap` or `ridmap`, with the mapping that crun lets follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdMapWord {
    pub(super) recursive: bool,
    pub(super) custom: Option<String>,
}

impl IdMapWord {
    fn parse(word: &str) -> Option<Self> {
        let (word, custom) = match word.split_once('=') {
            Some((word, custom)) => (word, Some(custom.to_owned())),
            None => (word, None),
        };
        let recursive = match word {
            "idmap" => false,
            "ridmap" => true,
            _ => return None,
        };
        Some(Self { recursive, custom })
    }
}

impl MountOptions {
    /// Sorts the words; what is none of the known ones is for the file system.
    pub(super) fn parse(words: &[String]) -> Self {
        let mut options = Self::default();
        words.iter().for_each(|word| options.take(word));
        options
    }

    fn take(&mut self, word: &str) {
        if let Some(change) = flag(word) {
            change.apply(&mut self.attr);
            return;
        }
        if let Some(change) = word.strip_prefix('r').and_then(flag) {
            change.apply(&mut self.recursive_attr);
            return;
        }
        if let Some(propagation) = propagation(word) {
            self.propagation.push(propagation);
            return;
        }
        if let Some(id_map) = IdMapWord::parse(word) {
            self.id_map = Some(id_map);
            return;
        }
        match word {
            // The last two act on no file system that does not do so of itself since Linux 6.1.
            "defaults" | "loud" | "silent" | "iversion" | "noiversion" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "src-nofollow" => self.source_itself = true,
            "dest-nofollow" => self.target_itself = true,
            "copy-symlink" => self.copy_symlink = true,
            _ => self.data.push(match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            }),
        }
    }
}

#[derive(Clone, Copy)]
struct Change {
    set: u64,
    clear: u64,
}

impl Change {
    /// The last word wins, as with mount(8).
    fn apply(self, attr: &mut MountAttr) {
        attr.set = attr.set & !self.clear | self.set;
        attr.clear = attr.clear & !self.set | self.clear;
    }
}

fn flag(word: &str) -> Option<Change> {
    let set = |flag: Attr| Change { set: u64::from(flag.bits()), clear: 0 };
    let clear = |flag: Attr| Change { set: 0, clear: u64::from(flag.bits()) };
    // The atime modes are one field of several bits: it is cleared before a mode is set.
    let atime = |mode: Attr| Change { set: u64::from(mode.bits()), clear: ATIME_MODES };
    Some(match word {
        "ro" => set(Attr::MOUNT_ATTR_RDONLY),
        "rw" => clear(Attr::MOUNT_ATTR_RDONLY),
        "nosuid" => set(Attr::MOUNT_ATTR_NOSUID),
        "suid" => clear(Attr::MOUNT_ATTR_NOSUID),
        "nodev" => set(Attr::MOUNT_ATTR_NODEV),
        "dev" => clear(Attr::MOUNT_ATTR_NODEV),
        "noexec" => set(Attr::MOUNT_ATTR_NOEXEC),
        "exec" => clear(Attr::MOUNT_ATTR_NOEXEC),
        "nodiratime" => set(Attr::MOUNT_ATTR_NODIRATIME),
        "diratime" => clear(Attr::MOUNT_ATTR_NODIRATIME),
        "nosymfollow" => set(Attr::MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => clear(Attr::MOUNT_ATTR_NOSYMFOLLOW),
        "noatime" => atime(Attr::MOUNT_ATTR_NOATIME),
        "strictatime" => atime(Attr::MOUNT_ATTR_STRICTATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => atime(Attr::MOUNT_ATTR_RELATIME),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<(u64, bool)> {
    let (kind, recursive) = match word {
        "shared" | "slave" | "private" | "unbindable" => (word, false),
        "rshared" | "rslave" | "rprivate" | "runbindable" => (&word[1..], true),
        _ => return None,
    };
    Some((propagation_flag(kind)?, recursive))
}

fn propagation_flag(kind: &str) -> Option<u64> {
    Some(match kind {
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "private" => libc::MS_PRIVATE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    })
}

/// `linux.rootfsPropagation`: the flag and whether it is recursive.
pub(in crate::sandbox) fn rootfs_propagation(word: &str) -> Option<(u64, bool)> {
    propagation(word)
}

/// Words that `features` reports as known: runtime-spec features.md#mount-options.
pub const KNOWN: &[&str] = &[
    "async",
    "atime",
    "bind",
    "copy-symlink",
    "defaults",
    "dest-nofollow",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "src-nofollow",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// Data that the kernel reads for every file system, `fsconfig(2)`; the superblock of a bind mount is
/// its source's and stays as it is.
#[cfg(test)]
const OF_THE_SUPERBLOCK: &[&str] = &["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> MountOptions {
        MountOptions::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_word_on_a_flag_wins() {
        let options = parse(&["ro", "nosuid", "rw"]);
        assert_eq!(options.attr.set, u64::from(Attr::MOUNT_ATTR_NOSUID.bits()));
        assert_eq!(options.attr.clear, u64::from(Attr::MOUNT_ATTR_RDONLY.bits()));
    }

    #[test]
    fn words_of_the_file_system_are_its_data() {
        let options = parse(&["mode=755", "size=65536k", "noswap", "rbind", "rslave", "rro"]);
        assert_eq!(options.data.len(), 3);
        assert_eq!(options.data[0], ("mode".into(), Some("755".into())));
        assert!(options.bind && options.recursive);
        assert_eq!(options.propagation, [(libc::MS_SLAVE, true)]);
        assert_eq!(options.recursive_attr.set, u64::from(Attr::MOUNT_ATTR_RDONLY.bits()));
    }

    #[test]
    fn every_word_that_features_reports_is_understood() {
        for word in KNOWN {
            let data = parse(&[word]).data;
            let known = data.iter().all(|(key, _)| OF_THE_SUPERBLOCK.contains(&key.as_str()));
            assert!(known, "{word} went to the file system");
        }
    }
}
