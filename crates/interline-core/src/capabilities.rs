//! What a transport can do, as data.

use std::fmt;
use std::time::Duration;

/// How much an acknowledged publish survives.
///
/// ```
/// use interline_core::Durability;
///
/// assert!(Durability::Quorum > Durability::Disk);
/// assert_eq!(Durability::Quorum.to_string(), "D3");
/// assert_eq!("D1".parse(), Ok(Durability::Process));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Durability {
    /// D0: nothing but this process holds the event.
    Memory,
    /// D1: survives the death of the server's process (page cache).
    Process,
    /// D2: written to disk on one node before the acknowledgement.
    Disk,
    /// D3: on a quorum of replicas.
    Quorum,
    /// D4: on disk on a quorum of replicas.
    QuorumDisk,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "D0",
            Self::Process => "D1",
            Self::Disk => "D2",
            Self::Quorum => "D3",
            Self::QuorumDisk => "D4",
        })
    }
}

impl std::str::FromStr for Durability {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "D0" | "d0" => Ok(Self::Memory),
            "D1" | "d1" => Ok(Self::Process),
            "D2" | "d2" => Ok(Self::Disk),
            "D3" | "d3" => Ok(Self::Quorum),
            "D4" | "d4" => Ok(Self::QuorumDisk),
            _ => Err("a durability is one of D0 D1 D2 D3 D4"),
        }
    }
}

/// How copies of an event published twice are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dedupe {
    /// Only resends of the client itself within its session; the caller's own resend is stored.
    Session,
    /// By identity, for at least this long.
    Window(Duration),
    /// By identity, among at least this many of the last events of a topic.
    Last(usize),
}

/// When the engine should store checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// At most this long after something changed.
    pub every: Duration,
    /// Also once this many events have been settled, where the store gains from it.
    pub count: Option<u32>,
}

/// How exact the lag of a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LagAccuracy {
    /// The number of events.
    Exact,
    /// The difference of positions: gaps (compaction, markers) count as events.
    UpperBound,
}

impl fmt::Display for LagAccuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::UpperBound => "upper bound",
        })
    }
}

/// What a transport can do. What is not declared here answers
/// [`Unsupported`](crate::ErrorKind::Unsupported).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The scheme of the transport's URLs, which is also its name in errors and metrics.
    pub transport: &'static str,
    /// What an acknowledged publish survives.
    pub durability: Durability,
    /// Whether the level was probed (`true`) or is declared by the operator.
    pub durability_verified: bool,
    /// How an event published twice is recognised.
    pub dedupe: Dedupe,
    /// The largest payload in bytes.
    pub max_payload: usize,
    /// How often checkpoints are stored.
    pub cadence: Cadence,
    /// How many ranges beyond the frontier a checkpoint can hold.
    pub max_ranges: usize,
    /// How many events with attempts a checkpoint can hold.
    pub max_attempts: usize,
    /// Events outlive the process that published them.
    pub persistent: bool,
    /// A reading may start at a point in time.
    pub start_at_time: bool,
    /// Topics can be created and deleted through [`Admin`](crate::Admin).
    pub manage_topics: bool,
    /// Other clients, without interline, can write to a topic.
    pub foreign_writers: bool,
    /// How exact the lag is.
    pub lag: LagAccuracy,
}

impl Capabilities {
    /// The least that a transport can do; its author raises each field to the truth.
    ///
    /// ```
    /// use interline_core::{Capabilities, Durability};
    ///
    /// let mut mine = Capabilities::new("carrier-pigeon");
    /// mine.durability = Durability::Memory;
    /// assert!(!mine.persistent);
    /// ```
    #[must_use]
    pub const fn new(transport: &'static str) -> Self {
        Self {
            transport,
            durability: Durability::Memory,
            durability_verified: false,
            dedupe: Dedupe::Session,
            max_payload: crate::limits::MAX_PAYLOAD,
            cadence: Cadence {
                every: Duration::from_millis(100),
                count: None,
            },
            max_ranges: 256,
            max_attempts: 64,
            persistent: false,
            start_at_time: false,
            manage_topics: false,
            foreign_writers: false,
            lag: LagAccuracy::UpperBound,
        }
    }
}
