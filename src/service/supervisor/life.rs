//! The life of an instance under its supervisor: starts, ends, what follows an end, and what commands ask.
use super::connections::{Connections, Heard};
use super::launch::{self, Incarnation, Outcome, launch};
use super::output::Output;
use super::waiting::{Source, wait};
use super::{Attached, Reports, failure};
use crate::service::client::Purpose;
use crate::service::control::{Reply, Report, Request};
use crate::service::durable::Disk;
use crate::service::lock::SupervisorLock;
use crate::service::log::Writer;
use crate::service::restart::{Ended, Next, Streak};
use crate::service::state::boot_id;
use crate::service::{Error, Exit, Instance, LastExit, State, Status};
use crate::sys::{arena, heap};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

/// Everything a supervisor knows.
#[derive(Debug)]
pub(super) struct Life {
    instance: Instance,
    state: State,
    lock: SupervisorLock,
    log: Writer,
    pub(super) signals: SignalFd,
    pub(super) connections: Connections,
    pub(super) reports: Reports,
    pub(super) attached: Attached,
    pub(super) running: Option<Incarnation>,
    /// When an instance that has ended is started again.
    start_at: Option<Instant>,
    /// When an instance that was asked to stop is killed.
    kill_at: Option<Instant>,
    /// When this process gives back what starting took.
    rest_at: Option<Instant>,
    /// Whether the end that comes next was asked for.
    asked_for: bool,
    /// Nothing more is to be done.
    over: bool,
}

impl Life {
    /// Starts the instance, or takes over what another supervisor left, and reports how that went.
    pub(super) fn begin(
        instance: Instance,
        lock: SupervisorLock,
        attached: Attached,
        reports: Reports,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let mut life = Self {
            state: instance.state()?,
            lock,
            log: Writer::open(&instance.path("log"), instance.wish().log)?,
            signals: signals()?,
            connections: Connections::listen(&instance)?,
            reports,
            attached,
            running: None,
            start_at: None,
            kill_at: None,
            rest_at: Some(Instant::now() + QUIET),
            asked_for: false,
            over: false,
            instance,
        };
        let begun = match purpose {
            Purpose::Start => life.start_first(),
            Purpose::Adopt => life.take_over(),
        };
        if let Err(error) = begun {
            // Nobody may find a socket that leads nowhere.
            let _ = std::fs::remove_file(life.instance.control_socket());
            return Err(error);
        }
        life.reports.send(&Report::Started, None);
        life.offer_terminal();
        Ok(life)
    }

    /// Stays until the instance has ended for good.
    pub(super) fn live(mut self) -> Result<(), Error> {
        while !self.over {
            let deadline = [self.start_at, self.kill_at, self.rest_at].into_iter().flatten().min();
            for source in wait(&self, deadline)? {
                self.attend(source)?;
            }
            if self.connections.remove_closed() {
                self.unpause();
            }
            self.keep_deadlines()?;
        }
        self.finish()
    }

    fn start_first(&mut self) -> Result<(), Error> {
        self.state.restart_count = 0;
        self.state.streak = Streak::default();
        let before = self.state.status;
        match launch(&self.instance, &mut self.state, self.attached.stdin.as_ref().map(AsFd::as_fd)) {
            Ok(running) => {
                self.running = Some(running);
                Ok(())
            }
            Err(error) => {
                self.state.status = if before == Status::Created { before } else { Status::Stopped };
                self.state.start_error = Some(error.to_string());
                self.instance.write_state(&self.state, Disk::Now)?;
                Err(error)
            }
        }
    }

    /// An instance runs on, is waited for, or is found to have ended.
    fn take_over(&mut self) -> Result<(), Error> {
        if self.state.boot_id != boot_id() {
            launch::clear_away(&self.instance)?;
            self.state.pid = None;
            self.state.last_exit = Some(LastExit::by_reboot());
            self.over = true;
            return Ok(());
        }
        if self.state.status == Status::Restarting {
            launch::clear_away(&self.instance)?;
            self.start_at = Some(Instant::now() + until(self.state.next_start_at.as_deref()));
            return Ok(());
        }
        self.running = Incarnation::adopt(&self.instance, &self.state)?;
        if let Some(running) = &self.running {
            // Whoever wanted it paused was connected to the supervisor that is gone.
            return running.resume();
        }
        let oom_kills = launch::clear_away(&self.instance)?;
        if self.state.status.is_active() {
            let ran = self.state.running_for();
            self.ended(Outcome { exit: Exit::Unknown, oom_kills, ran, remains: None })
        } else {
            self.over = true;
            Ok(())
        }
    }

    /// Hands the terminal to the command that started the instance.
    fn offer_terminal(&mut self) {
        if let Some(terminal) = self.running.as_ref().and_then(|running| running.terminal.as_ref())
            && !self.reports.send(&Report::Terminal, Some(terminal.as_fd()))
        {
            self.reports.0 = None;
        }
    }

