//! Which step may run next: no two at a time see the same server, which one of them may kill.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::steps::Step;

/// The steps that wait, in their order, and the servers in use.
pub(super) struct Queue<'a> {
    state: Mutex<State<'a>>,
    freed: Condvar,
}

struct State<'a> {
    waiting: Vec<(usize, &'a Step)>,
    in_use: BTreeSet<&'static str>,
}

impl State<'_> {
    fn is_free(&self, step: &Step) -> bool {
        step.servers().all(|server| !self.in_use.contains(server))
    }
}

/// A step with its servers to itself, which others may use when this is dropped.
pub(super) struct Turn<'q, 'a> {
    queue: &'q Queue<'a>,
    /// Among all steps of the queue.
    pub(super) place: usize,
    pub(super) step: &'a Step,
}

impl<'a> Queue<'a> {
    pub(super) fn new(steps: impl Iterator<Item = &'a Step>) -> Self {
        let state = State {
            waiting: steps.enumerate().collect(),
            in_use: BTreeSet::new(),
        };
        Self {
            state: Mutex::new(state),
            freed: Condvar::new(),
        }
    }

    /// The first step whose servers nobody uses, waited for if need be; none when all were taken.
    pub(super) fn next(&self) -> Option<Turn<'_, 'a>> {
        let busy = |s: &mut State<'a>| {
            !s.waiting.is_empty() && !s.waiting.iter().any(|(_, step)| s.is_free(step))
        };
        let waited = self.freed.wait_while(self.lock(), busy);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let first = state
            .waiting
            .iter()
            .position(|(_, step)| state.is_free(step))?;
        let (place, step) = state.waiting.remove(first);
        state.in_use.extend(step.servers());
        Some(Turn {
            queue: self,
            place,
            step,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        for server in self.step.servers() {
            state.in_use.remove(server);
        }
        self.queue.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::STEPS;
    use super::*;

    fn of(transports: &[&str]) -> Vec<&'static Step> {
        let wanted = |s: &&Step| transports.contains(&s.transport);
        STEPS.iter().filter(wanted).collect()
    }

    #[test]
    fn two_transports_run_beside_each_other_and_one_in_order() {
        let steps = of(&["redis", "nats"]);
        let queue = Queue::new(steps.iter().copied());
        let one = queue.next().unwrap();
        let other = queue.next().unwrap();
        assert_eq!(
            (one.step.transport, other.step.transport),
            ("redis", "nats")
        );
        drop(one);
        let next = queue.next().unwrap();
        assert_eq!((next.step.transport, next.place), ("redis", 1));
    }

    #[test]
    fn what_connects_two_servers_has_both_to_itself() {
        let bridge = STEPS.iter().find(|s| !s.beside.is_empty()).unwrap();
        let beside = of(bridge.beside);
        let queue = Queue::new([bridge, beside[0]].into_iter());
        let turn = queue.next().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.next().map(|turn| turn.place));
            drop(turn);
            assert_eq!(waiting.join().unwrap(), Some(1));
        });
        assert!(queue.next().is_none());
    }
}
