//! When an instance that has ended is started again, and how soon: a pure function of the policy, what
//! happened, and the time it ran.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The first wait; it doubles with every start that did not last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// An instance that ran this long was healthy: waits and tries count from the beginning again.
const HEALTHY: Duration = Duration::from_secs(60);

/// `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// After an exit other than 0, at most so many times without a healthy minute between them.
    OnFailure(Option<u32>),
    /// After every exit that the user did not ask for.
    Always,
    /// The same as [`RestartPolicy::Always`] as long as nothing starts instances at boot.
    UnlessStopped,
}

/// How an incarnation of the instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit status 0.
    pub success: bool,
    /// The user asked for it (`wharf stop`).
    pub asked_for: bool,
    /// How long it ran.
    pub ran: Duration,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The instance is stopped.
    Stop,
    /// Start it again after this time.
    StartAfter(Duration),
}

/// Starts in a row that were not followed by a healthy minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Streak(u32);

impl RestartPolicy {
    /// Decides what follows an end, and what is remembered for the next time.
    pub fn next(self, ended: Ended, streak: Streak) -> (Next, Streak) {
        let streak = if ended.ran >= HEALTHY { Streak::default() } else { streak };
        let again = match self {
            _ if ended.asked_for => false,
            Self::No => false,
            Self::OnFailure(most) => !ended.success && most.is_none_or(|most| streak.0 < most),
            Self::Always | Self::UnlessStopped => true,
        };
        if !again {
            return (Next::Stop, Streak::default());
        }
        let doubled = FIRST_WAIT.saturating_mul(1 << streak.0.min(16));
        (Next::StartAfter(doubled.min(LONGEST_WAIT)), Streak(streak.0.saturating_add(1)))
    }
}

/// A `--restart` that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown restart policy {0:?}; use no, on-failure[:TIMES], always or unless-stopped")]
pub struct UnknownPolicy(String);

impl FromStr for RestartPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let times = |digits: &str| digits.parse().ok().filter(|times| *times > 0);
        match text.split_once(':') {
            None if text == "no" => Ok(Self::No),
            None if text == "on-failure" => Ok(Self::OnFailure(None)),
            None if text == "always" => Ok(Self::Always),
            None if text == "unless-stopped" => Ok(Self::UnlessStopped),
            Some(("on-failure", digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => times(digits)
                .map(|most| Self::OnFailure(Some(most)))
                .ok_or_else(|| UnknownPolicy(text.to_owned())),
            _ => Err(UnknownPolicy(text.to_owned())),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(most)) => write!(f, "on-failure:{most}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = UnknownPolicy;

    fn try_from(text: String) -> Result<Self, UnknownPolicy> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RestartPolicy::{Always, No, OnFailure, UnlessStopped};

    const BRIEF: Duration = Duration::from_secs(1);

    fn ended(success: bool) -> Ended {
        Ended { success, asked_for: false, ran: BRIEF }
    }

    #[test]
    fn policies_decide_by_the_exit_and_the_users_wish() {
        let again = Next::StartAfter(FIRST_WAIT);
        let table = [
            (No, false, false, Next::Stop),
            (No, true, false, Next::Stop),
            (OnFailure(None), false, false, again),
            (OnFailure(None), true, false, Next::Stop),
            (OnFailure(Some(1)), false, false, again),
            (Always, false, false, again),
            (Always, true, false, again),
            (UnlessStopped, true, false, again),
            (Always, true, true, Next::Stop),
            (UnlessStopped, false, true, Next::Stop),
            (OnFailure(None), false, true, Next::Stop),
        ];
        for (policy, success, asked_for, next) in table {
            let decided = policy.next(Ended { success, asked_for, ran: BRIEF }, Streak::default()).0;
            assert_eq!(decided, next, "{policy} success={success} asked_for={asked_for}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut streak = Streak::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            let (next, after) = Always.next(ended(false), streak);
            let Next::StartAfter(wait) = next else { panic!("stopped") };
            waits.push(wait.as_millis());
            streak = after;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        let (_, streak) = (0..100).fold((Next::Stop, streak), |(_, s), _| Always.next(ended(false), s));
        assert_eq!(Always.next(ended(false), streak).0, Next::StartAfter(LONGEST_WAIT));
    }

    #[test]
    fn a_healthy_minute_makes_waits_and_tries_count_from_the_beginning() {
        let policy = OnFailure(Some(2));
        let (_, streak) = policy.next(ended(false), Streak::default());
        let (_, streak) = policy.next(ended(false), streak);
        assert_eq!(policy.next(ended(false), streak).0, Next::Stop, "two tries were allowed");
        let healthy = Ended { ran: HEALTHY, ..ended(false) };
        assert_eq!(policy.next(healthy, streak), (Next::StartAfter(FIRST_WAIT), Streak(1)));
    }

    #[test]
    fn texts_and_policies_are_the_same_thing() {
        for text in ["no", "on-failure", "on-failure:5", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for text in ["", "No", "on-failure:", "on-failure:0", "on-failure:-1", "on-failure:x", "always:3"] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text:?}");
        }
    }
}
