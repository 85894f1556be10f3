//! A partition that is read.

use std::sync::Arc;

use bytes::Bytes;
use interline_core::{Fence, Flow, Partition, Position, Result};

use crate::stand::{Stand, missing, went_back};
use crate::topics::Facts;

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Part {
    /// Tells it from the same partition opened again.
    pub(super) id: u64,
    pub(super) partition: Partition,
    pub(super) fence: Fence,
    pub(super) flow: Flow,
    pub(super) begin: Begin,
    pub(super) facts: Option<Arc<Facts>>,
    /// How far it was read.
    pub(super) position: Position,
    /// How far it was handed out.
    pub(super) last: Position,
    /// The count of the last event that was handed out and has one.
    pub(super) count: Option<u64>,
}

/// Whether the place of a partition was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// It begins with what is kept.
    First,
    /// It begins after its position, which was not compared yet.
    After,
    Done,
    /// The server has lost its end with what was read of it.
    Lost,
}

impl Part {
    /// Takes over how the partition stands.
    pub(super) fn compared(&mut self, facts: &Arc<Facts>, stand: &Stand) -> Result<()> {
        self.facts = Some(Arc::clone(facts));
        match std::mem::replace(&mut self.begin, Begin::Done) {
            Begin::First => self.position = stand.beginning(),
            Begin::After => stand.check(facts, self.partition.index, self.position)?,
            Begin::Done => return stand.check(facts, self.partition.index, self.position),
            Begin::Lost => return Err(went_back(&self.partition, self.last, stand.end())),
        }
        self.last = self.position;
        self.count = stand.count_at(self.position);
        Ok(())
    }

    pub(super) fn stream(&self) -> Option<&Bytes> {
        let facts = self.facts.as_ref()?;
        facts.streams.get(self.partition.index as usize)
    }

    /// Notes an event whose id counts it.
    pub(super) fn counted(&mut self, position: Position) -> Result<()> {
        let is_dense = self.facts.as_ref().is_some_and(|facts| facts.is_dense);
        if !is_dense || position.1 == 0 {
            return Ok(());
        }
        if let Some(last) = self.count.replace(position.1) {
            if position.1 > last + 1 {
                let count = position.1 - last - 1;
                return Err(missing(&self.partition, self.last, count));
            }
            if position.1 <= last {
                self.begin = Begin::Lost;
                return Err(went_back(&self.partition, self.last, position));
            }
        }
        Ok(())
    }
}
