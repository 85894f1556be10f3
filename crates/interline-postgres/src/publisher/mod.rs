//! Publishing.

mod call;
mod columns;
mod insert;
mod ledger;
mod rows;
mod within;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use interline_core::{
    Durability, ErrorKind, EventId, Outgoing, PublisherOptions, PublisherStats, Receipt, Result,
};
use interline_transport::window::Window;
use tokio::time::{Instant, timeout};

use self::ledger::Ledger;
use self::writer::Writer;
use crate::SCHEME;
use crate::error::{closed, error};
use crate::link::Link;

#[cfg(test)]
pub(crate) use self::rows::pack_headers;
pub use self::within::{publish_in, wake};

/// The bytes that may be without outcome before `enqueue` waits, in KiB: 64 MiB.
const WINDOW_KIB: usize = 64 << 10;

/// Stores events in the log; see [`interline_core::Publisher`].
///
/// It has a connection of its own with two statements on their way. An idle publisher sends at
/// once; what comes meanwhile is sent together, at most 500 events or 1 MiB in a statement. Events
/// of one publisher are stored in the order in which they were handed over.
///
/// An event whose answer is lost with the connection is sent again under its identity until the
/// publish timeout: if it was stored, it is recognised and its outcome is `Duplicate`.
///
/// `flush` whose deadline passes gives up everything on its way, that of other callers too: what
/// was never sent is then `Rejected`, the rest `Unknown`.
pub struct Publisher {
    link: Arc<Link>,
    ledger: Arc<Ledger>,
    publish_timeout: Duration,
    /// Where events without a key go next.
    spread: AtomicU32,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("link", &self.link)
            .field("stats", &self.ledger.tally.stats())
            .finish_non_exhaustive()
    }
}

/// Closes a publisher from outside, without keeping it alive.
#[derive(Debug)]
pub(crate) struct Closer(Arc<Ledger>);

impl Publisher {
    pub(crate) fn new(link: Arc<Link>, options: &PublisherOptions) -> Result<Self> {
        let window = Window::new(options.window, WINDOW_KIB).map_err(|error| error.on(SCHEME))?;
        check_durability(options.min_durability, link.capabilities.durability)?;
        let ledger = Arc::new(Ledger::new(window));
        let writer = Writer::new(Arc::clone(&link), Arc::clone(&ledger));
        tokio::spawn(writer.run());
        Ok(Self {
            link,
            ledger,
            publish_timeout: options.publish_timeout,
            spread: AtomicU32::new(std::process::id()),
        })
    }

    pub(crate) fn closer(&self) -> Closer {
        Closer(Arc::clone(&self.ledger))
    }
}

/// Refuses a level that the server does not give.
pub(crate) fn check_durability(wants: Option<Durability>, has: Durability) -> Result<()> {
    match wants {
        Some(wants) if wants > has => Err(error(
            ErrorKind::Config,
            "publish",
            format!("the server gives durability {has} and {wants} is required"),
            format!(
                "turn fsync and full_page_writes on (D2) or add a synchronous standby (D4), or \
                 accept less with `min_durability={has}`"
            ),
        )),
        _ => Ok(()),
    }
}

impl interline_core::Publisher for Publisher {
    async fn enqueue(&self, batch: Vec<Outgoing>) -> Result<Receipt> {
        self.link.check_open("publish")?;
        if batch.is_empty() {
            return Ok(Receipt::ready(Vec::new()));
        }
        let known = rows::topics(&self.link, &batch).await;
        let bytes: usize = batch.iter().map(|event| event.envelope.size()).sum();
        let places = self.ledger.window.take(batch.len(), bytes).await;
        let places = places.ok_or_else(|| closed("publish"))?;
        // From here on nothing waits: a dropped call has sent all or nothing.
        let payloads = batch.iter().filter_map(|event| event.envelope.payload());
        self.ledger
            .tally
            .sent(batch.len(), payloads.map(|payload| payload.len()).sum());
        let run = self.spread.fetch_add(1, Ordering::Relaxed);
        let parts = rows::parts(&self.link, batch, &known, run);
        let deadline = Instant::now() + self.publish_timeout;
        Ok(self.ledger.open(parts, deadline, places))
    }

    async fn flush(&self, deadline: Duration) -> Result<Vec<EventId>> {
        Ok(self.closer().flush(deadline).await)
    }

    fn stats(&self) -> PublisherStats {
        self.ledger.tally.stats()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.ledger.end();
    }
}

impl Closer {
    /// Waits for what is on its way; gives up and names it at the deadline.
    async fn flush(&self, deadline: Duration) -> Vec<EventId> {
        if timeout(deadline, self.0.settled()).await.is_ok() {
            return Vec::new();
        }
        self.0.abandon(&error(
            ErrorKind::Timeout,
            "publish",
            "it was given up when the time to flush was over",
            "flush with a longer deadline, or publish again with the same id",
        ))
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.0.is_ending()
    }

    /// Takes no more events and flushes.
    pub(crate) async fn close(&self, deadline: Duration) -> Vec<EventId> {
        self.0.end();
        self.flush(deadline).await
    }
}
