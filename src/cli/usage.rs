//! Wrong arguments, and the help that was asked for: the same for both programs.
use clap::Parser;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::io::Write as _;

/// Reads the arguments of a program, the first of which is its name. Commands are described to the parser when they are
/// chosen (`#[command(defer = true)]`), for to describe all takes longer than everything else that is done with arguments;
/// help, and what is said of a mistake, need them all.
///
/// # Errors
/// What is wrong with them, or the help that they ask for.
pub(super) fn parse<C: Parser>(arguments: &[OsString]) -> Result<C, clap::Error> {
    C::try_parse_from(arguments).map_err(|error| {
        let mut all = C::command();
        all.build();
        all.try_get_matches_from(arguments).err().unwrap_or(error)
    })
}

/// The command that the arguments name, whatever is wrong with them.
pub(super) fn command<C: Parser>(arguments: &[OsString]) -> Option<String> {
    let matches = C::command().ignore_errors(true).try_get_matches_from(arguments).ok()?;
    matches.subcommand_name().map(str::to_owned)
}

/// Prints help and version to standard output, and what was wrong with the arguments as one line on
/// standard error. True when nothing was wrong.
pub(super) fn print(program: &str, error: &clap::Error) -> bool {
    if !error.use_stderr() {
        let written = crate::cli::written(error.print().and_then(|()| std::io::stdout().flush()));
        return written.map_err(|error| tell!("{program}: {error:#}")).is_ok();
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
