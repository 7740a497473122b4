//! Wrong arguments, and the help that was asked for: the same for both programs.
use clap::error::ErrorKind;

/// Prints help and version to standard output, and what was wrong with the arguments as one line on
/// standard error. True when nothing was wrong.
pub(super) fn print(program: &str, error: &clap::Error) -> bool {
    if !error.use_stderr() {
        // A reader that has gone away is no failure of ours.
        let _ = error.print();
        return true;
    }
    let text = error.to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        tell!("{}", text.trim_end_matches('\n'));
    } else {
        let message = text.split("\n\nUsage:").next().unwrap_or_default();
        let message = message.split("\n\nFor more").next().unwrap_or_default();
        let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
        tell!("{program}: {}; see {program} --help", line.strip_prefix("error: ").unwrap_or(&line));
    }
    false
}
