//! Positions, checkpoints and where a reading starts.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, Partition, Result, Timestamp};

/// A transport's place in a partition: comparable and printable, otherwise opaque.
///
/// Positions of one partition grow in the order of its events; they need not be dense.
///
/// ```
/// use interline_core::Position;
///
/// let position: Position = "1711-7".parse()?;
/// assert_eq!(position, Position(1711, 7));
/// assert_eq!(Position::from(42).to_string(), "42");
/// assert!(Position::from(41) < Position::from(42));
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64, pub u64);

impl From<u64> for Position {
    fn from(low: u64) -> Self {
        Self(0, low)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "{}", self.1),
            high => write!(f, "{high}-{}", self.1),
        }
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (high, low) = text.split_once('-').unwrap_or(("0", text));
        match (high.parse(), low.parse()) {
            (Ok(high), Ok(low)) => Ok(Self(high, low)),
            _ => Err(
                Error::new(ErrorKind::Invalid, "position", "this is no position")
                    .remedy("write a number, or two joined by a dash, as positions are printed"),
            ),
        }
    }
}

/// The number that makes a former owner's late checkpoint fail: it grows with every assignment.
pub type Fence = u64;

/// Positions `first..=last` that are settled beyond the frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first settled position.
    pub first: Position,
    /// The last settled position.
    pub last: Position,
}

/// An event that was running when the process died, more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Suspect {
    /// Its position.
    pub position: Position,
    /// How many times its process died.
    pub deaths: u8,
}

/// How far a group has come in a partition.
///
/// ```
/// use interline_core::{Position, Progress, Range};
///
/// let progress = Progress {
///     frontier: Some(Position::from(7)),
///     done: vec![Range { first: Position::from(9), last: Position::from(11) }],
///     ..Progress::default()
/// };
/// assert!(progress.is_done(Position::from(7)));
/// assert!(!progress.is_done(Position::from(8)));
/// assert!(progress.is_done(Position::from(10)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last position before which, and at which, everything is settled; `None` before the
    /// first. A reading resumes strictly after it.
    pub frontier: Option<Position>,
    /// What is settled beyond the frontier, ascending and apart.
    pub done: Vec<Range>,
    /// Events that failed and are still being retried, with the attempts made.
    pub attempts: Vec<(Position, u32)>,
    /// Starts of an owner at this frontier that no clean release has followed.
    pub unclean: u8,
    /// The event that is suspected of killing its process.
    pub suspect: Option<Suspect>,
}

impl Progress {
    /// Whether the event at `position` is settled.
    #[must_use]
    pub fn is_done(&self, position: Position) -> bool {
        if self.frontier.is_some_and(|frontier| position <= frontier) {
            return true;
        }
        let after = self.done.partition_point(|range| range.last < position);
        self.done
            .get(after)
            .is_some_and(|range| range.first <= position)
    }
}

/// The stored progress of a group in a partition, with the fence of who stores it.
///
/// As an assignment ([`Signal::Assigned`](crate::Signal::Assigned)) it says what the new owner
/// starts from; as an argument of [`Control::commit`](crate::Control::commit) what it has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub partition: Partition,
    /// The fence of the assignment.
    pub fence: Fence,
    /// The progress.
    pub progress: Progress,
}

/// Where a reading starts that has no checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the first event that is still kept.
    #[default]
    Earliest,
    /// Behind the last event: only what is published from now on.
    Latest,
    /// At the first event stored at this time or later.
    Time(Timestamp),
    /// Strictly after these positions; partitions that are not named start at the earliest.
    At(Vec<(Partition, Position)>),
}