    /// Whether this supervisor reads a source now: not while whoever is attached is behind, and not a
    /// terminal that somebody else reads.
    pub(super) fn reads(&self, output: &Output) -> bool {
        let terminal = self.running.as_ref().is_some_and(|running| running.terminal.is_some());
        let theirs = terminal && self.reports.0.is_some();
        !theirs && !self.attached.copies.is_behind(output.stream)
    }

    fn attend(&mut self, source: Source) -> Result<(), Error> {
        match source {
            Source::Signal => {
                // Whatever is asked, what is asked is to end.
                while self.signals.read_signal().is_ok_and(|signal| signal.is_some()) {}
                self.stop(None)
            }
            Source::Reports => {
                self.reports.0 = None;
                Ok(())
            }
            Source::Listener => {
                self.connections.accept();
                Ok(())
            }
            Source::Connection(index) => self.hear(index),
            Source::Process => self.process_ended(),
            Source::Output(index) => {
                if let Some(output) = self.running.as_mut().and_then(|running| running.outputs.get_mut(index))
                {
                    output.read(&mut self.log, &mut self.attached.copies);
                }
                Ok(())
            }
            Source::Copy(stream) => {
                self.attached.copies.flush(stream);
                Ok(())
            }
        }
    }

    fn hear(&mut self, index: usize) -> Result<(), Error> {
        let Some(connection) = self.connections.open.get_mut(index) else { return Ok(()) };
        let request = match connection.read() {
            Heard::Request(request) => request,
            Heard::Part => return Ok(()),
            Heard::Nothing => {
                connection.close();
                return Ok(());
            }
        };
        let reply = match request.clone() {
            Request::Wait => None,
            Request::Stop { timeout_ms } => {
                self.stop(timeout_ms.map(Duration::from_millis))?;
                None
            }
            Request::Kill { signal, ending } => Some(self.kill(signal, ending)),
            Request::Pause => Some(self.pause()),
        };
        let Some(connection) = self.connections.open.get_mut(index) else { return Ok(()) };
        match reply {
            Some(Reply::Done) if request == Request::Pause => {
                connection.pauses = true;
                connection.reply(&Reply::Done);
            }
            None => connection.waits = true,
            Some(reply) => {
                connection.reply(&reply);
                connection.close();
            }
        }
        Ok(())
    }

    fn pause(&mut self) -> Reply {
        let paused = self.running.as_ref().map(Incarnation::pause);
        match paused {
            Some(Ok(())) => Reply::Done,
            Some(Err(error)) => Reply::Refused(error.to_string()),
            None => {
                let name = self.instance.name();
                Reply::Refused(format!("instance {name} is waiting to be started again; stop it first"))
            }
        }
    }

    /// Nobody needs the instance to stand still any more.
    fn unpause(&mut self) {
        if let Some(Err(error)) = self.running.as_ref().map(Incarnation::resume) {
            self.state.start_error = Some(format!("not resumed after a pause: {error}"));
        }
    }

    fn kill(&mut self, signal: i32, ending: bool) -> Reply {
        let Some(running) = &self.running else {
            if ending {
                self.over = true;
                return Reply::Done;
            }
            return Reply::Refused(format!(
                "instance {} is waiting to be started again",
                self.instance.name()
            ));
        };
        let sent = running.signal(signal);
        self.connections.end_pauses();
        match sent {
            Ok(()) => {
                self.asked_for |= ending;
                Reply::Done
            }
            Err(error) => Reply::Refused(error.to_string()),
        }
    }

    /// Asks the instance to end, and sets the time when it is killed.
    fn stop(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        let Some(running) = &self.running else {
            self.over = true;
            return Ok(());
        };
        let wish = self.instance.wish();
        let timeout = timeout.unwrap_or_else(|| wish.stop_timeout());
        // It may have ended a moment ago; its pidfd tells.
        let _ = running.signal(wish.stop_signal);
        self.connections.end_pauses();
        self.asked_for = true;
        let kill_at = Instant::now().checked_add(timeout);
        // Asked twice, the earlier time counts.
        self.kill_at = self.kill_at.into_iter().chain(kill_at).min();
        Ok(())
    }

