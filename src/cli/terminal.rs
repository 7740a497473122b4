//! The caller's terminal: signals as events, raw mode, window size, and the copying between it and the
//! terminal of a container.
use crate::sys::{descriptor, signal};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use oci_spec::runtime::BoxBuilder;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{self, Write as _};

/// Signals of this process as events instead of interruptions, from construction to the end of the value.
///
/// Processes that are made meanwhile inherit the blocked signals and must unblock them, as containers do.
#[derive(Debug)]
pub struct Signals {
    events: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks every signal that can be, and that is not the answer to a fault of our own. SIGCHLD, which
    /// nobody catches, is left as it is: pidfds tell of a child's end.
    ///
    /// # Errors
    /// The kernel's, see `signalfd(2)`.
    pub fn block() -> io::Result<Self> {
        let mut taken = signal::all();
        for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT] {
            taken.remove(fault);
        }
        taken.remove(Signal::SIGCHLD);
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&taken), Some(&mut before))?;
        let events = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { events, before })
    }

    /// The next signal that has arrived, by number; `None` when there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next_signal(&self) -> io::Result<Option<i32>> {
        let info = self.events.read_signal()?;
        Ok(info.and_then(|info| i32::try_from(info.ssi_signo).ok()))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Setting a mask that was in force before does not fail.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Raw mode of a terminal, which gets its former settings back when this is dropped.
