//! Publishing.

mod line;
mod queue;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interline_core::{
    Durability, Error, ErrorKind, EventId, Outcome, Outgoing, PublisherOptions, PublisherStats,
    Receipt, Result, Topic, limits,
};
use interline_transport::partition::for_key;
use interline_transport::window::Window;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use self::queue::{Entry, Queue};
use crate::SCHEME;
use crate::error::{closed, error};
use crate::hub::{Facts, Hub};

/// The bytes that may be without outcome before `enqueue` waits, in KiB: 256 MiB.
const WINDOW_KIB: usize = 256 << 10;

/// Sends events to topics of a server; see [`interline_core::Publisher`].
///
/// Up to 1,024 events are on their way at a time. Where the server writes to disk before it
/// answers, those that wait for a topic go out in batches that it stores as a whole. Whatever has
/// no answer when the connection breaks is sent again on the next one, in order and under the same
/// id, by which the server recognises copies. Where an event is refused for now and a later one of
/// its key is stored, it is not sent again but reported as rejected, so that order never breaks.
///
/// `flush` whose deadline passes gives up what was enqueued before it, that of other callers too.
pub struct Publisher {
    shared: Arc<Shared>,
    min_durability: Durability,
}

/// What the callers of a publisher share with its task.
struct Shared {
    hub: Arc<Hub>,
    queue: Mutex<Queue>,
    window: Window,
    /// The publisher was dropped or closed: the task ends when nothing is left to do.
    ending: Notify,
    publish_timeout: Duration,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("hub", &self.shared.hub)
            .field("stats", &self.shared.lock().tally.stats())
            .finish_non_exhaustive()
    }
}

/// Closes a publisher from outside, without keeping it alive.
pub(crate) struct Closer(std::sync::Weak<Shared>);

impl Closer {
    pub(crate) fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Takes no more events, and flushes.
    pub(crate) async fn close(&self, deadline: Duration) -> Vec<EventId> {
        let Some(shared) = self.0.upgrade() else {
            return Vec::new();
        };
        shared.window.close();
        let left = shared.flush(deadline).await;
        shared.end();
        left
    }
}

impl Publisher {
    pub(crate) fn new(hub: &Arc<Hub>, options: &PublisherOptions) -> Result<Self> {
        let window = Window::new(options.window, WINDOW_KIB).map_err(|error| error.on(SCHEME))?;
        let shared = Arc::new(Shared {
            hub: Arc::clone(hub),
            queue: Mutex::new(Queue::new()),
            window,
            ending: Notify::new(),
            publish_timeout: options.publish_timeout,
        });
        tokio::spawn(line::run(Arc::clone(&shared)));
        let configured = hub.settings.resolved.min_durability;
        Ok(Self {
            shared,
            min_durability: options.min_durability.unwrap_or(configured),
        })
    }

    pub(crate) fn closer(&self) -> Closer {
        Closer(Arc::downgrade(&self.shared))
    }

    /// What is known of the topics of a batch, or why nothing can be sent there. It waits for
    /// the server's answer the first time a topic is used.
    async fn topics(&self, batch: &[Outgoing]) -> HashMap<Topic, Result<Arc<Facts>>> {
        let mut topics: HashMap<Topic, Result<Arc<Facts>>> = HashMap::with_capacity(1);
        let mut last: Option<&Topic> = None;
        for Outgoing { topic, .. } in batch {
            // Batches mostly go to one topic.
            if last == Some(topic) || topics.contains_key(topic) {
                continue;
            }
            last = Some(topic);
            let facts = self.shared.hub.require("publish", topic).await;
            let facts = facts.and_then(|facts| self.check_durability(topic, facts));
            topics.insert(topic.clone(), facts);
        }
        topics
    }

    fn check_durability(&self, topic: &Topic, facts: Arc<Facts>) -> Result<Arc<Facts>> {
        let (has, wants) = (facts.durability, self.min_durability);
        if has >= wants {
            return Ok(facts);
        }
        // It may be repaired at any time: ask again for the next event.
        self.shared.hub.forget(topic);
        Err(error(
            ErrorKind::Config,
            "publish",
            format!("topic `{topic}` gives durability {has} and {wants} is required"),
            format!(
                "keep its stream `{}` in files on 3 servers or with `sync_interval: always`, or \
                 accept less with `min_durability={has}`",
                facts.stream
            ),
        ))
    }

