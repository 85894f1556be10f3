//! What is stored about a group and a partition.

use interline_core::{Fence, Position, Progress, Result};
use interline_transport::checkpoint;
use interline_transport::lease::MemberId;
use serde::{Deserialize, Serialize};

use crate::error::protocol;

/// The longest checkpoint in bytes: far more than the ranges and attempts that are declared take.
const MAX_CHECKPOINT: usize = 64 << 10;

/// The lease and the checkpoint of a partition. They are one value, so that one revision fences
/// both.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The owner; none if it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// The revision at which the owner took it. The value that takes it cannot know its own
    /// revision and says 0.
    #[serde(default)]
    fence: Fence,
    /// The owner was told to release it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) passing: bool,
    /// The progress, as [`checkpoint`] writes it.
    progress: String,
    /// Up to this sequence there is no event behind the frontier.
    #[serde(default)]
    seen: u64,
}

impl Row {
    /// A row as it is stored at `revision`.
    pub(crate) fn parse(operation: &'static str, value: &[u8], revision: u64) -> Result<Self> {
        let row: Self = serde_json::from_slice(value).map_err(|e| protocol(operation, e))?;
        let fence = match row.fence {
            0 if row.owner.is_some() => revision,
            fence => fence,
        };
        Ok(Self { fence, ..row })
    }

    /// A row that nobody has owned.
    pub(crate) fn new(progress: &Progress) -> Self {
        Self {
            progress: checkpoint::encode(progress, MAX_CHECKPOINT),
            ..Self::default()
        }
    }

    pub(crate) fn text(&self) -> String {
        // A value of plain text and numbers always has a text.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn owner(&self) -> Option<MemberId> {
        self.owner.as_ref().map(MemberId::stored)
    }

    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    pub(crate) fn is_of(&self, me: &MemberId, fence: Fence) -> bool {
        self.owner.as_deref() == Some(me.as_str()) && self.fence == fence
    }

    pub(crate) fn progress(&self) -> Result<Progress> {
        checkpoint::decode(&self.progress)
    }

    /// The row as `me` takes it.
    pub(crate) fn taken(&self, me: &MemberId) -> Self {
        Self {
            owner: Some(me.as_str().to_owned()),
            fence: 0,
            passing: false,
            progress: self.progress.clone(),
            seen: self.seen,
        }
    }

    /// Notes that it was taken at this revision.
    pub(crate) fn taken_at(&mut self, revision: u64) {
        self.fence = revision;
    }

    /// Stores a progress; up to `seen` there is no event behind its frontier.
    pub(crate) fn set_progress(&mut self, progress: &Progress, seen: u64) {
        self.progress = checkpoint::encode(progress, MAX_CHECKPOINT);
        self.seen = seen;
    }

    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    pub(crate) fn release(&mut self) {
        self.owner = None;
        self.passing = false;
    }

    /// The row as a reset leaves it.
    pub(crate) fn reset(&mut self, progress: &Progress) {
        self.release();
        self.set_progress(progress, 0);
    }
}

/// That a group reads a topic, and from where in each partition. Rows are made from it when
/// they are taken for the first time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Beginning {
    /// When the topic's stream was made: positions count in this one alone.
    pub(crate) stream: String,
    /// The position before the first event, by partition; 0 if it begins at the first.
    after: Vec<u64>,
}

impl Beginning {
    pub(crate) fn new(stream: String, after: Vec<u64>) -> Self {
        Self { stream, after }
    }

    pub(crate) fn parse(operation: &'static str, value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(|cause| protocol(operation, cause))
    }

    pub(crate) fn text(&self) -> String {
        // A value of plain text and numbers always has a text.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The progress that a partition begins with.
    pub(crate) fn progress(&self, partition: u32) -> Progress {
        let after = self.after.get(partition as usize).copied().unwrap_or(0);
        Progress {
            frontier: (after > 0).then(|| Position::from(after)),
            ..Progress::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taking_revision_is_the_fence() {
        let me = MemberId::new("a", 1);
        let progress = Progress {
            frontier: Some(Position::from(7)),
            ..Progress::default()
        };
        let taken = Row::new(&progress).taken(&me);
        let read = Row::parse("t", taken.text().as_bytes(), 41).unwrap();
        assert!(read.is_of(&me, 41));
        assert_eq!(read.progress().unwrap(), progress);
        // A later write carries the fence along.
        let read = Row::parse("t", read.text().as_bytes(), 99).unwrap();
        assert!(read.is_of(&me, 41) && !read.is_of(&MemberId::new("a", 2), 41));
        let mut free = read;
        free.release();
        let free = Row::parse("t", free.text().as_bytes(), 100).unwrap();
        assert_eq!((free.owner(), free.fence()), (None, 41));
    }

    #[test]
    fn a_group_begins_where_it_was_told() {
        let beginning = Beginning::new("x".to_owned(), vec![0, 5]);
        let read = Beginning::parse("t", beginning.text().as_bytes()).unwrap();
        assert_eq!(read.progress(0).frontier, None);
        assert_eq!(read.progress(1).frontier, Some(Position::from(5)));
        assert_eq!(read.progress(2).frontier, None);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Row::parse("t", b"{}", 1).is_err());
        assert!(Row::parse("t", b"\xff", 1).is_err());
        assert!(Beginning::parse("t", b"[]").is_err());
    }
}
