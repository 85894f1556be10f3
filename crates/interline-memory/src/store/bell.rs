//! Waking a reading that has nothing to read.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Wakes one waiting reading; ringing costs one load while nobody waits.
///
/// The reading arms the bell, looks once more, and only then waits. Whoever adds something first
/// makes it visible and then rings. Both use sequentially consistent accesses or hold one lock in
/// turn, so that one of the two always sees the other.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    armed: AtomicBool,
    notify: Notify,
}

impl Bell {
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn ring(&self) {
        if self.is_armed() && self.armed.swap(false, Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::SeqCst)
    }

    /// Waits for a ring, or until the time comes.
    pub(crate) async fn wait(&self, until: Option<Instant>) {
        match until {
            // A passed deadline is as good as a ring: the caller looks again.
            Some(until) => drop(timeout_at(until, self.notify.notified()).await),
            None => self.notify.notified().await,
        }
    }
}
