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

use super::printable::printable;
use super::usage;
use crate::service::{self, OWN_FAILURE, Roots, init, supervisor};
use crate::sys::heap;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

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
    #[command(hide = true)]
    Supervise(Supervise),
    #[command(hide = true)]
    Init(Init),
}

/// Stand by an instance (wharf executes this itself)
#[derive(Debug, Args)]
struct Supervise {
    #[arg(long)]
    purpose: String,
    #[arg(long)]
    reports: i32,
    name: String,
}

/// Be process 1 of an instance (wharf executes this itself)
#[derive(Debug, Args)]
struct Init {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Parses the process's arguments, runs the command and returns its exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return if usage::print("wharf", &error) {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(OWN_FAILURE)
            };
        }
    };
    match cli.command {
        Command::Supervise(command) => {
            let Supervise { purpose, reports, name } = command;
            supervisor::main(&supervisor::Arguments { root: cli.global.root, purpose, reports, name })
        }
        Command::Init(command) => ExitCode::from(init::run(&command.command)),
        command => match for_root(&cli.global, command) {
            Ok(status) => ExitCode::from(status),
            Err(error) => fail(&error),
        },
    }
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
        Command::Supervise(_) | Command::Init(_) => Ok(OWN_FAILURE),
    }
}

/// One line, and the status that belongs to it.
fn fail(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    tell!("wharf: {}", on_one_line(error));
    let code = error.chain().find_map(|cause| cause.downcast_ref::<service::Error>());
    ExitCode::from(code.map_or(OWN_FAILURE, service::Error::exit_code))
}

/// The error and its causes, but for those that an error names in its own words already.
fn on_one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{colon}{cause}");
        }
    }
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
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
    fn options_after_the_image_are_the_instances_own() {
        let arguments = ["wharf", "run", "--rm", "-h", "box", "shell", "ls", "-l", "--rm", "--root", "/"];
        let cli = Cli::try_parse_from(arguments).unwrap();
        assert!(cli.global.root.is_none());
        let Command::Run(run) = cli.command else { panic!("should be run") };
        assert_eq!(run.command(), ["ls", "-l", "--rm", "--root", "/"]);
    }
}
