//! The messages of CRIU's own protocol, its images/rpc.proto: fields by their numbers.
use super::protobuf::{Malformed, Message, Value, fields};

/// What CRIU is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Dump,
    PreDump,
    Restore,
}

impl Action {
    /// criu's command of that meaning.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Dump => "dump",
            Self::PreDump => "pre-dump",
            Self::Restore => "restore",
        }
    }

    /// `criu_req_type`.
    fn number(self) -> i64 {
        match self {
            Self::Dump => 1,
            Self::Restore => 2,
            // SINGLE_PRE_DUMP; the older PRE_DUMP awaits the next of a series on the same connection.
            Self::PreDump => 13,
        }
    }
}

/// `criu_req_type` of a notification and of the answer to one.
const NOTIFY: i64 = 6;

/// Fields of `criu_opts`.
pub(super) mod option {
    pub(in super::super) const IMAGES_DIR_FD: u32 = 1;
    pub(in super::super) const PID: u32 = 2;
    pub(in super::super) const LEAVE_RUNNING: u32 = 3;
    pub(in super::super) const EXT_UNIX_SK: u32 = 4;
    pub(in super::super) const TCP_ESTABLISHED: u32 = 5;
    pub(in super::super) const SHELL_JOB: u32 = 7;
    pub(in super::super) const FILE_LOCKS: u32 = 8;
    pub(in super::super) const LOG_LEVEL: u32 = 9;
    pub(in super::super) const LOG_FILE: u32 = 10;
    pub(in super::super) const PAGE_SERVER: u32 = 11;
    pub(in super::super) const NOTIFY_SCRIPTS: u32 = 12;
    pub(in super::super) const ROOT: u32 = 13;
    pub(in super::super) const PARENT_IMG: u32 = 14;
    pub(in super::super) const TRACK_MEM: u32 = 15;
    pub(in super::super) const AUTO_DEDUP: u32 = 16;
    pub(in super::super) const WORK_DIR_FD: u32 = 17;
    pub(in super::super) const CG_ROOT: u32 = 25;
    pub(in super::super) const RST_SIBLING: u32 = 26;
    pub(in super::super) const INHERIT_FD: u32 = 27;
    pub(in super::super) const MANAGE_CGROUPS_MODE: u32 = 34;
    pub(in super::super) const EXTERNAL: u32 = 37;
    pub(in super::super) const EMPTY_NS: u32 = 38;
    pub(in super::super) const FREEZE_CGROUP: u32 = 44;
    pub(in super::super) const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub(in super::super) const LAZY_PAGES: u32 = 48;
    pub(in super::super) const ORPHAN_PTS_MASTER: u32 = 50;
    pub(in super::super) const LSM_PROFILE: u32 = 53;
    pub(in super::super) const LSM_MOUNT_CONTEXT: u32 = 63;
    pub(in super::super) const NETWORK_LOCK: u32 = 64;
}

/// `criu_req`: an action with its `criu_opts`.
pub(super) fn request(action: Action, options: &Message) -> Message {
    let mut request = Message::default();
    request.integer(1, action.number());
    request.message(2, options);
    request
}

/// `criu_req`: whether what a notification asked for is done.
pub(super) fn acknowledgement(success: bool) -> Message {
    let mut request = Message::default();
    request.integer(1, NOTIFY);
    request.integer(3, i64::from(success));
    request
}

/// `criu_page_server_info`.
pub(super) fn page_server(address: &str, port: u16) -> Message {
    let mut info = Message::default();
    info.bytes(1, address.as_bytes());
    info.integer(2, i64::from(port));
    info
}

/// `inherit_fd`.
pub(super) fn inherited(key: &str, number: i32) -> Message {
    let mut inherited = Message::default();
    inherited.bytes(1, key.as_bytes());
    inherited.integer(2, i64::from(number));
    inherited
}

/// `cgroup_root`, of all controllers.
pub(super) fn cgroup_root(path: &str) -> Message {
    let mut root = Message::default();
    root.bytes(2, path.as_bytes());
    root
}

/// `criu_resp`: what CRIU says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has come to a moment and waits for an acknowledgement.
    Moment {
        /// criu(8), `--action-script`.
        name: String,
        /// The first restored process, at the moments that have one.
        pid: Option<i32>,
    },
    /// It has come to an end.
    End {
        /// Whether all is done.
        success: bool,
        /// The first restored process.
        pid: Option<i32>,
        /// The first error of its log.
        error: Option<String>,
    },
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut kind, mut success, mut pid, mut error, mut moment) = (0, false, None, None, None);
        for field in fields(bytes)? {
            match field {
                (1, Value::Integer(number)) => kind = number as i64,
                (2, Value::Integer(number)) => success = number != 0,
                (4, Value::Bytes(restored)) => pid = integer(restored, 1)?,
                (5, Value::Bytes(notify)) => moment = Some((text(notify, 1)?, integer(notify, 2)?)),
                (9, Value::Bytes(message)) => error = Some(String::from_utf8_lossy(message).into_owned()),
                _ => {}
            }
        }
        match moment {
            Some((name, pid)) if kind == NOTIFY => Ok(Self::Moment { name: name.unwrap_or_default(), pid }),
            _ => Ok(Self::End { success, pid, error }),
        }
    }
}

/// A field of a message within a message, `int32`.
fn integer(bytes: &[u8], wanted: u64) -> Result<Option<i32>, Malformed> {
    let found = fields(bytes)?.into_iter().find_map(|(field, value)| match value {
        Value::Integer(number) if field == wanted => Some(number as i32),
        _ => None,
    });
    Ok(found)
}

fn text(bytes: &[u8], wanted: u64) -> Result<Option<String>, Malformed> {
    let found = fields(bytes)?.into_iter().find_map(|(field, value)| match value {
        Value::Bytes(text) if field == wanted => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_an_action_with_its_options() {
        let mut options = Message::default();
        options.integer(option::IMAGES_DIR_FD, 7);
        options.flag(option::ORPHAN_PTS_MASTER, true);
        let bytes = b"\x08\x02\x12\x05\x08\x07\x90\x03\x01";
        assert_eq!(request(Action::Restore, &options).as_bytes(), bytes);
        assert_eq!(acknowledgement(true).as_bytes(), [0x08, 0x06, 0x18, 0x01]);
        assert_eq!(acknowledgement(false).as_bytes(), [0x08, 0x06, 0x18, 0x00]);
    }

    #[test]
    fn answers_are_moments_and_ends() {
        let moment = b"\x08\x06\x10\x01\x2a\x15\x0a\x10setup-namespaces\x10\xac\x02";
        let told = Answer::Moment { name: "setup-namespaces".to_owned(), pid: Some(300) };
        assert_eq!(Answer::parse(moment), Ok(told));
        let restored = Answer::End { success: true, pid: Some(300), error: None };
        assert_eq!(Answer::parse(b"\x08\x02\x10\x01\x22\x03\x08\xac\x02"), Ok(restored));
        let error = Some("no luck".to_owned());
        let failed = Answer::End { success: false, pid: Some(-1), error };
        let none = b"\x22\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(Answer::parse(&[b"\x08\x02\x10\x00", &none[..], b"\x4a\x07no luck"].concat()), Ok(failed));
        assert_eq!(Answer::parse(b"\x2a\x05\x0a"), Err(Malformed));
    }
}
