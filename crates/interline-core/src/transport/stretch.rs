//! Records that follow each other in a partition.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::vec;

use super::Recorded;

/// Records that follow each other in a partition, shared with a store that keeps them anyway.
///
/// A store in this process hands out what it holds: reading copies no envelope and counts no
/// reference per event. Taken over one by one, shared records are cloned and others moved.
///
/// ```
/// use interline_core::{Envelope, Kind, Position, Recorded, Stretch};
///
/// let envelope = Envelope::builder(Kind::new("/demo", "demo.sent")?).build()?;
/// let record = |index: u64| Recorded {
///     position: Position::from(index),
///     stored_at: 0,
///     envelope: envelope.clone(),
/// };
/// let mut records = Stretch::from(vec![record(4), record(5), record(6)]);
/// records.truncate(2);
/// records.advance(1);
/// assert_eq!(records.len(), 1);
/// assert_eq!(records[0].position, Position::from(5));
/// assert_eq!(records.into_iter().count(), 1);
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    all: Arc<Vec<Recorded>>,
    range: Range<usize>,
}

impl Stretch {
    /// Some of `all`, which others hold too; a range that does not fit is cut to what is there.
    #[must_use]
    pub fn shared(all: Arc<Vec<Recorded>>, range: Range<usize>) -> Self {
        let end = range.end.min(all.len());
        let range = range.start.min(end)..end;
        Self { all, range }
    }

    /// Keeps the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.range.end = self.range.end.min(self.range.start.saturating_add(len));
    }

    /// Leaves out the first `records`.
    pub fn advance(&mut self, records: usize) {
        self.range.start = self.range.end.min(self.range.start.saturating_add(records));
    }

    /// Cuts in two and returns those from `at` on.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let mut rest = self.clone();
        rest.advance(at);
        self.truncate(at);
        rest
    }
}

impl From<Vec<Recorded>> for Stretch {
    fn from(records: Vec<Recorded>) -> Self {
        let range = 0..records.len();
        Self::shared(Arc::new(records), range)
    }
}

impl Deref for Stretch {
    type Target = [Recorded];

    fn deref(&self) -> &[Recorded] {
        &self.all[self.range.clone()]
    }
}

impl IntoIterator for Stretch {
    type Item = Recorded;
    type IntoIter = vec::IntoIter<Recorded>;

    fn into_iter(self) -> vec::IntoIter<Recorded> {
        let Self { all, range } = self;
        let records = Arc::try_unwrap(all).map_or_else(
            |shared| shared[range.clone()].to_vec(),
            |mut own| {
                own.truncate(range.end);
                own.drain(..range.start);
                own
            },
        );
        records.into_iter()
    }
}

impl<'a> IntoIterator for &'a Stretch {
    type Item = &'a Recorded;
    type IntoIter = std::slice::Iter<'a, Recorded>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
