//! Waking a thread that waits for several things at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// Wakes the one thread that waits with [`Waiter::wait`]; a wake-up before the wait is kept.
#[derive(Clone, Debug)]
pub(crate) struct Wake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pending: AtomicBool,
    thread: Thread,
}

impl Wake {
    /// Wakes up the calling thread later.
    pub(crate) fn current() -> Self {
        Self(Arc::new(Inner {
            pending: AtomicBool::new(false),
            thread: thread::current(),
        }))
    }

    pub(crate) fn wake(&self) {
        // The flag saves the system call while the thread is awake and busy.
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            self.0.thread.unpark();
        }
    }

    /// Waits on the thread that made this until it is woken up, at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        if !self.0.pending.swap(false, Ordering::AcqRel) {
            thread::park_timeout(timeout);
            self.0.pending.store(false, Ordering::Release);
        }
    }
}

/// Rings when a queue stops being empty, and remembers that it did.
#[derive(Debug)]
pub(crate) struct Bell {
    rung: AtomicBool,
    wake: Wake,
}

impl Bell {
    /// A bell that has rung, because nobody knows what is in the queue already.
    pub(crate) fn new(wake: &Wake) -> Self {
        Self {
            rung: AtomicBool::new(true),
            wake: wake.clone(),
        }
    }

    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// Marks that there is more without waking anybody.
    pub(crate) fn again(&self) {
        self.rung.store(true, Ordering::Relaxed);
    }

    /// Whether it has rung since it was asked last.
    pub(crate) fn take(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }
}
