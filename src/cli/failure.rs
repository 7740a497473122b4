//! The one line that a failed command ends with, of both programs.
use super::printable::printable;

/// How the kernel's error ends when there are too many open files, EMFILE, which may happen at any place.
const TOO_MANY_FILES: &str = "(os error 24)";

/// The error with those of its causes that it does not name itself, and what to do.
pub(super) fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    if text.ends_with(TOO_MANY_FILES) {
        text.push_str("; raise the limit of open files (ulimit -n)");
    }
    text
}

/// What may be several lines, for a terminal.
pub(super) fn one_line(text: &str) -> String {
    printable(&text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn every_cause_is_told_once() {
        let inner = Error::from_raw_os_error(libc::ENOENT);
        let named = crate::container::Error::Bundle {
            action: "open bundle",
            path: "/x".into(),
            source: Error::from_raw_os_error(libc::ENOENT),
        };
        assert_eq!(sentence(&named.into()), "open bundle /x: No such file or directory (os error 2)");
        let context = anyhow::Error::from(inner).context("write --pid-file /y");
        assert_eq!(sentence(&context), "write --pid-file /y: No such file or directory (os error 2)");
    }

    #[test]
    fn a_limit_that_is_reached_is_named() {
        let context = anyhow::Error::from(Error::from_raw_os_error(libc::EMFILE)).context("open /x");
        let told = sentence(&context);
        assert!(told.ends_with("(os error 24); raise the limit of open files (ulimit -n)"), "{told}");
    }

    #[test]
    fn lines_become_one() {
        assert_eq!(one_line("a  b\n\n  c\u{1b}\n"), "a  b c\\u{1b}");
    }
}
