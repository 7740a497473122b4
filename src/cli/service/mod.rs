//! The command line of `wharf`, one file per command.

mod attach;
mod changes;
mod df;
mod exec;
mod fsck;
mod history;
mod images;
mod import;
mod inspect;
mod layer_limits;
mod lifecycle;
mod limits;
mod listing;
mod load;
mod login;
mod logs;
mod policy;
mod progress;
mod ps;
mod pull;
mod removal;
mod run;
mod save;
mod stats;
mod tag;
mod unpack;
mod values;

use super::failure::{one_line, sentence};
use super::usage;
use crate::service::{self, OWN_FAILURE, Roots, init, supervisor};
use crate::sys::{entry, heap};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    about = "Packages services as OCI images and runs every instance in a sandbox of its own, without a daemon",
    after_help = "Exit status: the instance's own for run, exec and wait (128+n when signal n ended it), 125 when wharf \
        itself fails, 126 when the instance's program cannot be executed, 127 when it is not found.\n\nAll commands need root."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Keep all state (images, layers, instances, runtime) below this directory [default: /var/lib/wharf
    /// and /run/wharf]
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    Pull(pull::Pull),
    Push(pull::Push),
    Login(login::Login),
    Logout(login::Logout),
    Load(load::Load),
    Save(save::Save),
    Import(import::Import),
    Images(images::Images),
    History(history::History),
    Tag(tag::Tag),
    Rmi(removal::Rmi),
    Prune(removal::Prune),
    Df(df::Df),
    Fsck(fsck::Fsck),
    Unpack(unpack::Unpack),
    Run(Box<run::Run>),
    Ps(ps::Ps),
    Logs(logs::Logs),
    Exec(exec::Exec),
    Stats(stats::StatsCommand),
    Inspect(inspect::Inspect),
    Diff(changes::Diff),
    Commit(changes::Commit),
    Stop(lifecycle::Stop),
    Start(lifecycle::Start),
    Restart(lifecycle::Restart),
    Kill(lifecycle::Kill),
    Wait(lifecycle::Wait),
    Rm(lifecycle::Rm),
}

/// The commands that wharf executes itself, with the arguments that it wrote itself: process 1 of an instance, and the
/// process that stands by one. There is one of these for every instance, so that it does not carry the command line of
/// everything else.
fn executed_by_itself(arguments: &[OsString]) -> Option<u8> {
    let [_, command, arguments @ ..] = arguments else { return None };
    if command == supervisor::COMMAND {
        Some(supervisor::main(arguments.iter().cloned()))
    } else if command == init::COMMAND {
        Some(init::run(arguments))
    } else {
        None
    }
}

/// Parses the process's arguments, runs the command and returns its exit status.
pub fn main() -> u8 {
    let arguments = entry::arguments();
    if let Some(status) = executed_by_itself(&arguments) {
        return status;
    }
    let cli: Cli = match usage::parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => return if usage::print("wharf", &error) { 0 } else { OWN_FAILURE },
    };
    for_root(&cli.global, cli.command).unwrap_or_else(|error| fail(&error))
}

fn for_root(global: &Global, command: Command) -> anyhow::Result<u8> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "must be run as root: making sandboxes, cgroups and networks needs it; try sudo wharf"
    );
    heap::return_large_blocks();
    let roots = Roots::new(global.root.as_deref())?;
    match command {
        Command::Pull(command) => command.run(&roots),
        Command::Push(command) => command.run(&roots),
        Command::Login(command) => command.run(),
        Command::Logout(command) => command.run(),
        Command::Load(command) => command.run(&roots),
        Command::Save(command) => command.run(&roots),
        Command::Import(command) => command.run(&roots),
        Command::Images(command) => command.run(&roots),
        Command::Rmi(command) => command.run(&roots),
        Command::Prune(command) => command.run(&roots),
        Command::History(command) => command.run(&roots),
        Command::Tag(command) => command.run(&roots),
        Command::Df(command) => command.run(&roots),
        Command::Fsck(command) => command.run(&roots),
        Command::Unpack(command) => command.run(&roots),
        Command::Run(command) => command.run(&roots),
        Command::Ps(command) => command.run(&roots),
        Command::Logs(command) => command.run(&roots),
        Command::Exec(command) => command.run(&roots),
        Command::Stats(command) => command.run(&roots),
        Command::Inspect(command) => command.run(&roots),
        Command::Diff(command) => command.run(&roots),
        Command::Commit(command) => command.run(&roots),
        Command::Stop(command) => command.run(&roots),
        Command::Start(command) => command.run(&roots),
        Command::Restart(command) => command.run(&roots),
        Command::Kill(command) => command.run(&roots),
        Command::Wait(command) => command.run(&roots),
        Command::Rm(command) => command.run(&roots),
    }
}

/// One line, and the status that belongs to it.
fn fail(error: &anyhow::Error) -> u8 {
    if is_broken_pipe(error) {
        return 0;
    }
    tell!("wharf: {}", one_line(&sentence(error)));
    let code = error.chain().find_map(|cause| cause.downcast_ref::<service::Error>());
    code.map_or(OWN_FAILURE, service::Error::exit_code)
}

/// Whoever read our output has gone away, which is no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<serde_json::Error>() {
        Some(error) => error.io_error_kind(),
        None => cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind),
    };
    error.chain().find_map(kind) == Some(std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_says_of_every_command_what_it_does() {
        let help = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            usage::parse::<Cli>(&arguments).expect_err("help").to_string()
        };
        let text = help(&["wharf", "--help"]);
        for command in Cli::command().get_subcommands().map(clap::Command::get_name) {
            let line =
                text.lines().find(|line| line.split_whitespace().next() == Some(command)).expect(command);
            assert!(line.split_whitespace().count() > 2, "{line:?} says nothing");
        }
        assert!(help(&["wharf", "run", "--help"]).contains("--memory"));
    }

    #[test]
    fn options_after_the_image_are_the_instances_own() {
        let arguments = ["wharf", "run", "--rm", "-h", "box", "shell", "ls", "-l", "--rm", "--root", "/"];
        let cli = Cli::try_parse_from(arguments).unwrap();
        assert!(cli.global.root.is_none());
        let Command::Run(run) = cli.command else { panic!("should be run") };
        assert_eq!(run.command(), ["ls", "-l", "--rm", "--root", "/"]);
    }
}
