//! The commands, and which of them an invocation needs to know.
//!
//! To describe all of them to the parser takes longer than everything else that is done with the arguments, and one is
//! enough for an invocation that names it.
use super::context::{Context, GlobalOptions};
use super::{
    checkpoint, create, delete, events, exec, features, freeze, kill, list, plan, ps, restore, run, spec,
};
use super::{start, state, update};
use clap::{ArgMatches, Args as _, FromArgMatches as _};
use std::ffi::OsString;

/// What `--version` says, in the form that engines read: `NAME version X`, and the specification's.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

const ABOUT: &str =
    "OCI runtime: creates and runs containers from bundles (a config.json and a root file system)";

const EXIT_STATUS: &str = "Exit status: the container's own for `run` and `exec` in the foreground (128+n when \
    signal n ended it), 255 when `exec` fails, 1 for every other failure.";

/// The arguments of an invocation.
#[derive(Debug)]
pub(super) struct Cli {
    pub(super) global: GlobalOptions,
    pub(super) command: Command,
}

impl Cli {
    /// Reads them; the first is the program's name.
    ///
    /// # Errors
    /// What is wrong with them, or the help that was asked for.
    pub(super) fn parse(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let given = |wanted: &str| arguments.iter().skip(1).any(|argument| argument == wanted);
        // Help, and what is said of a command that there is not, name the others.
        let all =
            ["-h", "--help", "help"].iter().any(|word| given(word)) || !NAMES.iter().any(|name| given(name));
        let matches = Self::command(|name| all || given(name)).try_get_matches_from(arguments)?;
        Ok(Self { global: GlobalOptions::from_arg_matches(&matches)?, command: Command::of(&matches)? })
    }

    /// The description of these commands.
    pub(super) fn command(known: impl Fn(&str) -> bool) -> clap::Command {
        let program = clap::Command::new("wharf-oci").version(VERSION).about(ABOUT).after_help(EXIT_STATUS);
        let program = program.subcommand_required(true).arg_required_else_help(true);
        Command::describe(GlobalOptions::augment_args(program).about(ABOUT), known)
    }
}

macro_rules! commands {
    ($($name:literal => $variant:ident($arguments:ty) by $run:expr,)+) => {
        #[derive(Debug)]
        pub(super) enum Command {
            $($variant($arguments),)+
        }

        const NAMES: &[&str] = &[$($name),+];

        impl Command {
            fn describe(mut program: clap::Command, known: impl Fn(&str) -> bool) -> clap::Command {
                $(if known($name) {
                    program = program.subcommand(<$arguments>::augment_args(clap::Command::new($name)));
                })+
                program
            }

            fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
                match matches.subcommand() {
                    $(Some(($name, own)) => <$arguments>::from_arg_matches(own).map(Self::$variant),)+
                    _ => Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand)),
                }
            }

            pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
                match self {
                    $(Self::$variant(command) => $run(command, context),)+
                }
            }
        }
    };
}

commands! {
    "checkpoint" => Checkpoint(Box<checkpoint::Checkpoint>) by checkpoint::Checkpoint::run,
    "create" => Create(create::Create) by create::Create::run,
    "delete" => Delete(delete::Delete) by delete::Delete::run,
    "events" => Events(events::Events) by events::Events::run,
    "exec" => Exec(Box<exec::Exec>) by exec::Exec::run,
    "features" => Features(features::FeaturesCommand) by |command: &features::FeaturesCommand, _| command.run(),
    "kill" => Kill(kill::Kill) by kill::Kill::run,
    "list" => List(list::List) by list::List::run,
    "pause" => Pause(freeze::Pause) by freeze::Pause::run,
    "plan" => Plan(plan::PlanCommand) by plan::PlanCommand::run,
    "ps" => Ps(ps::Ps) by ps::Ps::run,
    "restore" => Restore(Box<restore::Restore>) by restore::Restore::run,
    "resume" => Resume(freeze::Resume) by freeze::Resume::run,
    "run" => Run(run::Run) by run::Run::run,
    "spec" => Spec(spec::SpecCommand) by |command: &spec::SpecCommand, _| command.run(),
    "start" => Start(start::Start) by start::Start::run,
    "state" => State(state::StateCommand) by state::StateCommand::run,
    "update" => Update(Box<update::Update>) by update::Update::run,
}

impl Command {
    /// 255 keeps a failed `exec` apart from most statuses of the program itself, as with runc.
    pub(super) fn failure_status(&self) -> u8 {
        if matches!(self, Self::Exec(_)) { 255 } else { 1 }
    }
}
