//! What commands and supervisors say to each other.
//!
//! A command connects to the supervisor's socket, sends one [`Request`] as a line of JSON, and reads one
//! [`Reply`]. A supervisor that was started by a command also sends [`Report`]s over the socket pair it
//! was given, one a message; a terminal's descriptor travels with [`Report::Terminal`].
use super::state::LastExit;
use serde::{Deserialize, Serialize};

/// What a command asks of a running supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Ask the instance to end, kill it after the time, and do not start it again. Answered when it has
    /// ended and the supervisor is about to.
    Stop {
        /// The wish's own when not given.
        timeout_ms: Option<u64>,
    },
    /// Send a signal to the instance's first process.
    Kill {
        /// Its number.
        signal: i32,
        /// Whether the end that may follow was asked for, so that the policy does not start it again.
        ending: bool,
    },
    /// Answered when the instance has ended for good.
    Wait,
    /// Freeze every process of the instance, for as long as the connection stays open.
    Pause,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// It is done.
    Done,
    /// The instance has ended for good, like this.
    Ended(Option<LastExit>),
    /// It cannot be done.
    Refused(String),
}

/// What a supervisor tells the command that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The instance runs, or is waiting for its next start.
    Started,
    /// The master of its terminal comes with this message.
    Terminal,
    /// It could not be started.
    Failed {
        /// One line.
        message: String,
        /// Exit status that belongs to it.
        exit_code: u8,
    },
    /// Another supervisor is at work on it.
    Busy,
    /// It has ended for good, like this.
    Ended(Option<LastExit>),
}

/// Longest line either side accepts, bytes.
pub(super) const LONGEST_MESSAGE: usize = 16 * 1024;
