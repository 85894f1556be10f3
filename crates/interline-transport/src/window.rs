//! What a publisher may have on its way.

use interline_core::{Error, ErrorKind, Result};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// The largest number of places that can be asked for at once.
const MOST: usize = 1 << 30;

/// Bounds the events, and the bytes, that a publisher has on its way without an outcome.
///
/// Whoever publishes [takes](Self::take) places first, and they are [given back](Self::give_back)
/// when the outcomes are known. A batch larger than the window goes in alone.
#[derive(Debug)]
pub struct Window {
    events: Semaphore,
    kib: Semaphore,
    size: Places,
    settled: Notify,
}

/// Places in a window.
///
/// They are data: who lets them fall without [giving them back](Window::give_back) makes the
/// window smaller for ever.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Places {
    events: usize,
    kib: usize,
}

/// Places that are given back when this is dropped, unless they are [kept](Self::keep).
#[derive(Debug)]
#[must_use]
pub struct Taken<'w> {
    events: SemaphorePermit<'w>,
    kib: SemaphorePermit<'w>,
}

impl Window {
    /// A window for so many events and KiB.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a window of no events.
    pub fn new(events: usize, kib: usize) -> Result<Self> {
        if events == 0 {
            return Err(Error::new(
                ErrorKind::Invalid,
                "publish",
                "a window of no events lets none through",
            )
            .remedy("set `window` to 1 or more"));
        }
        let size = Places {
            events: events.min(MOST),
            kib: kib.min(MOST),
        };
        Ok(Self {
            events: Semaphore::new(size.events),
            kib: Semaphore::new(size.kib),
            size,
            settled: Notify::new(),
        })
    }

    /// Waits for room for a batch of so many events and bytes; nothing once the window is closed.
    ///
    /// # Cancellation
    /// A dropped call has taken nothing.
    pub async fn take(&self, events: usize, bytes: usize) -> Option<Taken<'_>> {
        let count = |wanted: usize, all: usize| u32::try_from(wanted.min(all)).unwrap_or(u32::MAX);
        let events = count(events, self.size.events);
        let kib = count(bytes >> 10, self.size.kib);
        Some(Taken {
            events: self.events.acquire_many(events).await.ok()?,
            kib: self.kib.acquire_many(kib).await.ok()?,
        })
    }

    /// Nobody gets room any more.
    pub fn close(&self) {
        self.events.close();
        self.kib.close();
    }

    /// Makes room for others.
    pub fn give_back(&self, Places { events, kib }: Places) {
        self.events.add_permits(events);
        self.kib.add_permits(kib);
    }

    /// Makes those who wait with [`settled`](Self::settled) look again.
    pub fn settle(&self) {
        self.settled.notify_waiters();
    }

    /// Waits until `is_settled` says so; it is asked again after every [`settle`](Self::settle).
    pub async fn settled(&self, is_settled: impl Fn() -> bool) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Before looking, or what settles in between would not be heard of.
            settled.as_mut().enable();
            if is_settled() {
                return;
            }
            settled.await;
        }
    }
}

impl Taken<'_> {
    /// The places, for whoever gives them back later.
    pub fn keep(self) -> Places {
        let places = Places {
            events: self.events.num_permits(),
            kib: self.kib.num_permits(),
        };
        self.events.forget();
        self.kib.forget();
        places
    }
}

impl Places {
    /// Takes the places of events out until this many are left.
    pub fn shrink_to(&mut self, events: usize) -> Self {
        let freed = self.events.saturating_sub(events);
        self.events -= freed;
        Self {
            events: freed,
            kib: 0,
        }
    }

    /// Adds other places of the same window.
    pub fn join(&mut self, Self { events, kib }: Self) {
        self.events += events;
        self.kib += kib;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt as _;

    use super::*;

    fn take(window: &Window, events: usize, bytes: usize) -> Option<Taken<'_>> {
        window.take(events, bytes).now_or_never().flatten()
    }

    #[test]
    fn a_window_of_nothing_is_refused() {
        let error = Window::new(0, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn events_and_bytes_are_bounded_each() {
        let window = Window::new(10, 4).unwrap();
        let first = take(&window, 6, 1 << 10).unwrap();
        assert!(take(&window, 5, 0).is_none(), "no room for the events");
        assert!(take(&window, 1, 4 << 10).is_none(), "no room for the bytes");
        let second = take(&window, 4, 3 << 10).unwrap();
        drop((first, second));
        assert!(take(&window, 10, 4 << 10).is_some());
    }

    #[test]
    fn a_batch_larger_than_the_window_goes_in_alone() {
        let window = Window::new(10, 4).unwrap();
        let large = take(&window, 1_000, 1 << 30).unwrap();
        assert!(take(&window, 1, 0).is_none());
        drop(large);
        assert!(take(&window, 1, 0).is_some());
        let endless = Window::new(usize::MAX, usize::MAX).unwrap();
        assert!(take(&endless, usize::MAX, usize::MAX).is_some());
    }

    #[test]
    fn kept_places_come_back_when_they_are_given_back() {
        let window = Window::new(4, 4).unwrap();
        let mut places = take(&window, 4, 4 << 10).unwrap().keep();
        assert!(take(&window, 1, 0).is_none());
        window.give_back(places.shrink_to(3));
        assert_eq!(places.shrink_to(3), Places::default());
        let mut last = take(&window, 1, 0).unwrap().keep();
        assert!(take(&window, 0, 1 << 10).is_none(), "bytes come last");
        last.join(places);
        window.give_back(last);
        assert!(take(&window, 4, 4 << 10).is_some());
    }

    #[test]
    fn a_closed_window_lets_nobody_in() {
        let window = Window::new(1, 1).unwrap();
        let places = take(&window, 1, 0).unwrap().keep();
        let waiting = window.take(1, 0);
        window.close();
        window.give_back(places);
        assert!(waiting.now_or_never().unwrap().is_none());
    }

    #[tokio::test]
    async fn who_waits_for_the_end_looks_after_every_settling() {
        let window = Window::new(1, 1).unwrap();
        let is_settled = AtomicBool::new(false);
        let mut waiting = std::pin::pin!(window.settled(|| is_settled.load(Ordering::Relaxed)));
        assert!(waiting.as_mut().now_or_never().is_none());
        window.settle();
        assert!(waiting.as_mut().now_or_never().is_none());
        is_settled.store(true, Ordering::Relaxed);
        window.settle();
        waiting.await;
    }
}
