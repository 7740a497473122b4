//! Captured output: `log`, and the files it was rotated into, `log.1` being the newest of those.
//!
//! A line is `TIME STREAM TAG TEXT`, as the Kubernetes container runtime interface writes it:
//! `2026-01-31T12:00:00.123456789Z stdout F hello`. The tag is `F` when the service ended the line and
//! `P` when it did not (yet): the text goes on in the stream's next record. Text is kept byte for byte.

mod reader;
mod record;
mod writer;

pub use reader::{Follow, Reader};
pub use record::{Record, Stream};
pub use writer::LogLimits;
pub(super) use writer::Writer;
