//! What time it is in messages.

use std::time::Duration;

use interline_core::Timestamp;
use tokio::time::Instant;

/// Reads the wall clock once and counts on with the runtime's clock: waiting is then of one piece
/// with the timers that end it, also when the wall clock is set or the runtime's is paused.
#[derive(Debug)]
pub(super) struct Clock {
    wall: i64,
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            wall: Timestamp::now().unix_millis(),
            start: Instant::now(),
        }
    }

    /// The time after `delay`, in milliseconds since 1970, rounded up: never early.
    pub(super) fn due_after(&self, delay: Duration) -> i64 {
        let millis = (self.start.elapsed() + delay).as_micros().div_ceil(1_000);
        self.wall
            .saturating_add(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    /// How long until `due`.
    pub(super) fn until(&self, due: i64) -> Duration {
        let after_start = u64::try_from(due.saturating_sub(self.wall)).unwrap_or(0);
        Duration::from_millis(after_start).saturating_sub(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_due_is_never_early() {
        let clock = Clock::new();
        let delay = Duration::from_micros(1_500_100);
        let due = clock.due_after(delay);
        assert!(clock.until(due) >= delay);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(clock.until(due) >= delay - Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.until(due), Duration::ZERO);
    }
}
