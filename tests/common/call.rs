//! One run of a program, with a time limit and everything it printed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program call being put together.
///
/// Output goes to unnamed files rather than pipes, so that a background process which keeps the
/// descriptors cannot make the harness wait.
#[must_use]
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    shown: String,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

/// What a program did.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The command line, for messages.
    pub(crate) command: String,
    /// Exit status; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// From start to end.
    pub(crate) took: Duration,
}

/// A program that runs beside the test. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    shown: String,
    stdout: File,
    stderr: File,
    start: Instant,
    limit: Duration,
}

impl Call {
    /// A call of any program.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        Self {
            command: Command::new(program),
            shown: program.to_string_lossy().into_owned(),
            stdin: None,
            limit: Duration::from_secs(60),
        }
    }
    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self = self.arg(argument);
        }
        self
    }
    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        let argument = argument.as_ref();
        self.shown.push(' ');
        self.shown.push_str(&quoted(&argument.to_string_lossy()));
        self.command.arg(argument);
        self
    }
    /// Sets an environment variable.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }
    /// Sets the working directory.
    pub(crate) fn current_dir(mut self, directory: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(directory);
        self
    }
    /// Text for standard input, which is /dev/null otherwise.
    pub(crate) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }
    /// Time limit in place of 60 seconds.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
    /// The same call in a terminal of its own, that script(1) makes, of this many rows and columns.
    pub(crate) fn in_terminal(self, rows: u16, columns: u16) -> Self {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<String> = words.map(|word| quoted_for_shell(&word.to_string_lossy())).collect();
        let command = format!("stty rows {rows} cols {columns}; exec {}", words.join(" "));
        let mut call = Self::new("script").args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        let variables = self.command.get_envs().filter_map(|(key, value)| Some((key, value?)));
        call.command.envs(variables);
        Self { stdin: self.stdin.or_else(|| Some(Vec::new())), limit: self.limit, ..call }
    }
    /// The command itself, for what this type does not offer. Standard streams are set on start.
    pub(crate) fn command(&mut self) -> &mut Command {
        &mut self.command
    }
    /// Starts it beside the test; standard input is a pipe ([`Running::write`]).
    #[track_caller]
    pub(crate) fn spawn(mut self) -> Running {
        let (stdout, stderr) = (unnamed_file(), unnamed_file());
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(stdout.try_clone().expect("dup")).stderr(stderr.try_clone().expect("dup"));
        let start = Instant::now();
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", self.shown));
        if let (Some(text), Some(pipe)) = (&self.stdin, &mut child.stdin) {
            // A program that ends without reading its input is judged by its outcome.
            let _ = pipe.write_all(text);
        }
        Running { child, shown: self.shown, stdout, stderr, start, limit: self.limit }
    }
    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn outcome(self) -> Outcome {
        let mut running = self.spawn();
        drop(running.child.stdin.take());
        running.wait()
    }
    /// Runs it; fails the test unless it succeeds.
    #[track_caller]
    pub(crate) fn ok(self) -> Outcome {
        let outcome = self.outcome();
        assert!(outcome.success(), "should succeed\n{outcome}");
        outcome
    }
    /// Runs it; fails the test unless it ends with exactly this status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Outcome {
        let outcome = self.outcome();
        assert_eq!(outcome.code, Some(code), "should exit {code}\n{outcome}");
        outcome
    }
    /// Runs it; fails the test unless it fails with one line on standard error that contains every
    /// given text.
    #[track_caller]
    pub(crate) fn fails_with(self, texts: &[&str]) -> Outcome {
        let outcome = self.outcome();
        assert!(outcome.code.is_some_and(|code| code != 0), "should fail\n{outcome}");
        for text in texts {
            assert!(outcome.stderr.contains(text), "the error should contain {text:?}\n{outcome}");
        }
        assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "the error should be one line\n{outcome}");
        outcome
    }
}

impl Outcome {
    /// Whether it exited 0.
    pub(crate) fn success(&self) -> bool {
        self.code == Some(0)
    }
    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{self}"))
    }
    /// Standard output without white space around it.
    pub(crate) fn text(&self) -> &str {
        self.stdout.trim()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (self.code, self.signal) {
            (Some(code), _) => format!("exit {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "no status".to_owned(),
        };
        writeln!(out, "$ {}\n({end} after {:.2} s)", self.command, self.took.as_secs_f64())?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            for line in text.lines() {
                writeln!(out, "  {name}| {line}")?;
            }
        }
        Ok(())
    }
}

impl Running {
    /// Host pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        contents(&self.stdout)
    }
    /// What it has printed on standard error so far.
    pub(crate) fn stderr(&self) -> String {
        contents(&self.stderr)
    }
    /// Writes to its standard input, which must have been asked for with [`Call::stdin`].
    #[track_caller]
    pub(crate) fn write(&mut self, text: &str) {
        let pipe = self.child.stdin.as_mut().expect("standard input is a pipe");
        pipe.write_all(text.as_bytes()).expect("write to standard input");
    }
    /// Closes its standard input.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }
    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        self.signal_number(signal as i32);
    }

    /// The same by number, for those without a name.
    pub(crate) fn signal_number(&self, signal: i32) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("pid"));
        wharf::sys::signal::send(pid, signal).expect("signal the program");
    }
    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }
    /// Waits for its end; fails the test, having killed it, when its limit passes first.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Outcome {
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return self.ended(status.code(), status.signal());
            }
            if self.start.elapsed() > super::wait::patience(self.limit) {
                let stack = std::fs::read_to_string(format!("/proc/{}/stack", self.child.id()));
                let _ = self.child.kill();
                let _ = self.child.wait();
                let outcome = self.ended(None, None);
                panic!("did not end in time\n{outcome}{}", stack.unwrap_or_default());
            }
            // Often at first, for most calls are short; looking is not free on an emulated machine.
            let pause = self.start.elapsed() / 16;
            std::thread::sleep(pause.clamp(Duration::from_millis(2), Duration::from_millis(50)));
        }
    }
    fn ended(&self, code: Option<i32>, signal: Option<i32>) -> Outcome {
        Outcome {
            command: self.shown.clone(),
            code,
            signal,
            stdout: self.stdout(),
            stderr: self.stderr(),
            took: self.start.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

/// Opened for appending: the program's own writes move the shared offset, and a reader's seek must not.
fn unnamed_file() -> File {
    let file = tempfile::tempfile().expect("temporary file");
    let flags = rustix::fs::OFlags::APPEND;
    rustix::fs::fcntl_setfl(&file, flags).expect("append mode");
    file
}

fn contents(file: &File) -> String {
    let mut file = file;
    let mut bytes = Vec::new();
    file.rewind().expect("seek");
    file.read_to_end(&mut bytes).expect("read output");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn quoted_for_shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