    fn keep_deadlines(&mut self) -> Result<(), Error> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        if due(self.kill_at) {
            self.kill_at = None;
            if let Some(running) = &self.running {
                running.kill();
            }
        }
        if due(self.rest_at) {
            self.rest_at = None;
            rest();
        }
        if due(self.start_at) && !self.over {
            self.start_at = None;
            self.start_again()?;
        }
        Ok(())
    }

    fn start_again(&mut self) -> Result<(), Error> {
        self.state.restart_count += 1;
        match launch(&self.instance, &mut self.state, self.attached.stdin.as_ref().map(AsFd::as_fd)) {
            Ok(running) => {
                self.running = Some(running);
                self.offer_terminal();
                self.rest_at = Some(Instant::now() + QUIET);
                // A disk that fails is no reason to end what runs.
                let _ = self.instance.sync();
                Ok(())
            }
            Err(error) => {
                self.state.start_error = Some(error.to_string());
                self.decide(false, Duration::ZERO)
            }
        }
    }

    fn process_ended(&mut self) -> Result<(), Error> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        self.kill_at = None;
        self.connections.end_pauses();
        // Every process of it has ended with the first, so what is in the pipes is the rest.
        let read_here = running.terminal.is_none() || self.reports.0.is_none();
        for output in running.outputs.iter_mut().filter(|_| read_here) {
            while output.read(&mut self.log, &mut self.attached.copies) {}
        }
        self.ended(running.end())
    }

    fn ended(&mut self, outcome: Outcome) -> Result<(), Error> {
        let limit = self.instance.wish().limits.memory_bytes;
        let last_exit = LastExit::new(&outcome.exit, outcome.oom_kills > 0, limit);
        self.state.pid = None;
        self.state.attached &= outcome.remains.is_some();
        self.state.oom_kills += outcome.oom_kills;
        self.state.last_exit = Some(last_exit);
        self.state.start_error =
            outcome.remains.map(|error| format!("not everything was cleaned up: {error}"));
        self.decide(outcome.exit == Exit::Code(0), outcome.ran)
    }

    /// Asks the restart policy what follows, and writes it down.
    fn decide(&mut self, success: bool, ran: Duration) -> Result<(), Error> {
        let ended = Ended { success, asked_for: self.asked_for, ran };
        let (next, streak) = self.instance.wish().restart.next(ended, self.state.streak);
        self.state.streak = streak;
        match next {
            Next::Stop => {
                self.over = true;
                Ok(())
            }
            Next::StartAfter(wait) => {
                self.start_at = Some(Instant::now() + wait);
                let at = humantime::format_rfc3339_millis(SystemTime::now() + wait);
                self.state.next_start_at = Some(at.to_string());
                self.state.status = Status::Restarting;
                self.instance.write_state(&self.state, Disk::Now)
            }
        }
    }

    /// Writes down that it is over, and tells everyone; the lock is free before they know.
    fn finish(mut self) -> Result<(), Error> {
        self.state.status = Status::Stopped;
        self.state.pid = None;
        self.state.next_start_at = None;
        // What is about to be removed need not outlive the power.
        let disk = if self.instance.wish().remove { Disk::Later } else { Disk::Now };
        let mut result = self.instance.write_state(&self.state, disk);
        // From here on commands find nobody, and read the state.
        let _ = std::fs::remove_file(self.instance.control_socket());
        if self.instance.wish().remove && result.is_ok() {
            result = self.instance.remove_locked();
        }
        self.drain_copies();
        drop(self.lock);
        let exit = self.state.last_exit.as_ref();
        self.connections.tell_end(exit);
        match &result {
            Ok(()) => self.reports.send(&Report::Ended(exit.cloned()), None),
            Err(error) => self.reports.send(&failure(error), None),
        };
        Ok(())
    }

    /// The attached command gets all of the output, however slow it reads.
    fn drain_copies(&mut self) {
        use crate::service::log::Stream::{Stderr, Stdout};
        for stream in [Stdout, Stderr] {
            while self.attached.copies.is_behind(stream) {
                if let Some(copy) = self.attached.copies.get(stream) {
                    let mut polled =
                        [rustix::event::PollFd::new(&copy.target, rustix::event::PollFlags::OUT)];
                    let _ = rustix::event::poll(&mut polled, None);
                }
                self.attached.copies.flush(stream);
            }
        }
        self.attached = Attached::default();
    }
}

/// Time after a start until [`rest`]: the first output, and an instance that ends at once, need the pages that it drops.
const QUIET: Duration = Duration::from_millis(500);

/// What a start needed and waiting does not goes back to the kernel: there is one of this process for
/// every instance.
fn rest() {
    heap::give_back();
    arena::give_back();
    heap::give_back_stack();
    heap::give_back_file();
}

/// Signals by which a machine or a user asks a process to end.
fn signals() -> Result<SignalFd, Error> {
    let failed = || Error::system("receive signals");
    let mut asked: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].into_iter().collect();
    let events =
        SignalFd::with_flags(&asked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed())?;
    // Its own session has no terminal, so nobody who hangs up is meant.
    asked.add(Signal::SIGHUP);
    // These and no others, whatever the command that started it had blocked.
    asked.thread_set_mask().map_err(failed())?;
    Ok(events)
}

/// Time until an RFC 3339 text; none when it has passed.
fn until(text: Option<&str>) -> Duration {
    let at = text.and_then(|text| humantime::parse_rfc3339(text).ok());
    at.and_then(|at| at.duration_since(SystemTime::now()).ok()).unwrap_or_default()
}
