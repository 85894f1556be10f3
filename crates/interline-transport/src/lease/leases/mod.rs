//! Who owns what, as one member sees it: a state machine without I/O and without a clock.
//!
//! | file | responsibility |
//! |---|---|
//! | `slot` | one partition |
//! | `share` | from pictures of the group to calls |
//! | `tell` | signals of the feed, in order |

mod share;
mod slot;
mod tell;

use std::collections::BTreeMap;

use interline_core::{Checkpoint, Committed, Fence, Flow, Partition, Topic, planted};
use tokio::time::Instant;

pub use self::share::Calls;
pub use self::slot::Order;
use self::slot::{Out, Slot, State};
use crate::lease::{Entry, Grant, MemberId, Timing};

/// What one member of a group knows of its topics, and what follows from it.
///
/// Whoever drives it looks at every topic's store each [`Timing::tick`], hands the pictures to
/// [`looked`](Self::looked), makes the calls that this asks for, one topic's after the other and
/// all before the next look, and hands their answers back. In between the feed
/// [`tell`](Self::tell)s, and checkpoints are committed. All instants are of one local clock that
/// never goes back.
///
/// What makes it safe is the stores' fences; what it adds is that an owner stops by itself,
/// before others may take over, when it can renew no longer ([`expire`](Self::expire)).
#[derive(Debug)]
pub struct Leases {
    me: MemberId,
    timing: Timing,
    topics: BTreeMap<Topic, Known>,
    /// It was seen by a store under its present session.
    joined: bool,
    leaving: bool,
    /// When the next lease or deadline is over; sometimes too early, never too late.
    due: Option<Instant>,
    out: Out,
}

#[derive(Debug, Default)]
struct Known {
    /// When the last look began that was answered: the lease has run since then, or later.
    renewed: Option<Instant>,
    slots: Vec<Slot>,
}

impl Known {
    fn slot(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)
    }

    fn is_over(&self, now: Instant, timing: &Timing) -> bool {
        self.renewed
            .is_none_or(|at| now.saturating_duration_since(at) >= timing.give_up)
    }

    fn remove(&mut self, out: &mut Out) {
        self.slots.drain(..).for_each(|slot| slot.remove(out));
    }
}

/// A look that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    at: Instant,
    changes: u64,
}

impl Leases {
    /// A member that knows of no topic yet.
    #[must_use]
    pub fn new(me: MemberId, timing: Timing) -> Self {
        Self {
            me,
            timing,
            topics: BTreeMap::new(),
            joined: false,
            leaving: false,
            due: None,
            out: Out::default(),
        }
    }

    /// Under which name to look. The session changes once if the host's clock has gone back since
    /// the instance ran last.
    #[must_use]
    pub fn me(&self) -> &MemberId {
        &self.me
    }

    /// Takes part in a topic from the next look on.
    pub fn add_topic(&mut self, topic: Topic) {
        self.topics.entry(topic).or_default();
    }

    /// A topic was deleted: what was owned of it is lost.
    pub fn remove_topic(&mut self, topic: &Topic) {
        if let Some(mut known) = self.topics.remove(topic) {
            known.remove(&mut self.out);
        }
    }

