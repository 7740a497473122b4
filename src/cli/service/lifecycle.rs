//! `wharf stop`, `start`, `restart`, `kill`, `wait` and `rm`
use super::listing::print_line;
use super::values::seconds;
use crate::container::parse_signal;
use crate::service::{self, Attachment, Error, Instance, Roots, kill, reconcile, start, stop, wait};
use clap::Args;
use std::time::Duration;

/// Stop instances
#[derive(Debug, Args)]
#[command(after_help = "Sends the stop signal, waits, and kills what has not ended by then.")]
pub(super) struct Stop {
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Time to end before it is killed, seconds [default: that of run, 10]
    #[arg(long, short = 't', visible_alias = "time", value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

impl Stop {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        each(roots, &self.names, |instance| stop(&instance, self.timeout))
    }
}

/// Start stopped instances
#[derive(Debug, Args)]
pub(super) struct Start {
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Start {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        each(roots, &self.names, |instance| start_one(&instance))
    }
}

fn start_one(instance: &Instance) -> Result<(), Error> {
    reconcile(instance)?;
    start(instance, Attachment::default()).map(drop)
}

/// Stop instances and start them again
#[derive(Debug, Args)]
pub(super) struct Restart {
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Time to end before it is killed, seconds [default: that of run, 10]
    #[arg(long, short = 't', visible_alias = "time", value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

impl Restart {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        each(roots, &self.names, |instance| {
            if instance.wish().remove {
                let reason = "was run with --rm, and would be gone once stopped".to_owned();
                return Err(Error::Option {
                    option: "restart",
                    reason: format!("{} {reason}", instance.name()),
                });
            }
            stop(&instance, self.timeout)?;
            start_one(&instance)
        })
    }
}

/// Send a signal to the first process of instances
#[derive(Debug, Args)]
#[command(
    after_help = "An instance that ends by KILL, TERM, INT or QUIT sent this way is not started again."
)]
pub(super) struct Kill {
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Name or number of the signal
    #[arg(long, short, value_name = "SIGNAL", default_value = "KILL", value_parser = parse_signal)]
    signal: i32,
}

impl Kill {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let ending = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT].contains(&self.signal);
        each(roots, &self.names, |instance| kill(&instance, self.signal, ending))
    }
}

/// Wait until an instance has ended for good, and exit with its status
#[derive(Debug, Args)]
pub(super) struct Wait {
    name: String,
}

impl Wait {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let exit = wait(&Instance::find(roots, &self.name)?)?;
        Ok(exit.map_or(service::OWN_FAILURE, |exit| exit.exit().shell_code()))
    }
}

/// Remove stopped instances with all they have written
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Kill what runs
    #[arg(long, short)]
    force: bool,
}

impl Rm {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        each(roots, &self.names, |instance| self.remove(instance))
    }

    fn remove(&self, instance: Instance) -> Result<(), Error> {
        if self.force {
            stop(&instance, Some(Duration::ZERO))?;
            if instance.wish().remove && !instance.directory().exists() {
                return Ok(());
            }
        } else {
            reconcile(&instance)?;
            if instance.supervisor()?.is_some() && instance.state()?.status.is_active() {
                return Err(Error::Running(instance.name().clone()));
            }
        }
        instance.remove()
    }
}

/// Goes through all names, prints those that went well, and fails with the first failure, all of them told.
fn each(
    roots: &Roots,
    names: &[String],
    mut action: impl FnMut(Instance) -> Result<(), Error>,
) -> anyhow::Result<u8> {
    let mut failures = Vec::new();
    for name in names {
        match Instance::find(roots, name).and_then(&mut action) {
            Ok(()) => print_line(name)?,
            Err(error) => failures.push(error),
        }
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(0) };
    for other in failures {
        tell!("wharf: {other}");
    }
    Err(first.into())
}
