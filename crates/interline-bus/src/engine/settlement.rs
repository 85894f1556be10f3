//! The state machine of one delivery.
//!
//! ```text
//! read -> inbox says done? ----------------------------------------------> settled
//!      -> running(n) -> succeeded -> (marked in the inbox) --------------> settled
//!                    -> failed, may pass, attempts left -> held until due -> running(n + 1)
//!                                       due beyond max_hold -> returned -> settled
//!                    -> failed for good or attempts spent -> buried ------> settled
//! any state but settled -> released: nothing stored, the next owner reads it again
//! ```
//!
//! [`Step`] names what the engine does next; [`after_attempt`] and [`before_attempt`] are the
//! only places that choose it. Storing a dead letter or a return that fails is tried again as it
//! is: the handler does not run again for it.

use std::time::Duration;

use interline_reliability::{Claim, Failure, Policy};

/// What happens to a delivery next.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next attempt runs.
    Run,
    /// It stays in its lane, in memory, for this long.
    Hold(Duration),
    /// It is stored in the return topic, due after this long, then settled.
    Return(Duration),
    /// It is stored as a dead letter with this cause, then settled.
    Bury(Failure),
    /// It succeeded and the inbox is told, then it is settled.
    Mark,
    /// It is settled: the frontier may pass it.
    Settle,
}

/// The step before an attempt, from what the inbox says.
pub(crate) fn before_attempt(claim: Claim) -> Step {
    match claim {
        Claim::Fresh => Step::Run,
        Claim::Done => Step::Settle,
        // Another attempt is running, most likely not for as long as its claim would last.
        Claim::Busy(lapses) => Step::Hold(lapses.min(Duration::from_secs(1))),
    }
}

/// The step after the attempt number `attempt`, counted from 1; `random` is drawn evenly from
/// 0 to 1 and spreads the delays.
pub(crate) fn after_attempt(
    policy: &Policy,
    attempt: u32,
    handled: Result<(), Failure>,
    random: f64,
) -> Step {
    let failure = match handled {
        Ok(()) if policy.inbox.is_some() => return Step::Mark,
        Ok(()) => return Step::Settle,
        Err(failure) => failure,
    };
    if !failure.kind().is_retryable() || !policy.retry.may_retry(attempt) {
        return Step::Bury(failure);
    }
    let delay = match failure.delay() {
        Some(asked) => asked,
        None => policy.retry.delay(attempt, random),
    };
    if delay > policy.timeouts.max_hold {
        Step::Return(delay)
    } else {
        Step::Hold(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interline_reliability::{Fail, FailureKind, Retry};

    fn policy() -> Policy {
        let mut policy = Policy::default();
        policy.retry = Retry::exponential().max(3);
        policy
    }

    #[test]
    fn success_settles() {
        assert!(matches!(
            after_attempt(&policy(), 1, Ok(()), 0.5),
            Step::Settle
        ));
    }

    #[test]
    fn what_may_pass_is_held_until_attempts_are_spent() {
        for attempt in 1..3 {
            let step = after_attempt(&policy(), attempt, Err("busy".transient()), 1.0);
            let expected = Duration::from_millis(100) * 2_u32.pow(attempt - 1);
            assert!(
                matches!(step, Step::Hold(delay) if delay == expected),
                "{step:?}"
            );
        }
        let step = after_attempt(&policy(), 3, Err("busy".transient()), 1.0);
        assert!(matches!(step, Step::Bury(_)), "{step:?}");
    }

    #[test]
    fn what_cannot_pass_is_buried_at_once() {
        for kind in [
            FailureKind::Permanent,
            FailureKind::Undecodable,
            FailureKind::Unhandled,
        ] {
            let step = after_attempt(&policy(), 1, Err(Failure::new(kind, "no")), 0.0);
            assert!(matches!(step, Step::Bury(_)), "{step:?}");
        }
    }

    #[test]
    fn a_long_delay_gives_up_the_lane() {
        let hour = Duration::from_secs(3_600);
        let step = after_attempt(&policy(), 1, Err("closed".retry_after(hour)), 0.0);
        assert!(
            matches!(step, Step::Return(delay) if delay == hour),
            "{step:?}"
        );
    }
}
