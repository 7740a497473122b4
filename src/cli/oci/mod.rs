//! The command line of `wharf-oci`, one file per command. It is runc's: what engines call, and what they
//! read from standard output, standard error and the log, has runc's form.

mod checkpoint;
mod commands;
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
use commands::Cli;
use context::Context;
use std::ffi::CStr;

/// Commands that make a process inside a container, and so run sealed. An argument that only looks like one does no
/// harm; the command itself makes sure of it, and tells why it cannot be.
pub const SEALED: [&CStr; 4] = [c"create", c"exec", c"restore", c"run"];

/// Parses the process's arguments, runs the command and returns its exit status.
pub fn main() -> u8 {
    let cli = match Cli::parse(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(error) => return if usage::print("wharf-oci", &error) { 0 } else { 1 },
    };
    let context = Context::new(cli.global);
    match cli.command.run(&context) {
        Ok(status) => status,
        Err(error) => {
            context.log.error(&error);
            cli.command.failure_status()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commands::Command;
    use std::ffi::OsString;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command(|_| true).debug_assert();
    }

    #[test]
    fn options_of_an_executed_program_are_its_own() {
        let arguments = ["wharf-oci", "exec", "--tty", "web", "ls", "-l", "--color"];
        let cli = Cli::parse(&arguments.map(OsString::from)).expect("parses");
        let Command::Exec(exec) = cli.command else { panic!("should be exec") };
        assert_eq!(exec.command(), ["ls", "-l", "--color"]);
    }

    #[test]
    fn help_and_mistakes_know_every_command() {
        let told = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            Cli::parse(&arguments).expect_err("no command to run").to_string()
        };
        assert!(told(&["wharf-oci", "run", "--help"]).contains("--bundle"));
        assert!(told(&["wharf-oci", "--help"]).contains("  update "));
        assert!(told(&["wharf-oci", "--root", "run", "--help"]).contains("  update "));
        assert!(told(&["wharf-oci", "rum", "x"]).contains("'run'"));
    }
}
