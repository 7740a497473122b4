//! When to try again: exponential back-off with jitter, bounded, and never sooner than the server asks.
use std::time::{Duration, SystemTime};

/// How often and how patiently. The clock and the random numbers are the caller's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// Tries after the first one.
    pub(super) retries: u32,
    first: Duration,
    longest: Duration,
    /// A server that asks for more than this is told no.
    most_patience: Duration,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Wait(Duration),
    GiveUp,
    /// The server asks for a longer wait than a person would sit through.
    TooLong(Duration),
}

impl Policy {
    pub(super) fn new(retries: u32) -> Self {
        Self {
            retries,
            first: Duration::from_millis(300),
            longest: Duration::from_secs(20),
            most_patience: Duration::from_secs(120),
        }
    }

    /// After failure number `failures` (1 is the first). `random` is in 0..1. `asked` is Retry-After's.
    pub(super) fn next(&self, failures: u32, random: f64, asked: Option<Duration>) -> Next {
        if failures > self.retries {
            return Next::GiveUp;
        }
        if let Some(asked) = asked.filter(|asked| *asked > self.most_patience) {
            return Next::TooLong(asked);
        }
        let doublings = failures.saturating_sub(1).min(16);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        // Half is fixed, so that a wait is one; half is random, so that many clients do not come at once.
        let jittered = full.div_f64(2.0) + full.div_f64(2.0).mul_f64(random.clamp(0.0, 1.0));
        let spread = full.div_f64(10.0).mul_f64(random.clamp(0.0, 1.0));
        Next::Wait(asked.map_or(jittered, |asked| jittered.max(asked + spread)))
    }
}

/// Whether a status may be another one later.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Retry-After, seconds or a date: RFC 9110 10.2.3.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_end() {
        let policy = Policy::new(9);
        let wait = |failures, random| match policy.next(failures, random, None) {
            Next::Wait(wait) => wait.as_millis(),
            other => panic!("{other:?}"),
        };
        let rows: Vec<(u128, u128)> = (1..=9).map(|count| (wait(count, 0.0), wait(count, 1.0))).collect();
        assert_eq!(rows[..3], [(150, 300), (300, 600), (600, 1200)]);
        assert_eq!(rows[8], (10_000, 20_000));
        assert_eq!(policy.next(10, 0.5, None), Next::GiveUp);
        assert_eq!(Policy::new(0).next(1, 0.5, None), Next::GiveUp);
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_kept_unless_it_is_absurd() {
        let policy = Policy::new(3);
        assert_eq!(policy.next(1, 0.0, Some(Duration::from_secs(7))), Next::Wait(Duration::from_secs(7)));
        let hour = Duration::from_secs(3600);
        assert_eq!(policy.next(1, 0.0, Some(hour)), Next::TooLong(hour));
        assert_eq!(policy.next(4, 0.0, Some(Duration::ZERO)), Next::GiveUp);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Fri, 27 Nov 2026 20:00:00 GMT").unwrap();
        for (text, seconds) in [
            ("3", Some(3)),
            (" 120 ", Some(120)),
            ("Fri, 27 Nov 2026 20:00:09 GMT", Some(9)),
            ("Fri, 27 Nov 2026 19:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
