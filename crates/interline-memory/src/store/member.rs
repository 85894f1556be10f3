//! One member of a group.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use interline_core::{Error, Fence, SubscribeSpec, Topic};
use tokio::time::Instant;

use super::Bell;
use crate::error;

/// A member as its group knows it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) label: String,
    pub(super) spec: SubscribeSpec,
    pub(super) bell: Arc<Bell>,
    /// When it last showed that it lives.
    pub(super) renewed: Instant,
    /// It takes no more partitions.
    pub(super) leaving: bool,
    /// It has not shown itself for a lease: it owns nothing until it does.
    pub(super) lapsed: bool,
    /// Somebody holds its feed or its control.
    pub(super) held: bool,
    /// Why its feed ended.
    pub(super) end: Option<End>,
    /// What its feed has yet to tell, in order.
    pub(super) notices: VecDeque<Notice>,
    /// What its feed has told to be assigned and not to be lost, with the fence.
    pub(super) told: HashMap<usize, Fence>,
    /// The slots that it owns.
    pub(super) owned: Vec<usize>,
    /// Whose turn it is to be read, among `owned`.
    pub(super) turn: usize,
}

/// Something to tell about a slot under a fence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notice {
    pub(super) slot: usize,
    pub(super) fence: Fence,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Assigned,
    Revoking,
    Lost,
}

/// Why a feed ended. An error cannot be cloned, and every later call has to say it again.
#[derive(Clone, Debug)]
pub(super) enum End {
    Closed,
    Replaced,
    Deleted(Topic),
}

impl End {
    pub(super) fn error(&self, operation: &'static str) -> Error {
        match self {
            Self::Closed => error::closed(operation),
            Self::Replaced => error::replaced(),
            Self::Deleted(topic) => error::deleted_topic(operation, topic),
        }
    }
}

impl Member {
    pub(super) fn new(label: String, spec: SubscribeSpec, bell: Arc<Bell>, now: Instant) -> Self {
        Self {
            label,
            spec,
            bell,
            renewed: now,
            leaving: false,
            lapsed: false,
            held: true,
            end: None,
            notices: VecDeque::new(),
            told: HashMap::new(),
            owned: Vec::new(),
            turn: 0,
        }
    }

    /// Whether it holds a lease.
    pub(super) fn is_live(&self) -> bool {
        !self.lapsed && self.end.is_none()
    }

    /// Whether it may be given partitions.
    pub(super) fn takes_part(&self) -> bool {
        self.is_live() && !self.leaving
    }

    pub(super) fn tell(&mut self, slot: usize, fence: Fence, what: What) {
        self.notices.push_back(Notice { slot, fence, what });
        self.bell.ring();
    }

    /// Forgets that it owns `slot`.
    pub(super) fn disown(&mut self, slot: usize) {
        self.owned.retain(|known| *known != slot);
    }

    pub(super) fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.bell.ring();
    }

    /// Whether its reading names `topic` outright, so that it cannot go on without it.
    pub(super) fn names(&self, topic: &Topic) -> bool {
        let mut exact = self.spec.topics.iter().filter_map(|p| p.as_exact());
        exact.any(|name| name == topic.as_str())
    }
}