#[derive(Debug)]
pub struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// Puts the terminal into raw mode; `None` when the descriptor is no terminal.
    ///
    /// # Errors
    /// The kernel's, see `tcsetattr(3)`.
    pub fn enter(terminal: BorrowedFd<'a>) -> io::Result<Option<Self>> {
        let before = match termios::tcgetattr(terminal) {
            Ok(settings) => settings,
            Err(Errno::NOTTY) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(terminal, OptionalActions::Drain, &raw)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // The terminal may have been hung up; there is nobody left to see its settings then.
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Asks on standard error and reads a line from the terminal at standard input without showing it; `None` when the user gives up with
/// Ctrl-C or Ctrl-D. The terminal has its settings back in any case.
///
/// # Errors
/// The kernel's, see `tcsetattr(3)` and `read(2)`.
pub fn read_secret(question: &str) -> io::Result<Option<String>> {
    let stdin = rustix::stdio::stdin();
    // Before the question: what is typed at once must not be shown either.
    let _raw = RawMode::enter(stdin)?;
    io::stderr().write_all(question.as_bytes())?;
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        if rustix::io::retry_on_intr(|| rustix::io::read(stdin, &mut byte))? == 0 {
            return Ok(None);
        }
        match byte[0] {
            b'\r' | b'\n' => break,
            // Ctrl-C, and Ctrl-D on an empty line.
            0x03 => return Ok(None),
            0x04 if line.is_empty() => return Ok(None),
            // Backspace, Ctrl-U.
            0x08 | 0x7f => drop(line.pop()),
            0x15 => line.clear(),
            other => line.push(other),
        }
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The size of the terminal that is the caller's standard input, if it is one, as `process.consoleSize`.
/// A container's terminal must have it before its program asks.
pub fn callers_size() -> Option<oci_spec::runtime::Box> {
    let size = termios::tcgetwinsize(rustix::stdio::stdin()).ok()?;
    let box_size = BoxBuilder::default().height(size.ws_row).width(size.ws_col).build();
    box_size.ok()
}

/// Gives `to` the window size of `from`; does nothing when `from` is no terminal.
///
/// # Errors
/// The kernel's, see `ioctl_tty(2)` TIOCSWINSZ.
pub fn copy_window_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    match termios::tcgetwinsize(from) {
        Ok(size) => Ok(termios::tcsetwinsize(to, size)?),
        Err(Errno::NOTTY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes a file descriptor, such as a terminal's master, from the socket it was sent over.
///
/// # Errors
/// The kernel's, and `UnexpectedEof` when the peer sent none.
pub fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // The sender puts the terminal's name beside the descriptor.
    let (_, descriptor) = descriptor::receive(socket, &mut [0; 4096])?;
    descriptor.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Stays with a process until `ended` becomes readable (its pidfd, say): hands every signal to
/// `forward` by number, and with a terminal's `master` copies between that and the caller's standard
/// input and output, in raw mode, following changes of the window size.
///
/// # Errors
/// The kernel's, on the descriptors that are copied between.
pub fn attend(
    ended: BorrowedFd<'_>,
    master: Option<OwnedFd>,
    signals: &Signals,
    forward: &mut dyn FnMut(i32),
) -> io::Result<()> {
    let stdin = rustix::stdio::stdin();
    let _raw = if master.is_some() { RawMode::enter(stdin)? } else { None };
    let mut relay = master.map(Relay::new).transpose()?;
    loop {
        let mut waiting = vec![PollFd::new(&ended, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        if let Some(relay) = &relay {
            relay.add_to(&mut waiting);
        }
        match poll(&mut waiting, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<PollFlags> = waiting.iter().map(PollFd::revents).collect();
        drop(waiting);
        if let Some(open) = &mut relay {
            open.copy(&ready[2..])?;
            if open.output_ended {
                relay = None;
            }
        }
        if !ready[1].is_empty() {
            pass_signals(signals, relay.as_ref(), forward)?;
        }
        if !ready[0].is_empty() {
            return relay.map_or(Ok(()), Relay::drain);
        }
    }
}

fn pass_signals(signals: &Signals, relay: Option<&Relay>, forward: &mut dyn FnMut(i32)) -> io::Result<()> {
    while let Some(signal) = signals.next_signal()? {
        match (signal, relay) {
            (libc::SIGWINCH, Some(relay)) => {
                copy_window_size(rustix::stdio::stdin(), relay.master.as_fd())?;
            }
            (other, _) => forward(other),
        }
    }
    Ok(())
}

/// Bytes on their way between the caller's standard streams and a terminal's master.
#[derive(Debug)]
struct Relay {
    master: OwnedFd,
    input_ended: bool,
    output_ended: bool,
    /// Typed, not yet taken by the terminal.
    pending: Vec<u8>,
}

/// While the terminal does not take what was typed, no more is read.
const PENDING_LIMIT: usize = 16 * 1024;

impl Relay {
    fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        copy_window_size(rustix::stdio::stdin(), master.as_fd())?;
        Ok(Self { master, input_ended: false, output_ended: false, pending: Vec::new() })
    }

    fn reads_input(&self) -> bool {
        !self.input_ended && self.pending.len() < PENDING_LIMIT
    }

    fn add_to<'a>(&'a self, waiting: &mut Vec<PollFd<'a>>) {
        let writing = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        waiting.push(PollFd::new(&self.master, PollFlags::IN | writing));
        if self.reads_input() {
            waiting.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }

    fn copy(&mut self, ready: &[PollFlags]) -> io::Result<()> {
        if ready.first().is_some_and(|flags| !flags.difference(PollFlags::OUT).is_empty()) {
            self.copy_output()?;
        }
        if ready.get(1).is_some_and(|flags| !flags.is_empty()) {
            self.read_input()?;
        }
        self.write_input()
    }

    fn read_input(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                self.input_ended = true;
                // As if the user had typed it: end of file on a terminal is a character (Ctrl-D).
                self.pending.push(4);
                Ok(())
            }
            Ok(count) => {
                self.pending.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            // The caller's terminal has been hung up.
            Err(Errno::IO) => {
                self.input_ended = true;
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_input(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match rustix::io::write(&self.master, &self.pending) {
            Ok(count) => {
                self.pending.drain(..count);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            // Nobody holds the terminal's other end any more.
            Err(Errno::IO) => {
                self.pending.clear();
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Copies one buffer of output; false when there is none for now.
    fn copy_output(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(count) if count > 0 => {
                write_all(rustix::stdio::stdout(), &buffer[..count])?;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            // EIO: the last process has closed the terminal.
            Ok(_) | Err(Errno::IO) => {
                self.output_ended = true;
                Ok(false)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// What was printed before the end.
    fn drain(mut self) -> io::Result<()> {
        while self.copy_output()? {}
        Ok(())
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    fn terminal() -> (OwnedFd, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).expect("open");
        (master, slave)
    }

    #[test]
    fn a_terminal_gets_its_settings_back() {
        let (_master, slave) = terminal();
        let local = || termios::tcgetattr(&slave).expect("tcgetattr").local_modes;
        let before = local();
        let raw = RawMode::enter(slave.as_fd()).expect("raw").expect("a terminal");
        assert!(!local().contains(termios::LocalModes::ECHO));
        drop(raw);
        assert_eq!(local(), before);
    }

    #[test]
    fn what_is_no_terminal_has_no_raw_mode_and_no_size() {
        let file = tempfile::tempfile().expect("file");
        assert!(RawMode::enter(file.as_fd()).expect("no error").is_none());
        let (master, _slave) = terminal();
        copy_window_size(file.as_fd(), master.as_fd()).expect("no error");
    }

    #[test]
    fn the_window_size_is_copied() {
        let ((from, _a), (to, _b)) = (terminal(), terminal());
        let size = termios::Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        termios::tcsetwinsize(&from, size).expect("set");
        copy_window_size(from.as_fd(), to.as_fd()).expect("copied");
        let copied = termios::tcgetwinsize(&to).expect("get");
        assert_eq!((copied.ws_row, copied.ws_col), (33, 77));
    }
}
