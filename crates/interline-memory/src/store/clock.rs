//! The store's clock.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Milliseconds since 1970 that follow tokio's clock, so that a paused clock stops them too.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    millis: i64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            start: Instant::now(),
            millis: millis(since.unwrap_or_default()),
        }
    }

    pub(crate) fn millis(&self, now: Instant) -> i64 {
        self.millis + millis(now.saturating_duration_since(self.start))
    }

    /// The instant at which the clock shows `millis`, or nothing if it is past.
    pub(crate) fn instant(&self, millis: i64) -> Option<Instant> {
        let ahead = u64::try_from(millis.checked_sub(self.millis)?).ok()?;
        self.start.checked_add(Duration::from_millis(ahead))
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let millis = i64::from(duration.subsec_millis());
    seconds.saturating_mul(1_000).saturating_add(millis)
}
