//! Several pieces of work at once, the first failure ending them all.
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Set when one part of the work has failed, so that the others end too.
#[derive(Debug, Default)]
pub(super) struct Abandon(AtomicBool);

impl Abandon {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An error that can tell that the work was only abandoned, for another part's failure.
pub(super) trait Failure: Send {
    /// The error of a part that was abandoned.
    const ABANDONED: Self;

    fn is_abandoned(&self) -> bool;
}

/// Does `work` for each item on up to `threads` threads. The error is that of the piece that failed first,
/// not of those that were abandoned for it.
pub(super) fn each<T: Sync, E: Failure>(
    items: &[T],
    threads: usize,
    abandon: &Abandon,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                abandon.set();
                return Err(error);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.clamp(1, items.len().max(1))).map(|_| scope.spawn(run)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().unwrap_or(Err(E::ABANDONED)));
        ended.fold(Ok(()), the_cause)
    })
}

/// Of two results of parts that end each other, the one that tells what failed.
pub(super) fn the_cause<E: Failure>(one: Result<(), E>, other: Result<(), E>) -> Result<(), E> {
    match (one, other) {
        (Ok(()), other) => other,
        (Err(error), Err(cause)) if error.is_abandoned() => Err(cause),
        (one, _) => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Error {
        Abandoned,
        Seven,
    }

    impl Failure for Error {
        const ABANDONED: Self = Self::Abandoned;

        fn is_abandoned(&self) -> bool {
            *self == Self::Abandoned
        }
    }

    #[test]
    fn the_first_failure_is_told_and_ends_the_others() {
        let abandon = Abandon::default();
        let items: Vec<usize> = (0..100).collect();
        let error = each(&items, 4, &abandon, |item| match *item {
            _ if abandon.is_set() => Err(Error::Abandoned),
            7 => Err(Error::Seven),
            _ => Ok(()),
        });
        assert_eq!(error, Err(Error::Seven));
        assert_eq!(each(&[(); 0], 4, &Abandon::default(), |()| Err(Error::Seven)), Ok(()));
    }
}
