//! What a reading thread hands to the task that asks for it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use interline_core::{Batch, Budget, Error, ErrorKind, Fence, Flow, Partition, Signal};

use crate::SCHEME;
use crate::wake::Wake;

/// How many batches may wait. Enough to keep both sides busy, few enough to bound memory.
const BATCHES: usize = 8;

/// Signals in order, from one thread to one task.
///
/// A stop counts here and not only for the thread: what the thread has read ahead would otherwise
/// follow a stop, eight batches in the worst case, and the owner has no room for them.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: OnceLock<Wake>,
}

#[derive(Debug, Default)]
struct State {
    signals: VecDeque<Signal>,
    /// How many of them are batches.
    batches: usize,
    stopped: Vec<Stopped>,
    budget: Budget,
    waker: Option<Waker>,
    end: Option<End>,
}

/// A partition whose flow is stopped.
#[derive(Debug)]
struct Stopped {
    partition: Partition,
    fence: Fence,
    /// What had been read ahead. It takes no room from other partitions: the thread reads no
    /// more of this one once it has heard of the stop.
    kept: VecDeque<Signal>,
}

/// Why no further signal comes.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// All that was asked for has been read.
    Complete,
    /// The handle was closed.
    Closed,
    /// The reading can never go on.
    Failed(Failure),
}

/// An error that is returned again and again.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) remedy: &'static str,
}

impl Failure {
    pub(crate) fn error(&self, operation: &'static str) -> Error {
        Error::new(self.kind, operation, self.message.clone())
            .on(SCHEME)
            .remedy(self.remedy)
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            wake: OnceLock::new(),
        }
    }

    /// Whose wait ends when there is room again.
    pub(crate) fn woken_by_room(&self, wake: Wake) {
        // Set once, by the thread that fills the box.
        let _ = self.wake.set(wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; a poisoned state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next batch may carry, or nothing if enough are waiting.
    pub(crate) fn room(&self) -> Option<Budget> {
        let state = self.lock();
        (state.batches < BATCHES && state.end.is_none()).then_some(state.budget)
    }

    pub(crate) fn push(&self, signal: Signal) {
        let mut state = self.lock();
        if let Signal::Batch(batch) = &signal {
            let mut stopped = state.stopped.iter_mut();
            if let Some(stopped) = stopped.find(|stopped| stopped.is_of(batch)) {
                stopped.kept.push_back(signal);
                return;
            }
            state.batches += 1;
        }
        state.signals.push_back(signal);
        wake(state);
    }

    /// Stops or opens the flow of a partition: no batch of a stopped one is handed over.
    pub(crate) fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        let mut state = self.lock();
        match flow {
            Flow::Stopped => state.stop(partition, fence),
            Flow::Open => {
                state.open(partition, fence);
                wake(state);
            }
        }
    }

    /// Takes back batches of partitions whose ownership ends: nobody may settle them any more.
    pub(crate) fn retract(&self, partitions: &[Partition]) {
        let mut state = self.lock();
        state
            .stopped
            .retain(|stopped| !partitions.contains(&stopped.partition));
        state.signals.retain(|signal| match signal {
            Signal::Batch(batch) => !partitions.contains(&batch.partition),
            _ => true,
        });
        state.count();
    }

    /// Ends the reading; what waits is still delivered if the reading is complete.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        if !matches!(end, End::Complete) {
            state.signals.clear();
            state.stopped.clear();
            state.batches = 0;
        }
        state.end = Some(end);
        wake(state);
    }

    /// The next signal within `budget`, or why there is none.
    pub(crate) fn poll_next(&self, cx: &Context<'_>, budget: Budget) -> Poll<Result<Signal, End>> {
        let mut state = self.lock();
        state.budget = budget;
        let Some(signal) = state.signals.pop_front() else {
            if let Some(end) = &state.end {
                return Poll::Ready(Err(end.clone()));
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let signal = match signal {
            Signal::Batch(batch) => match split(batch, budget) {
                (batch, Some(rest)) => {
                    state.signals.push_front(Signal::Batch(rest));
                    Signal::Batch(batch)
                }
                (batch, None) => {
                    state.batches -= 1;
                    Signal::Batch(batch)
                }
            },
            other => other,
        };
        // Half empty, not merely one short: the thread then fills several at one wake-up.
        let refill = state.batches == BATCHES / 2;
        drop(state);
        if refill && let Some(wake) = self.wake.get() {
            wake.wake();
        }
        Poll::Ready(Ok(signal))
    }
}

impl State {
    fn stop(&mut self, partition: &Partition, fence: Fence) {
        let known = self.stopped.iter().position(|s| s.partition == *partition);
        match known.map(|at| self.stopped[at].fence) {
            // Told by a former owner, or told twice.
            Some(known) if known >= fence => return,
            _ => {}
        }
        if let Some(at) = known {
            self.stopped.swap_remove(at);
        }
        let mut stopped = Stopped {
            partition: partition.clone(),
            fence,
            kept: VecDeque::new(),
        };
        let signals = std::mem::take(&mut self.signals);
        for signal in signals {
            match &signal {
                Signal::Batch(batch) if stopped.is_of(batch) => stopped.kept.push_back(signal),
                _ => self.signals.push_back(signal),
            }
        }
        self.stopped.push(stopped);
        self.count();
    }

    fn open(&mut self, partition: &Partition, fence: Fence) {
        let mut stopped = self.stopped.iter();
        let at = stopped.position(|s| s.partition == *partition && s.fence == fence);
        if let Some(at) = at {
            // Nothing of the partition can have passed it: newer batches were kept behind it,
            // and an end of the ownership would have taken it back.
            let stopped = self.stopped.swap_remove(at);
            self.signals.extend(stopped.kept);
            self.count();
        }
    }

    fn count(&mut self) {
        let batches = |signal: &&Signal| matches!(signal, Signal::Batch(_));
        self.batches = self.signals.iter().filter(batches).count();
    }
}

impl Stopped {
    fn is_of(&self, batch: &Batch) -> bool {
        self.partition == batch.partition && self.fence == batch.fence
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What of `batch` fits into `budget`, at least one record, and the rest.
fn split(mut batch: Batch, budget: Budget) -> (Batch, Option<Batch>) {
    let mut bytes = 0;
    let fits = batch
        .records
        .iter()
        .take(budget.events)
        .take_while(|record| {
            bytes += record.envelope.size();
            bytes <= budget.bytes
        })
        .count()
        .max(1);
    if fits >= batch.records.len() {
        return (batch, None);
    }
    let rest = Batch {
        partition: batch.partition.clone(),
        fence: batch.fence,
        records: batch.records.split_off(fits),
    };
    (batch, Some(rest))
}

#[cfg(test)]
mod tests;
