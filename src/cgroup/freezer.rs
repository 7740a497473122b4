//! Stopping and ending every task of a cgroup at once: cgroup-v2.rst "Core Interface Files" and
//! cgroup-v1/freezer-subsystem.rst.
use super::group::is_removed;
use super::{Cgroup, Error, tree};
use rustix::process::Signal;
use std::path::Path;
use std::time::{Duration, Instant};

/// A task in an uninterruptible wait cannot stop.
const FREEZE_SECONDS: u64 = 10;
/// A fork may escape one pass over the pids; several passes over a frozen group do not let it.
const KILL_PASSES: u32 = 10;

impl Cgroup {
    /// Stops every task and waits until they have stopped.
    ///
    /// # Errors
    /// Names the file, or that the group did not freeze in time.
    pub fn freeze(&self) -> Result<(), Error> {
        self.must_exist("be paused")?;
        let deadline = Instant::now() + Duration::from_secs(FREEZE_SECONDS);
        let mut pause = Duration::from_micros(100);
        self.set_frozen(true)?;
        while !self.is_frozen()? {
            if Instant::now() > deadline {
                self.set_frozen(false)?;
                let path = self.freezer_directory().display().to_string();
                return Err(Error::NotFrozen { path, seconds: FREEZE_SECONDS });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
            if self.v1_with("freezer").is_some() {
                // v1 may stay FREEZING until it is asked again.
                self.set_frozen(true)?;
            }
        }
        Ok(())
    }

    /// Lets the tasks run again.
    ///
    /// # Errors
    /// Names the file.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    /// Whether the group is frozen.
    ///
    /// # Errors
    /// Names the file.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        if self.record().is_empty() {
            return Ok(false);
        }
        match self.v1_with("freezer") {
            Some(directory) => Ok(tree::read(directory, "freezer.state")?.trim() == "FROZEN"),
            None => {
                let events = tree::read(self.v2_directory()?, "cgroup.events")?;
                Ok(events.lines().any(|line| line == "frozen 1"))
            }
        }
    }

    /// Refuses what needs a cgroup.
    pub(super) fn must_exist(&self, action: &'static str) -> Result<(), Error> {
        if self.record().is_empty() { Err(Error::None { action }) } else { Ok(()) }
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        match self.v1_with("freezer") {
            Some(directory) => {
                tree::write(directory, "freezer.state", if frozen { "FROZEN" } else { "THAWED" })
            }
            None => tree::write(self.v2_directory()?, "cgroup.freeze", if frozen { "1" } else { "0" }),
        }
    }

    /// The directory whose freezer stops the group.
    pub fn freezer(&self) -> Option<&Path> {
        self.v1_with("freezer").or_else(|| self.v2_with("cgroup.freeze"))
    }

    pub(super) fn freezer_directory(&self) -> &Path {
        self.v1_with("freezer").or(self.v2_directory().ok()).unwrap_or(Path::new("/sys/fs/cgroup"))
    }

    /// Sends SIGKILL to every process: `cgroup.kill` where the kernel has it (5.14), or one by one while
    /// the group is frozen.
    ///
    /// # Errors
    /// Names the file.
    pub fn kill(&self) -> Result<(), Error> {
        if !self.is_ours() || self.record().directories().iter().all(|directory| !directory.exists()) {
            return Ok(());
        }
        if let Ok(directory) = self.v2_directory()
            && tree::write(directory, "cgroup.kill", "1").is_ok()
        {
            // A frozen v1 group would keep its tasks from dying.
            return if self.v1_with("freezer").is_some() { unless_gone(self.thaw()) } else { Ok(()) };
        }
        for _ in 0..KILL_PASSES {
            let frozen = unless_gone(self.set_frozen(true));
            let pids = self.pids()?;
            for pid in &pids {
                // A process that is gone by now is what was wanted.
                let _ = rustix::process::kill_process(*pid, Signal::KILL);
            }
            frozen.and_then(|()| unless_gone(self.set_frozen(false)))?;
            if pids.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::Survivors { path: self.freezer_directory().display().to_string() })
    }
}

/// A maker or remover that was killed at it leaves a group that some hierarchies have and others do not.
fn unless_gone(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::File { source, .. }) if is_removed(&source) => Ok(()),
        other => other,
    }
}
