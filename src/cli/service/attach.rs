//! `wharf run` in the foreground: standard streams, signals and the terminal, until the instance has ended.
use super::run::discard;
use crate::cli::terminal::{Signals, attend};
use crate::service::{self, Attachment, Event, Instance, LastExit, Supervision, kill, start, stop};
use anyhow::Context as _;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::{Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

/// Starts an instance and stays with it; returns its exit status.
pub(super) fn run(instance: &Instance, interactive: bool, tty: bool) -> anyhow::Result<u8> {
    // Before any thread, so that every one of them leaves the signals to this.
    let signals = Signals::block().context("block signals")?;
    let (attachment, streams) = Streams::open(interactive && !tty, !tty)?;
    // Before there is any: whoever looks on shall not wait for threads to be made.
    let output = streams.copy(instance);
    let supervision = match start(instance, attachment) {
        Ok(supervision) => supervision,
        Err(error) => return Err(discard(instance.clone(), error.into())),
    };
    let ended = attend_events(instance, &supervision, &signals);
    for thread in output {
        // Ends with the supervisor's end of the pipe.
        let _ = thread.join();
    }
    let exit = ended?;
    if let Some(exit) = exit.as_ref().filter(|exit| exit.oom) {
        tell!("wharf: instance {}: {}", instance.name(), exit.reason);
    }
    Ok(exit.map_or(service::OWN_FAILURE, |exit| exit.exit().shell_code()))
}

fn attend_events(
    instance: &Instance,
    supervision: &Supervision,
    signals: &Signals,
) -> anyhow::Result<Option<LastExit>> {
    let mut asked = 0;
    let mut forward = |signal: i32| pass_on(instance, signal, &mut asked);
    let mut master = None;
    loop {
        attend(supervision.as_fd(), master.take(), signals, &mut forward)
            .context("copy between the terminal and the instance")?;
        match supervision.next_event()? {
            Event::Terminal(terminal) => master = Some(terminal),
            Event::Ended(exit) => return Ok(exit),
        }
    }
}

/// A signal to this command is meant for the instance. One that asks to end, given twice, ends an
/// instance that does not listen.
fn pass_on(instance: &Instance, signal: i32, asked: &mut u32) {
    let ending = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP].contains(&signal);
    *asked += u32::from(ending);
    // It may have ended meanwhile, which the next event tells.
    let _ = if ending && *asked > 1 {
        stop(instance, Some(Duration::ZERO))
    } else {
        kill(instance, signal, ending)
    };
}

/// This command's ends of the pipes.
#[derive(Debug, Default)]
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Streams {
    fn open(input: bool, output: bool) -> anyhow::Result<(Attachment, Self)> {
        let (mut theirs, mut ours) = (Attachment::default(), Self::default());
        let pipe = || pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
        if input {
            let (read, write) = pipe()?;
            (theirs.stdin, ours.stdin) = (Some(read), Some(write));
        }
        if output {
            let (read, write) = pipe()?;
            (theirs.stdout, ours.stdout) = (Some(write), Some(read));
            let (read, write) = pipe()?;
            (theirs.stderr, ours.stderr) = (Some(write), Some(read));
        }
        Ok((theirs, ours))
    }

    /// Copies in the background. The threads to wait for are those of the output: the one for input may
    /// wait for its user for ever.
    fn copy(self, instance: &Instance) -> Vec<JoinHandle<()>> {
        if let Some(pipe) = self.stdin {
            std::thread::spawn(move || {
                let _ =
                    std::io::copy(&mut Descriptor(rustix::stdio::stdin()), &mut std::fs::File::from(pipe));
            });
        }
        let mut output = Vec::new();
        if let Some(pipe) = self.stdout {
            output.push(copy_output(instance.clone(), pipe, false));
        }
        if let Some(pipe) = self.stderr {
            output.push(copy_output(instance.clone(), pipe, true));
        }
        output
    }
}

fn copy_output(instance: Instance, pipe: OwnedFd, is_stderr: bool) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let target = if is_stderr { rustix::stdio::stderr() } else { rustix::stdio::stdout() };
        let copied = std::io::copy(&mut std::fs::File::from(pipe), &mut Descriptor(target));
        if copied.is_err() {
            // Nobody reads any more: the instance would have got SIGPIPE without us between.
            let _ = stop(&instance, None);
        }
    })
}

/// A standard stream without the buffer that the standard library puts before it.
struct Descriptor(rustix::fd::BorrowedFd<'static>);

impl Read for Descriptor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match rustix::io::write(self.0, bytes) {
            Err(Errno::AGAIN) => {
                let mut polled = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::OUT)];
                rustix::event::poll(&mut polled, None)?;
                Err(std::io::ErrorKind::Interrupted.into())
            }
            other => Ok(other?),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
