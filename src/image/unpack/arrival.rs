//! A blob that is being written, for one who reads along.
//!
//! The writer says how far the file is good; the reader waits for more, and never holds the writer up: what is
//! between them is in the page cache, not in memory of ours.
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is known of a blob on its way.
#[derive(Debug, Default)]
pub(in crate::image) struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    /// Bytes from the start that are there.
    available: u64,
    phase: Phase,
    /// Counts how often all was begun again.
    round: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Coming,
    Complete,
    Given,
}

impl Arrival {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// So much of the file is there, and more will come.
    pub(in crate::image) fn begun(&self, file: File, available: u64) {
        self.change(|state| {
            state.file = Some(Arc::new(file));
            state.available = available;
        });
    }

    /// More is there.
    pub(in crate::image) fn grown(&self, available: u64) {
        self.change(|state| state.available = available);
    }

    /// What was there is worth nothing; the file is written again from its start.
    pub(in crate::image) fn restarted(&self) {
        self.change(|state| {
            state.available = 0;
            state.round += 1;
        });
    }

    /// All is there, and verified.
    pub(in crate::image) fn completed(&self) {
        self.change(|state| state.phase = Phase::Complete);
    }

    /// All is there, in this file.
    pub(in crate::image) fn is_there(&self, file: File) -> io::Result<()> {
        let length = file.metadata()?.len();
        self.begun(file, length);
        self.completed();
        Ok(())
    }

    /// Nothing more will come.
    pub(in crate::image) fn given_up(&self) {
        self.change(|state| {
            if state.phase == Phase::Coming {
                state.phase = Phase::Given;
            }
        });
    }

    /// How often all was begun again.
    pub(in crate::image) fn round(&self) -> u64 {
        self.state().round
    }

    /// Waits until it is known what becomes of this round.
    pub(in crate::image) fn settled(&self, round: u64) -> Settled {
        let mut state = self.state();
        loop {
            match state.phase {
                _ if state.round != round => return Settled::BegunAgain,
                Phase::Complete => return Settled::Complete,
                Phase::Given => return Settled::GivenUp,
                Phase::Coming => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Reads from the start.
    pub(in crate::image) fn follow(&self) -> Follower<'_> {
        Follower { arrival: self, offset: 0, round: self.state().round }
    }
}

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Settled {
    /// It is there, and what it should be.
    Complete,
    /// It was not, and is fetched once more.
    BegunAgain,
    /// It will not come.
    GivenUp,
}

/// Reads a blob while it arrives.
#[derive(Debug)]
pub(in crate::image) struct Follower<'a> {
    arrival: &'a Arrival,
    offset: u64,
    round: u64,
}

impl Follower<'_> {
    /// Waits for bytes; none is the end.
    fn wait(&self) -> io::Result<Option<Arc<File>>> {
        let mut state = self.arrival.state();
        loop {
            if state.round != self.round {
                return Err(io::Error::other("is fetched anew"));
            }
            match (&state.file, state.phase) {
                (Some(file), _) if self.offset < state.available => return Ok(Some(Arc::clone(file))),
                (_, Phase::Complete) => return Ok(None),
                (_, Phase::Given) => return Err(io::Error::other("does not arrive")),
                (_, Phase::Coming) => {
                    state = self.arrival.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Read for Follower<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = self.wait()? else { return Ok(0) };
        let length = file.read_at(buffer, self.offset)?;
        if length == 0 && !buffer.is_empty() && self.arrival.round() == self.round {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_reader_gets_all_that_is_written_and_learns_of_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        let arrival = Arrival::default();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| io::read_to_string(arrival.follow()).unwrap());
            arrival.begun(file.try_clone().unwrap(), 0);
            for length in [3, 6] {
                file.write_all(b"abc").unwrap();
                arrival.grown(length);
            }
            arrival.completed();
            assert_eq!(reader.join().unwrap(), "abcabc");
        });
        assert_eq!(io::read_to_string(arrival.follow()).unwrap(), "abcabc");
    }

    #[test]
    fn a_reader_learns_that_it_has_to_begin_again_or_to_give_up() {
        let arrival = Arrival::default();
        let mut early = arrival.follow();
        arrival.restarted();
        assert!(early.read(&mut [0]).is_err());
        assert_eq!(arrival.settled(0), Settled::BegunAgain);
        let mut late = arrival.follow();
        arrival.given_up();
        assert!(late.read(&mut [0]).is_err());
        assert_eq!(arrival.settled(1), Settled::GivenUp);
    }
}
