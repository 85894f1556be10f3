//! What the tasks and the handles of one membership share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interline_core::{Batch, Budget, Error, ErrorKind, Fence, Flow, Partition, Result, Signal};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::ready::Ready;
use crate::lease::{End, Leases, MemberId, Order, Timing};

/// What the tasks and the handles of one membership share. Every change is made under one lock
/// that is never held across a wait, so that a signal is taken and returned in one piece.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scheme: &'static str,
    pub(super) timing: Timing,
    state: Mutex<State>,
    /// Wakes the feed.
    pub(super) feed: Notify,
    /// Wakes the reading task.
    pub(super) reader: Notify,
    /// Wakes the keeper.
    pub(super) keeper: Notify,
    pub(super) phase: watch::Sender<Phase>,
}

/// How far a close has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The stores are being told, until then.
    Closing(Instant),
    /// All stores know it, or not.
    Closed(bool),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) leases: Leases,
    pub(super) end: Option<End>,
    /// When somebody last asked the feed for a signal, or committed.
    asked: Instant,
    budget: Budget,
    ready: Ready,
    /// The keeper should look now.
    hurry: bool,
    /// The reading found no such topic: the list of topics decides what that means.
    pub(super) missing: Option<Arc<Error>>,
}

impl State {
    pub(super) fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }
}

/// What a feed does next.
pub(super) enum Step {
    Signal(Signal),
    Wait,
}

/// What the reading task does next.
pub(super) struct Turn {
    pub(super) orders: Vec<Order>,
    /// How much to read; `None` while there is enough.
    pub(super) budget: Option<Budget>,
}

/// What the keeper does next.
pub(super) enum Duty {
    /// Wait until then, or for a bell.
    Wait(Instant),
    Look,
    /// The membership is over.
    End,
}

impl Shared {
    pub(super) fn new(leases: Leases, timing: Timing, scheme: &'static str) -> Self {
        Self {
            scheme,
            timing,
            state: Mutex::new(State {
                leases,
                end: None,
                asked: Instant::now(),
                budget: Budget::default(),
                ready: Ready::default(),
                hurry: false,
                missing: None,
            }),
            feed: Notify::new(),
            reader: Notify::new(),
            keeper: Notify::new(),
            phase: watch::Sender::new(Phase::Open),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn see<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Makes a change, and wakes whom it concerns.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let (news, ended) = (state.leases.has_news(), state.end.is_some());
        drop(state);
        if news || ended {
            self.feed.notify_one();
            self.reader.notify_one();
        }
        if ended {
            self.keeper.notify_one();
        }
        result
    }

    pub(super) fn me(&self) -> MemberId {
        self.see(|state| state.leases.me().clone())
    }

    /// Notes that somebody is there; after a silence the keeper has to look at once.
    pub(super) fn ask(&self, state: &mut State, now: Instant) {
        if !self.is_asked(state, now) {
            state.hurry = true;
            self.keeper.notify_one();
        }
        state.asked = now;
    }

    /// Whether somebody reads the feed. Leases are renewed only for those who do: a member that
    /// has hung must not keep its partitions from others. The silence that is allowed is such
    /// that partitions are lost here a whole lease after the last question.
    fn is_asked(&self, state: &State, now: Instant) -> bool {
        let silence = self.timing.lease.saturating_sub(self.timing.give_up);
        now.saturating_duration_since(state.asked) <= silence.max(self.timing.tick * 2)
    }

    /// Loses what is over, and says whether anything was.
    pub(super) fn expire(&self, state: &mut State, now: Instant) -> bool {
        if state.leases.deadline().is_none_or(|due| due > now) {
            return false;
        }
        let lost = state.leases.expire(now);
        if lost > 0 {
            let (member, transport) = (state.leases.me(), self.scheme);
            tracing::warn!(
                target: "interline::lease",
                %member, transport, partitions = lost,
                "partitions are lost: their leases were not renewed, or they were not released in time"
            );
        }
        lost > 0
    }

    /// The next signal of the feed.
    pub(super) fn step(&self, budget: Budget, now: Instant) -> Result<Step> {
        let mut state = self.lock();
        self.ask(&mut state, now);
        state.budget = budget;
        if self.expire(&mut state, now) {
            self.reader.notify_one();
        }
        if let Some(signal) = state.leases.tell(now) {
            return Ok(Step::Signal(signal));
        }
        if let Some(end) = &state.end {
            return Err(end.error("read", self.scheme));
        }
        let State { ready, leases, .. } = &mut *state;
        let enough = !ready.wants_more(budget);
        let batch = ready.pop(budget, |partition, fence| leases.reads(partition, fence));
        if enough && ready.wants_more(budget) {
            self.reader.notify_one();
        }
        Ok(batch.map_or(Step::Wait, |batch| Step::Signal(Signal::Batch(batch))))
    }

    /// What the reading task does next; `None` at its end.
    pub(super) fn turn(&self) -> Option<Turn> {
        let mut state = self.lock();
        let orders: Vec<_> = state.leases.orders().collect();
        for order in &orders {
            match order {
                Order::Open(partition, ..) | Order::Close(partition) => {
                    state.ready.forget(partition);
                }
                Order::Flow(..) => {}
            }
        }
        if state.end.is_some() {
            return None;
        }
        let wants = state.missing.is_none() && state.ready.wants_more(state.budget);
        let budget = wants.then_some(state.budget);
        Some(Turn { orders, budget })
    }

    /// Takes what was read.
    pub(super) fn read(&self, read: Result<Batch>) {
        match read {
            Ok(batch) => {
                let first = self.lock().ready.push(batch);
                if first {
                    self.feed.notify_one();
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.lock().missing = Some(Arc::new(error));
                self.hurry();
            }
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn fail(&self, error: Error) {
        self.change(|state| state.finish(End::Failed(Arc::new(error))));
    }

    /// Has the keeper look now.
    pub(super) fn hurry(&self) {
        self.lock().hurry = true;
        self.keeper.notify_one();
    }

    /// What the keeper does next, if its next look is due at `next`.
    pub(super) fn duty(&self, next: Instant, now: Instant) -> Duty {
        self.change(|state| {
            self.expire(state, now);
            if state.end.is_some() {
                return Duty::End;
            }
            if std::mem::take(&mut state.hurry) || (next <= now && self.is_asked(state, now)) {
                return Duty::Look;
            }
            let next = if next <= now {
                now + self.timing.tick
            } else {
                next
            };
            Duty::Wait(state.leases.deadline().map_or(next, |due| due.min(next)))
        })
    }

    /// Stops a flow or opens it, under a fence that stands.
    pub(super) fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        self.change(|state| {
            if state.leases.flow(partition, fence, flow) && flow == Flow::Open {
                state.ready.unpark(partition);
            }
        });
    }

    /// Ends everything, with `end` unless it had ended before; the keeper tells the stores.
    pub(super) fn close(&self, until: Instant) {
        self.change(|state| {
            state.finish(End::Closed);
            state.leases.lose_all();
            // Nobody asks for what there is to tell of it.
            while state.leases.tell(until).is_some() {}
            state.ready.clear();
        });
        self.phase.send_if_modified(|phase| match phase {
            Phase::Open => {
                *phase = Phase::Closing(until);
                true
            }
            Phase::Closing(_) | Phase::Closed(_) => false,
        });
    }
}
