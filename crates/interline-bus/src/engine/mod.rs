//! The delivery engine: one task per member of a group.
//!
//! | file | responsibility |
//! |---|---|
//! | `settlement` | the state machine of one delivery |
//! | `window` | frontier and what lies beyond it |
//! | `part` | one owned partition: window, lanes, backlog, progress |
//! | `intake` | signals of the feed; admitting records |
//! | `attempt` | lanes, running handlers, holds |
//! | `run_set` | slots of running handlers and their wakers |
//! | `store` | dead letters, returns and the inbox, awaited before a delivery is settled |
//! | `commit` | checkpoints |
//! | `leave` | revoking, losing, draining |
//! | `clock` | what time it is in messages |
//! | `status` | what the outside may know and ask |
//!
//! Everything runs in one task: a handler that is ready at once costs no task, no allocation and
//! no entry. The engine is a hand-written poll loop because a select over a dozen sources would
//! poll each of them for every event.

mod attempt;
mod clock;
mod commit;
mod intake;
mod leave;
mod part;
#[cfg(feature = "bench")]
pub mod parts;
mod run_set;
mod settlement;
mod status;
mod store;
mod window;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use interline_core::{
    AnyControl, AnyFeed, AnyPublisher, BoxFuture, Budget, Cadence, Capabilities, Committed,
    Control, Error, Feed, Group, Partition, Recorded, Result, Signal, Topic,
};
use interline_reliability::{DeadLetter, Policy};
use slab::Slab;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use self::clock::Clock;
use self::commit::Committing;
use self::leave::Drain;
use self::part::Part;
use self::run_set::RunSet;
pub(crate) use self::status::{Command, Status};
pub use self::status::{DrainReport, GroupStats, Unfinished};
use self::store::Stored;
use crate::router::{RouteCache, Router};

/// How an engine works.
pub(crate) struct Config {
    pub(crate) group: Group,
    /// The name under which dead letters are filed; another than the group's for broadcasts.
    pub(crate) filed_under: Group,
    pub(crate) policy: Policy,
    pub(crate) router: Arc<Router>,
    /// How many events run at a time.
    pub(crate) lanes: usize,
    /// How many events of a partition may lie beyond its frontier.
    pub(crate) window_events: usize,
    /// How many bytes of them.
    pub(crate) window_bytes: usize,
    pub(crate) capabilities: Capabilities,
    pub(crate) on_dead_letter: Option<DeadLetterHook>,
}

pub(crate) type DeadLetterHook = Arc<dyn Fn(&DeadLetter) + Send + Sync>;

impl Config {
    fn cadence(&self) -> Cadence {
        self.capabilities.cadence
    }
}

/// Names an entry; the serial tells it from a later one in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EntryId {
    at: usize,
    serial: u64,
}

/// A delivery that was not settled as soon as it was read.
struct Entry {
    serial: u64,
    part: usize,
    /// Its number in the partition's window.
    seq: u64,
    record: Recorded,
    /// `None` if no handler takes its type.
    route: Option<usize>,
    lane: Option<u64>,
    /// The next delivery of its lane.
    next: Option<EntryId>,
    /// Attempts made.
    attempts: u32,
    first_failure: Option<interline_core::Timestamp>,
    /// Whether this process holds the inbox's claim for it.
    claimed: bool,
    state: EntryState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryState {
    /// Behind others in its lane, or waiting for capacity.
    Waiting,
    /// Being run.
    Running,
    /// Held until its next attempt.
    Held,
    /// Waiting for the inbox or for a dead letter to be stored.
    Storing,
}

/// A feed, its next signal, and the feed back: one future is kept alive, so nothing is cancelled.
type NextSignal = BoxFuture<'static, (AnyFeed, Result<Signal>)>;

pub(crate) struct Engine {
    config: Arc<Config>,
    status: Arc<Status>,
    commands: mpsc::UnboundedReceiver<Command>,
    control: AnyControl,
    publisher: AnyPublisher,
    next_signal: Option<NextSignal>,
    parts: Slab<Part>,
    by_partition: HashMap<Partition, usize>,
    entries: Slab<Entry>,
    serial: u64,
    routes: RouteCache,
    runs: RunSet,
    /// Room for the deliveries of a call that has ended, so that ending one allocates nothing.
    finished: Vec<EntryId>,
    /// Heads of lanes that wait for capacity, in order.
    ready: VecDeque<EntryId>,
    /// Per route: waiting for its own limit, or being gathered into a batch.
    at_route: Vec<AtRoute>,
    holds: BinaryHeap<Reverse<(Instant, EntryId)>>,
    stores: FuturesUnordered<BoxFuture<'static, (EntryId, Stored)>>,
    committing: Option<Committing>,
    releasing: FuturesUnordered<BoxFuture<'static, Result<Vec<Committed>>>>,
    /// Partitions whose backlog may move on.
    refill: Vec<usize>,
    drain: Option<Drain>,
    clock: Clock,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    failed: Option<Error>,
}

/// What a look at the feed brought.
enum Intake {
    Nothing,
    Some,
    /// More may be there, but others come first.
    Enough,
}

#[derive(Default)]
struct AtRoute {
    waiting: VecDeque<EntryId>,
    /// When a batch has to start at the latest.
    due: Option<Instant>,
}

impl Engine {
    pub(crate) fn new(
        config: Config,
        feed: AnyFeed,
        control: AnyControl,
        publisher: AnyPublisher,
        status: Arc<Status>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let routes = config.router.routes().len();
        Self {
            config: Arc::new(config),
            status,
            commands,
            control,
            publisher,
            next_signal: Some(next_signal(feed)),
            parts: Slab::new(),
            by_partition: HashMap::new(),
            entries: Slab::new(),
            serial: 0,
            routes: RouteCache::default(),
            runs: RunSet::new(routes),
            finished: Vec::new(),
            ready: VecDeque::new(),
            at_route: (0..routes).map(|_| AtRoute::default()).collect(),
            holds: BinaryHeap::new(),
            stores: FuturesUnordered::new(),
            committing: None,
            releasing: FuturesUnordered::new(),
            refill: Vec::new(),
            drain: None,
            clock: Clock::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: None,
            failed: None,
        }
    }