    /// The events of a batch, with where each goes or why it goes nowhere.
    fn entries<'a>(
        &'a self,
        batch: Vec<Outgoing>,
        topics: &'a HashMap<Topic, Result<Arc<Facts>>>,
    ) -> impl ExactSizeIterator<Item = Entry> + 'a {
        let capabilities = &self.shared.hub.capabilities;
        let mut last: Option<(&Topic, &Result<Arc<Facts>>)> = None;
        batch.into_iter().map(move |outgoing| {
            // Batches mostly go to one topic.
            if last.is_none_or(|(topic, _)| *topic != outgoing.topic) {
                last = topics.get_key_value(&outgoing.topic);
            }
            let facts = match last {
                Some((_, Ok(facts))) => Ok(Arc::clone(facts)),
                Some((_, Err(error))) => Err(error.again()),
                // Every topic of the batch was asked for.
                None => Err(closed("publish")),
            };
            let facts = facts.and_then(|facts| {
                limits::check(&outgoing, capabilities)?;
                Ok(facts)
            });
            let partition = facts.as_ref().ok().and_then(|facts| {
                let key = outgoing.envelope.key()?;
                Some(for_key(key, facts.partitions))
            });
            Entry::new(outgoing, facts, partition)
        })
    }
}

impl interline_core::Publisher for Publisher {
    async fn enqueue(&self, batch: Vec<Outgoing>) -> Result<Receipt> {
        let shared = &self.shared;
        shared.hub.check_open("publish")?;
        if batch.is_empty() {
            return Ok(Receipt::ready(Vec::new()));
        }
        let topics = self.topics(&batch).await;
        let bytes: usize = batch.iter().map(|outgoing| outgoing.envelope.size()).sum();
        let places = shared.window.take(batch.len(), bytes).await;
        let places = places.ok_or_else(|| closed("publish"))?;
        let entries = self.entries(batch, &topics);
        // From here on nothing waits: a dropped call has sent all or nothing.
        let (sender, receipt) = Receipt::channel(entries.len());
        let mut queue = shared.lock();
        queue.tally.sent(entries.len(), bytes);
        queue.push(entries, places.keep(), sender);
        queue.pump();
        shared.release(queue);
        Ok(receipt)
    }

    async fn flush(&self, deadline: Duration) -> Result<Vec<EventId>> {
        Ok(self.shared.flush(deadline).await)
    }

    fn stats(&self) -> PublisherStats {
        self.shared.lock().tally.stats()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held; a poisoned queue would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the places of settled batches back, and tells those who wait.
    fn release(&self, mut queue: MutexGuard<'_, Queue>) {
        let freed = queue.take_places();
        drop(queue);
        if let Some(freed) = freed {
            self.window.give_back(freed);
            self.window.settle();
        }
    }

    async fn flush(&self, deadline: Duration) -> Vec<EventId> {
        let mark = self.lock().mark();
        if timeout(deadline, self.settled(mark)).await.is_ok() {
            return Vec::new();
        }
        let mut queue = self.lock();
        let left = queue.give_up(mark);
        self.release(queue);
        left
    }

    /// Waits until everything before `mark` has an outcome.
    async fn settled(&self, mark: u64) {
        self.window.settled(|| self.lock().is_settled(mark)).await;
    }

    fn end(&self) {
        self.lock().is_ending = true;
        self.ending.notify_one();
    }
}

/// The outcome of an event that got no answer in time.
fn late(was_sent: bool, since: Instant) -> Outcome {
    let seconds = since.elapsed().as_secs_f32();
    let late: Error = error(
        ErrorKind::Timeout,
        "publish",
        format!("no answer within {seconds:.1} s"),
        "check that the server is up, then publish again with the same id",
    );
    if was_sent {
        Outcome::Unknown(late.ambiguous())
    } else {
        Outcome::Rejected(late)
    }
}
