//! Argument parsing and printing, and nothing else: [`service`] for `wharf`, [`oci`] for `wharf-oci`, and
//! [`terminal`] for both.

/// A line on standard error, in one piece. One that cannot be written is no reason to panic: the exit status tells too.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = std::io::stderr().write_all(format!("{}\n", format_args!($($words)*)).as_bytes());
    }};
}

/// Text on standard output, as it is. Returns the error of a write that fails.
macro_rules! show {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        out.write_all(format!($($words)*).as_bytes()).and_then(|()| out.flush())
    }};
}

pub mod oci;
mod printable;
pub mod service;
pub mod terminal;
mod usage;