    /// Runs until drained, closed or failed.
    pub(crate) async fn run(mut self) -> DrainReport {
        poll_fn(|cx| {
            self.status.turn_begins();
            let polled = self.poll(cx);
            self.status.turn_ends();
            polled
        })
        .await;
        let closed = match &self.drain {
            Some(drain) => self.control.close(drain.left()).await,
            None => self.control.close(Duration::from_secs(1)).await,
        };
        let error = self.failed.take().or(closed.err());
        self.status.report(self.drain.take(), error)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.runs.register(cx);
        let mut turn = true;
        // A turn without progress has left a waker with every source.
        while turn {
            turn = self.poll_commands(cx);
            turn |= self.poll_runs();
            turn |= self.poll_stores(cx);
            turn |= self.poll_timer(cx);
            turn |= self.refill_parts();
            turn |= self.pump();
            turn |= self.poll_commit(cx);
            turn |= self.poll_releases(cx);
            if self.is_over() {
                return Poll::Ready(());
            }
            match self.poll_feed(cx) {
                Intake::Nothing => {}
                Intake::Some => turn = true,
                Intake::Enough => {
                    self.pump();
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        self.status.observe(&self.parts, self.entries.len());
        Poll::Pending
    }

    fn is_over(&self) -> bool {
        let drained = self.drain.is_some() && self.parts.is_empty() && self.releasing.is_empty();
        self.failed.is_some() || drained
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            match command {
                Some(Command::Drain(deadline)) => self.start_drain(deadline),
                Some(Command::Regulate) => self.regulate(),
                // The handle was dropped: its owner went away without draining.
                None if self.drain.is_none() && !self.status.is_aborted() => {
                    self.start_drain(Duration::ZERO);
                }
                None => return any,
            }
            any = true;
        }
        any
    }

    /// Takes signals until there is none, or so many events that other tasks of this thread, and
    /// the handlers' own budget of ready operations, must come into their right.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Intake {
        const ENOUGH: usize = 1_024;
        let mut events = 0;
        let mut intake = Intake::Nothing;
        while let Some(next) = &mut self.next_signal
            && let Poll::Ready((feed, signal)) = next.as_mut().poll(cx)
        {
            intake = Intake::Some;
            match signal {
                Ok(signal) => {
                    self.next_signal = Some(next_signal(feed));
                    events += self.on_signal(signal);
                }
                Err(error) => self.on_feed_end(error),
            }
            if events >= ENOUGH {
                return Intake::Enough;
            }
        }
        intake
    }

    fn on_feed_end(&mut self, error: Error) {
        self.next_signal = None;
        if self.drain.is_none() {
            tracing::error!(group = %self.config.group, %error, "the subscription ended");
            self.failed = Some(error);
        }
        self.lose_all();
    }

    fn poll_stores(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(Some((id, stored))) = self.stores.poll_next_unpin(cx) {
            self.on_stored(id, stored);
            any = true;
        }
        any
    }

    /// Wakes what is due and sets the timer for what is next.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let next = self.next_due();
        if next != self.timer_at {
            self.timer_at = next;
            if let Some(at) = next {
                self.timer.as_mut().reset(at);
            }
        }
        if self.timer_at.is_none() || self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer_at = None;
        let now = Instant::now();
        self.expire_holds(now);
        self.expire_batches(now);
        self.expire_runs(now);
        self.expire_leaving(now);
        true
    }

    fn next_due(&self) -> Option<Instant> {
        let hold = self.holds.peek().map(|Reverse((at, _))| *at);
        let batch = self.at_route.iter().filter_map(|route| route.due).min();
        [
            hold,
            batch,
            self.runs.next_timeout(),
            self.next_commit(),
            self.next_leaving(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries
            .get(id.at)
            .filter(|entry| entry.serial == id.serial)
    }

    fn entry_mut(&mut self, id: EntryId) -> Option<&mut Entry> {
        self.entries
            .get_mut(id.at)
            .filter(|entry| entry.serial == id.serial)
    }

    /// Stops or opens the flow of every partition after a pause began or ended.
    fn regulate(&mut self) {
        let paused = self.status.is_paused();
        for (_, part) in &mut self.parts {
            part.regulate(&self.config, &self.control, paused);
        }
        let parts: Vec<usize> = self.parts.iter().map(|(at, _)| at).collect();
        parts.into_iter().for_each(|at| self.refill_later(at));
    }

    /// The name of the handler that takes an entry, or empty.
    fn handler_of(&self, entry: &Entry) -> &'static str {
        let routes = self.config.router.routes();
        entry.route.map_or("", |route| routes[route].name)
    }

    /// The topic that an event of `partition` was published to.
    fn published_to(partition: &Partition) -> Topic {
        let origin = partition.topic.origin();
        origin.map_or_else(|| partition.topic.clone(), |(topic, _)| topic)
    }
}

fn next_signal(mut feed: AnyFeed) -> NextSignal {
    Box::pin(async move {
        let signal = feed.next(Budget::default()).await;
        (feed, signal)
    })
}
