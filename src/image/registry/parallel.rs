//! Several pieces of work at once, the first failure ending them all.
use super::Error;
use super::client::Abandon;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does `work` for each item on up to `threads` threads. The error is that of the piece that failed first,
/// not of those that were abandoned for it.
pub(super) fn each<T: Sync>(
    items: &[T],
    threads: usize,
    abandon: &Abandon,
    work: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
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
        let ended = workers.into_iter().map(|worker| worker.join().unwrap_or(Err(Error::Abandoned)));
        let failed: Vec<Error> = ended.filter_map(Result::err).collect();
        let first = failed.iter().position(|error| !matches!(error, Error::Abandoned)).unwrap_or(0);
        failed.into_iter().nth(first).map_or(Ok(()), Err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_and_ends_the_others() {
        let abandon = Abandon::default();
        let items: Vec<usize> = (0..100).collect();
        let done = AtomicUsize::new(0);
        let error = each(&items, 4, &abandon, |item| {
            abandon.check()?;
            done.fetch_add(1, Ordering::Relaxed);
            if *item == 7 { Err(super::super::no_endpoint("test")) } else { Ok(()) }
        });
        assert!(matches!(error, Err(Error::Connection { .. })));
        assert!(each(&[(); 0], 4, &Abandon::default(), |()| Ok(())).is_ok());
    }
}
