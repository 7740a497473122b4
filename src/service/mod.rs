//! Service instances: one small supervisor process each, its state on disk, logs, restarts and stop.
//!
//! There is no daemon. [`create`] writes an instance to disk; [`start`] executes this program again as the
//! instance's supervisor, which mounts its root, makes its container, captures its output, waits for its
//! end, and starts it again by policy. Commands read the files and talk to the supervisor over a socket.
//! Every command that looks at an instance calls [`reconcile`] first: an instance whose supervisor was
//! killed gets a new one that takes over the running processes.

mod client;
mod commit;
mod control;
mod creation;
mod durable;
mod error;
mod images;
pub mod init;
mod instance;
mod lock;
pub mod log;
mod name;
mod options;
mod restart;
mod roots;
mod size;
mod spec;
mod state;
pub mod supervisor;
mod userns;
mod wish;

pub use client::{Attachment, Event, Supervision, kill, reconcile, start, stop, wait};
pub use commit::{CommitOptions, commit, diff};
pub use creation::create;
pub use error::{Error, NOT_EXECUTABLE, NOT_FOUND, OWN_FAILURE};
pub use images::{DiskUsage, check_images, disk_usage, hold_images, prune_images, remove_image};
pub use instance::Instance;
pub use name::{InstanceName, InvalidName};
pub use options::{Bind, Capabilities, Device, Options, Seccomp, Tmpfs};
pub use restart::{Ended, Next, RestartPolicy, Streak, UnknownPolicy};
pub use roots::Roots;
pub use size::size_in_words;
pub use state::{Exit, LastExit, State, Status, elapsed_since};
pub use userns::UserNamespace;
pub use wish::{Limits, UpperKind, Wish};
