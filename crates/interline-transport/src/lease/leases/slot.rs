//! One partition as this member sees it.

use std::collections::VecDeque;

use interline_core::{Fence, Flow, Partition, Position, Progress};
use tokio::time::Instant;

/// A partition, with what this member has to do with it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) partition: Partition,
    pub(super) state: State,
    /// The fence under which the feed has told that it is assigned, until it tells that it is lost
    /// or it is released.
    pub(super) told: Option<Fence>,
    pub(super) flow: Flow,
    /// The number of its last change: a picture whose look began before it says nothing about it.
    pub(super) changed: u64,
}

#[derive(Debug)]
pub(super) enum State {
    /// This member has nothing to do with it.
    None,
    /// It is read here.
    Held { fence: Fence, progress: Progress },
    /// The feed says, or will say, that it has to be released by then.
    Revoking { fence: Fence, until: Instant },
    /// It is given up here, and the store has yet to hear of it.
    Giving {
        fence: Fence,
        progress: Option<Progress>,
        /// The store is being told.
        busy: bool,
    },
}

/// What changes bring about: signals to tell and orders for the reading, in order.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) notices: VecDeque<Notice>,
    pub(super) orders: VecDeque<Order>,
    pub(super) changes: u64,
}

/// Something to tell about a partition under a fence.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) partition: Partition,
    pub(super) fence: Fence,
    pub(super) what: What,
    /// The partition is known no more: whoever was told of it has to be told this.
    pub(super) gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Assigned,
    Revoking,
    Lost,
}

/// What the reading of owned partitions has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Read this partition under this fence, strictly after the position.
    Open(Partition, Fence, Option<Position>),
    /// Read it no more.
    Close(Partition),
    /// Stop or go on.
    Flow(Partition, Flow),
}

impl Slot {
    pub(super) fn new(partition: Partition) -> Self {
        Self {
            partition,
            state: State::None,
            told: None,
            flow: Flow::Open,
            changed: 0,
        }
    }

    /// The fence under which checkpoints may be stored.
    pub(super) fn fence(&self) -> Option<Fence> {
        match self.state {
            State::Held { fence, .. } | State::Revoking { fence, .. } => Some(fence),
            State::None | State::Giving { .. } => None,
        }
    }

    fn enter(&mut self, state: State, out: &mut Out) {
        out.changes += 1;
        self.changed = out.changes;
        if matches!(self.state, State::Held { .. }) {
            out.orders.push_back(Order::Close(self.partition.clone()));
        }
        self.state = state;
    }

    fn note(&self, fence: Fence, what: What, out: &mut Out) {
        out.notices.push_back(Notice {
            partition: self.partition.clone(),
            fence,
            what,
            gone: false,
        });
    }

    /// It is owned from now on.
    pub(super) fn hold(&mut self, fence: Fence, progress: Progress, out: &mut Out) {
        let after = progress.frontier;
        // Granted once more under another fence: what ran under the old one is over.
        self.lose(out);
        self.enter(State::Held { fence, progress }, out);
        self.flow = Flow::Open;
        out.orders
            .push_back(Order::Open(self.partition.clone(), fence, after));
        self.note(fence, What::Assigned, out);
    }

    /// Asks for its release; what the feed never spoke of is given up at once. Says whether it
    /// waits for a release.
    pub(super) fn revoke(&mut self, fence: Fence, until: Instant, out: &mut Out) -> bool {
        if self.told != Some(fence) {
            self.give(fence, None, false, out);
            return false;
        }
        self.enter(State::Revoking { fence, until }, out);
        self.note(fence, What::Revoking, out);
        true
    }

    /// It is given up, without a word to the feed.
    pub(super) fn give(
        &mut self,
        fence: Fence,
        progress: Option<Progress>,
        busy: bool,
        out: &mut Out,
    ) {
        self.enter(
            State::Giving {
                fence,
                progress,
                busy,
            },
            out,
        );
    }

    /// It is owned no more, and the feed will say so.
    pub(super) fn lose(&mut self, out: &mut Out) {
        if let Some(fence) = self.fence() {
            self.note(fence, What::Lost, out);
        }
        self.forget(out);
    }

    /// The partition is no more, and the feed will say so.
    pub(super) fn remove(mut self, out: &mut Out) {
        self.forget(out);
        if let Some(fence) = self.told {
            out.notices.push_back(Notice {
                partition: self.partition,
                fence,
                what: What::Lost,
                gone: true,
            });
        }
    }

    /// Nothing of it is this member's any more.
    pub(super) fn forget(&mut self, out: &mut Out) {
        self.enter(State::None, out);
    }
}
