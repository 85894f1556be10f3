//! Waiting for progress, never for time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

/// What happened, in order; whoever waits for it looks again at each entry.
#[derive(Debug)]
pub struct Journal<T> {
    entries: Mutex<Vec<T>>,
    changed: Notify,
}

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl<T> Journal<T> {
    /// Adds an entry.
    pub fn note(&self, entry: T) {
        self.lock().push(entry);
        self.changed.notify_waiters();
    }

    /// What `look` sees in the entries so far.
    pub fn see<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        look(&self.lock())
    }

    /// Waits until `look` finds something. Put a deadline around it.
    ///
    /// # Cancellation
    /// A dropped wait changes nothing.
    pub async fn until<R>(&self, mut look: impl FnMut(&[T]) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking: an entry between the two is not missed.
            changed.as_mut().enable();
            if let Some(found) = look(&self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Journal<T> {
    /// The entries so far.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.lock().clone()
    }
}

/// Something that others wait in front of until it is opened.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn opened() -> Self {
        Self(watch::Sender::new(true))
    }

    /// A shut gate.
    #[must_use]
    pub fn shut() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Opens or shuts it.
    pub fn set(&self, open: bool) {
        self.0.send_replace(open);
    }

    /// Opens it.
    pub fn open(&self) {
        self.set(true);
    }

    /// Waits until it is open.
    ///
    /// # Cancellation
    /// A dropped wait changes nothing.
    pub async fn pass(&self) {
        // The sender lives in `self`, so the wait cannot end without the gate being open.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }

    /// Waits until it is shut.
    ///
    /// # Cancellation
    /// A dropped wait changes nothing.
    pub async fn until_shut(&self) {
        let _ = self.0.subscribe().wait_for(|open| !*open).await;
    }
}
