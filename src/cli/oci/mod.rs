//! The command line of `wharf-oci`, one file per command. It is runc's: what engines call, and what they
//! read from standard output, standard error and the log, has runc's form.

mod checkpoint;
mod context;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod freeze;
mod kill;
mod launch;
mod list;
mod listen_fds;
mod log;
mod pid_file;
mod pidfd_socket;
mod plan;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod update;

use super::usage;
use crate::sys::entry;
use clap::{Parser, Subcommand};
use context::{Context, GlobalOptions};
use std::ffi::CStr;

/// What `--version` says, in the form that engines read: `NAME version X`, and the specification's.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

#[derive(Debug, Parser)]
#[command(name = "wharf-oci", version = VERSION)]
#[command(
    about = "OCI runtime: creates and runs containers from bundles (a config.json and a root file system)"
)]
#[command(
    after_help = "Exit status: the container's own for `run` and `exec` in the foreground (128+n when \
    signal n ended it), 255 when `exec` fails, 1 for every other failure."
)]
struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    Checkpoint(Box<checkpoint::Checkpoint>),
    Create(create::Create),
    Delete(delete::Delete),
    Events(events::Events),
    Exec(Box<exec::Exec>),
    Features(features::FeaturesCommand),
    Kill(kill::Kill),
    List(list::List),
    Pause(freeze::Pause),
    Plan(plan::PlanCommand),
    Ps(ps::Ps),
    Restore(Box<restore::Restore>),
    Resume(freeze::Resume),
    Run(run::Run),
    Spec(spec::SpecCommand),
    Start(start::Start),
    State(state::StateCommand),
    Update(Box<update::Update>),
}

/// Commands that make a process inside a container, and so run sealed. An argument that only looks like one does no
/// harm; the command itself makes sure of it, and tells why it cannot be.
pub const SEALED: [&CStr; 4] = [c"create", c"exec", c"restore", c"run"];

/// Parses the process's arguments, runs the command and returns its exit status.
pub fn main() -> u8 {
    let arguments = entry::arguments();
    let cli: Cli = match usage::parse(&arguments) {
        Ok(cli) => cli,
        Err(error) if usage::print("wharf-oci", &error) => return 0,
        Err(_) => return failure_status(usage::command::<Cli>(&arguments).as_deref() == Some("exec")),
    };
    let context = Context::new(cli.global);
    match cli.command.run(&context) {
        Ok(status) => status,
        Err(error) => {
            context.log.error(&error);
            failure_status(matches!(cli.command, Command::Exec(_)))
        }
    }
}

impl Command {
    fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match self {
            Self::Checkpoint(command) => command.run(context),
            Self::Create(command) => command.run(context),
            Self::Delete(command) => command.run(context),
            Self::Events(command) => command.run(context),
            Self::Exec(command) => command.run(context),
            Self::Features(command) => command.run(),
            Self::Kill(command) => command.run(context),
            Self::List(command) => command.run(context),
            Self::Pause(command) => command.run(context),
            Self::Plan(command) => command.run(context),
            Self::Ps(command) => command.run(context),
            Self::Restore(command) => command.run(context),
            Self::Resume(command) => command.run(context),
            Self::Run(command) => command.run(context),
            Self::Spec(command) => command.run(),
            Self::Start(command) => command.run(context),
            Self::State(command) => command.run(context),
            Self::Update(command) => command.run(context),
        }
    }
}

/// 255 keeps a failed `exec` apart from most statuses of the program itself, as with runc.
fn failure_status(of_exec: bool) -> u8 {
    if of_exec { 255 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use std::ffi::OsString;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_an_executed_program_are_its_own() {
        let arguments = ["wharf-oci", "exec", "--tty", "web", "ls", "-l", "--color"];
        let Command::Exec(exec) = Cli::try_parse_from(arguments).expect("parses").command else {
            panic!("should be exec")
        };
        assert_eq!(exec.command(), ["ls", "-l", "--color"]);
    }

    #[test]
    fn help_and_mistakes_know_every_command() {
        let told = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            usage::parse::<Cli>(&arguments).expect_err("no command to run").to_string()
        };
        assert!(told(&["wharf-oci", "run", "--help"]).contains("--bundle"));
        assert!(told(&["wharf-oci", "--help"]).contains("  update "));
        assert!(told(&["wharf-oci", "--root", "run", "--help"]).contains("  update "));
        assert!(told(&["wharf-oci", "rum", "x"]).contains("'run'"));
    }
}
