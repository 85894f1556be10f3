//! A transport that fails on demand.

mod control;
mod feed;
mod publisher;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interline_core::{
    AnyAdmin, AnyReader, AnyTransport, Capabilities, Checkpoint, Committed, Error, ErrorKind,
    Pattern, PublisherOptions, ReadSpec, Result, State, SubscribeSpec, Topic, Transport,
};

pub use self::control::FaultyControl;
pub use self::feed::FaultyFeed;
pub use self::publisher::FaultyPublisher;
use tokio::time::Instant;

use crate::{Gate, Journal};

/// A layer over any transport that hands everything through until its [`Faults`] say otherwise.
///
/// ```
/// # use interline_core::{AnyTransport, Envelope, Kind, Outgoing, Pattern, Publisher, PublisherOptions, Topic, Transport};
/// use interline_testkit::{Faulty, Refusal};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> interline_core::Result<()> {
/// let (transport, faults) = Faulty::over(interline_memory::connect("memory://").await?);
/// let publisher = transport.publisher(PublisherOptions::default()).await?;
/// faults.refuse(Pattern::new("orders")?, Refusal::Rejected, 1);
///
/// let event = Envelope::builder(Kind::new("/shop", "placed")?).build()?;
/// let event = Outgoing::new(Topic::new("orders")?, event);
/// assert!(!publisher.enqueue(vec![event.clone()]).await?.await[0].is_ok());
/// assert!(publisher.enqueue(vec![event]).await?.await[0].is_ok());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Faulty {
    inner: AnyTransport,
    faults: Faults,
}

/// What a [`Faulty`] transport does wrong; its clones are one.
#[derive(Clone)]
pub struct Faults(Arc<Script>);

struct Script {
    rules: Mutex<Rules>,
    outcomes: Gate,
    commits: Gate,
    feeds: Gate,
    stored: Journal<Stored>,
}

#[derive(Default)]
struct Rules {
    refusals: Vec<Rule>,
    commits: VecDeque<CommitFault>,
}

struct Rule {
    topics: Pattern,
    refusal: Refusal,
    left: usize,
}

/// A checkpoint that was committed or released.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What was to be stored.
    pub checkpoint: Checkpoint,
    /// What the transport answered.
    pub answer: Committed,
    /// When it did.
    pub at: Instant,
}

/// What happens to an event that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not stored, and the outcome says so.
    Rejected,
    /// It is not stored, and the outcome is unknown.
    UnknownNotStored,
    /// It is stored, and the outcome is unknown.
    UnknownStored,
}

/// What happens to a call of `commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing is stored; every answer is [`Committed::NotNow`].
    NotNow,
    /// Nothing is stored; every answer is [`Committed::Stale`], and the partitions stay owned.
    Stale,
    /// Nothing is stored; the call fails.
    Error,
    /// Everything is stored; the call fails.
    StoredError,
}

impl Faulty {
    /// A layer over `transport`, with the handle of its faults.
    pub fn over(transport: impl Transport) -> (Self, Faults) {
        let faults = Faults(Arc::new(Script {
            rules: Mutex::default(),
            outcomes: Gate::opened(),
            commits: Gate::opened(),
            feeds: Gate::opened(),
            stored: Journal::default(),
        }));
        let faulty = Self {
            inner: AnyTransport::new(transport),
            faults: faults.clone(),
        };
        (faulty, faults)
    }
}

impl Faults {
    /// Refuses the next `events` events for topics that fit.
    pub fn refuse(&self, topics: Pattern, refusal: Refusal, events: usize) {
        self.rules().refusals.push(Rule {
            topics,
            refusal,
            left: events,
        });
    }

    /// Refuses nothing any more.
    pub fn accept(&self) {
        self.rules().refusals.clear();
    }

    /// Lets the next calls of `commit` fail, one after the other.
    pub fn fail_commits(&self, faults: impl IntoIterator<Item = CommitFault>) {
        self.rules().commits.extend(faults);
    }

    /// Holds the outcomes of what is published while the gate is shut.
    #[must_use]
    pub fn outcomes(&self) -> &Gate {
        &self.0.outcomes
    }

    /// Holds commits before they are sent while the gate is shut.
    #[must_use]
    pub fn commits(&self) -> &Gate {
        &self.0.commits
    }

    /// Stalls every feed while the gate is shut: no signal comes.
    #[must_use]
    pub fn feeds(&self) -> &Gate {
        &self.0.feeds
    }

    /// Every checkpoint that was committed or released, with its answer.
    #[must_use]
    pub fn checkpoints(&self) -> &Journal<Stored> {
        &self.0.stored
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, topic: &Topic) -> Option<Refusal> {
        let mut rules = self.rules();
        let mut refusals = rules.refusals.iter_mut();
        let rule = refusals.find(|rule| rule.left > 0 && rule.topics.matches(topic.as_str()))?;
        rule.left -= 1;
        Some(rule.refusal)
    }

    fn next_commit(&self) -> Option<CommitFault> {
        self.rules().commits.pop_front()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules();
        f.debug_struct("Faults")
            .field("refusals", &rules.refusals.len())
            .field("commits", &rules.commits)
            .finish_non_exhaustive()
    }
}

/// The error of a planned fault.
fn planned(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "a planned fault")
}

impl Transport for Faulty {
    type Publisher = FaultyPublisher;
    type Feed = FaultyFeed;
    type Control = FaultyControl;
    type Reader = AnyReader;
    type Admin = AnyAdmin;

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn state(&self) -> State {
        self.inner.state()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<FaultyPublisher> {
        let inner = self.inner.publisher(options).await?;
        Ok(FaultyPublisher::new(inner, self.faults.clone()))
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(FaultyFeed, FaultyControl)> {
        let (feed, control) = self.inner.subscribe(spec).await?;
        let faults = self.faults.clone();
        Ok((
            FaultyFeed::new(feed, faults.clone()),
            FaultyControl::new(control, faults),
        ))
    }

    async fn read(&self, spec: ReadSpec) -> Result<AnyReader> {
        self.inner.read(spec).await
    }

    fn admin(&self) -> AnyAdmin {
        self.inner.admin()
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.inner.close(deadline).await
    }
}