    /// The topics, sorted.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.keys()
    }

    /// Takes no more partitions, from now on. Looks say so.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether it takes no more partitions.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// A look begins.
    #[must_use]
    pub fn look(&self, now: Instant) -> Look {
        Look {
            at: now,
            changes: self.out.changes,
        }
    }

    /// Takes what was granted of a topic. If the member is leaving, or was away for so long that
    /// the grants may be over, they are given back at the next look.
    pub fn claimed(&mut self, topic: &Topic, grants: Vec<Grant>, now: Instant) {
        let Some(known) = self.topics.get_mut(topic) else {
            return;
        };
        if self.leaving || known.is_over(now, &self.timing) {
            return;
        }
        for grant in grants {
            if let Some(slot) = known.slot(grant.index) {
                slot.hold(grant.fence, grant.progress, &mut self.out);
            }
        }
        self.set_due();
    }

    /// The owner stores a checkpoint. Answers what to ask the store for, or `None` if the
    /// partition is not owned under this fence: then the checkpoint is stale.
    #[must_use]
    pub fn commit(&self, checkpoint: Checkpoint) -> Option<Entry> {
        let Checkpoint {
            partition,
            fence,
            progress,
        } = checkpoint;
        let owned = self.slot_of(&partition)?.fence() == Some(fence);
        owned.then_some(Entry {
            index: partition.index,
            fence,
            progress: Some(progress),
        })
    }

    /// The owner gives a partition up with its last checkpoint. Answers what to ask the store
    /// for, or `None` if it is not owned under this fence: then the checkpoint is stale.
    pub fn release(&mut self, checkpoint: Checkpoint) -> Option<Entry> {
        let Checkpoint {
            partition,
            fence,
            progress,
        } = checkpoint;
        let slot = self
            .topics
            .get_mut(&partition.topic)?
            .slot(partition.index)?;
        let again = matches!(&slot.state, State::Giving { fence: given, progress: Some(_), .. } if *given == fence);
        if slot.fence() != Some(fence) && !again {
            return None;
        }
        slot.give(fence, Some(progress.clone()), true, &mut self.out);
        slot.told = None;
        Some(Entry {
            index: partition.index,
            fence,
            progress: Some(progress),
        })
    }

    /// Takes the store's answer to a release. Without one, or with
    /// [`NotNow`](Committed::NotNow), the release is repeated after the next look.
    pub fn released(&mut self, partition: &Partition, fence: Fence, answer: Option<Committed>) {
        let Some(slot) = self.slot_mut(partition) else {
            return;
        };
        let State::Giving {
            fence: given, busy, ..
        } = &mut slot.state
        else {
            return;
        };
        if *given != fence {
            return;
        }
        match answer {
            None | Some(Committed::NotNow) => *busy = false,
            Some(Committed::Applied | Committed::Stale) => {
                self.change(partition, |slot, out| slot.forget(out));
            }
        }
    }

    /// The store has refused a checkpoint by its fence: the partition is lost.
    pub fn stale(&mut self, partition: &Partition, fence: Fence) {
        let slot = self.slot_of(partition);
        if slot.and_then(Slot::fence) == Some(fence) {
            self.change(partition, Slot::lose);
        }
    }

    /// Loses what was not renewed for [`Timing::give_up`], and what was not released by its
    /// deadline; the store hears of the latter at the next look. Says how many were lost.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut lost = 0;
        for known in self.topics.values_mut() {
            let over = known.is_over(now, &self.timing);
            for slot in &mut known.slots {
                match slot.state {
                    State::Held { .. } | State::Revoking { .. } if over => slot.lose(&mut self.out),
                    State::Revoking { fence, until } if until <= now => {
                        slot.lose(&mut self.out);
                        slot.give(fence, None, false, &mut self.out);
                    }
                    _ => continue,
                }
                lost += 1;
            }
        }
        self.set_due();
        lost
    }

    /// When [`expire`](Self::expire) may have something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn set_due(&mut self) {
        let of_topic = |known: &Known| {
            let over = known.renewed? + self.timing.give_up;
            let owned = known.slots.iter().filter(|slot| slot.fence().is_some());
            let of_slot = |slot: &Slot| match slot.state {
                State::Revoking { until, .. } => until.min(over),
                _ => over,
            };
            owned.map(of_slot).min()
        };
        self.due = self.topics.values().filter_map(of_topic).min();
    }

    /// What the stores have yet to be told when the membership ends: last checkpoints.
    pub fn last_releases(&mut self) -> Vec<(Topic, Vec<Entry>)> {
        let mut calls = BTreeMap::new();
        self.give_up(&mut calls);
        let release = |(topic, calls): (Topic, Calls)| (topic, calls.release);
        calls.into_iter().map(release).collect()
    }

    /// Loses everything: the membership is over.
    pub fn lose_all(&mut self) {
        for known in self.topics.values_mut() {
            known
                .slots
                .iter_mut()
                .for_each(|slot| slot.lose(&mut self.out));
        }
    }

    /// Whether records that were read under `fence` may be delivered: `None` if the feed has not
    /// told of this ownership or has told of its end, else the partition's flow.
    #[must_use]
    pub fn reads(&self, partition: &Partition, fence: Fence) -> Option<Flow> {
        let slot = self.slot_of(partition)?;
        let held = matches!(slot.state, State::Held { fence: held, .. } if held == fence);
        let flow = match planted::is("flow-ignored") {
            true => Flow::Open,
            false => slot.flow,
        };
        (held && slot.told == Some(fence)).then_some(flow)
    }

    /// Sets the flow of a partition that is owned under `fence`, and says whether it changed.
    pub fn flow(&mut self, partition: &Partition, fence: Fence, flow: Flow) -> bool {
        let Some(slot) = self.slot_mut(partition) else {
            return false;
        };
        let held = matches!(slot.state, State::Held { fence: held, .. } if held == fence);
        if !held || slot.flow == flow {
            return false;
        }
        slot.flow = flow;
        let order = Order::Flow(partition.clone(), flow);
        self.out.orders.push_back(order);
        true
    }

    /// What the reading has to do, in order, since this was asked last.
    pub fn orders(&mut self) -> impl Iterator<Item = Order> {
        self.out.orders.drain(..)
    }

    /// Whether there is something to tell or to do for the reading.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.out.orders.is_empty() || !self.out.notices.is_empty()
    }

    fn slot_of(&self, partition: &Partition) -> Option<&Slot> {
        let known = self.topics.get(&partition.topic)?;
        known.slots.get(partition.index as usize)
    }

    fn slot_mut(&mut self, partition: &Partition) -> Option<&mut Slot> {
        self.topics.get_mut(&partition.topic)?.slot(partition.index)
    }

    fn change(&mut self, partition: &Partition, change: impl FnOnce(&mut Slot, &mut Out)) {
        let known = self.topics.get_mut(&partition.topic);
        if let Some(slot) = known.and_then(|known| known.slot(partition.index)) {
            change(slot, &mut self.out);
        }
    }
}
