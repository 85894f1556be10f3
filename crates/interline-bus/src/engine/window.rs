//! What has been read of a partition but lies beyond its frontier.

use std::collections::VecDeque;

use interline_core::{Position, Range};

/// The deliveries of one partition between the frontier and the last one read, in order.
///
/// The frontier is the last position before which everything is settled. Positions need not be
/// dense: two neighbours in the window are neighbours in the log, so a run of settled neighbours
/// is one range.
#[derive(Debug, Default)]
pub(super) struct Window {
    frontier: Option<Position>,
    slots: VecDeque<Slot>,
    /// The sequence number of the first slot.
    base: u64,
    /// Runs of settled slots beyond the frontier.
    ranges: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    position: Position,
    bytes: usize,
    done: bool,
}

impl Window {
    pub(super) fn new(frontier: Option<Position>) -> Self {
        Self {
            frontier,
            ..Self::default()
        }
    }

    pub(super) fn frontier(&self) -> Option<Position> {
        self.frontier
    }

    /// How many deliveries lie beyond the frontier.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The bytes of their envelopes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many ranges a checkpoint needs now.
    pub(super) fn ranges(&self) -> usize {
        self.ranges
    }

    /// Moves the frontier over a delivery that was settled as soon as it was read; only while
    /// nothing lies beyond the frontier.
    pub(super) fn pass(&mut self, position: Position) {
        debug_assert!(self.slots.is_empty());
        self.frontier = Some(position);
    }

    /// Adds the next delivery that was read and returns its sequence number.
    pub(super) fn push(&mut self, position: Position, bytes: usize) -> u64 {
        self.slots.push_back(Slot {
            position,
            bytes,
            done: false,
        });
        self.bytes += bytes;
        self.base + self.slots.len() as u64 - 1
    }

    /// Whether `seq` is the delivery that the frontier waits for.
    pub(super) fn is_front(&self, seq: u64) -> bool {
        seq == self.base
    }

    /// Marks a delivery as settled and moves the frontier as far as it goes.
    pub(super) fn settle(&mut self, seq: u64) {
        let Some(at) = seq
            .checked_sub(self.base)
            .and_then(|at| usize::try_from(at).ok())
        else {
            return;
        };
        let done = |at: usize| self.slots.get(at).is_some_and(|slot| slot.done);
        let (before, after) = (at.checked_sub(1).is_some_and(done), done(at + 1));
        match self.slots.get_mut(at) {
            Some(slot) if !slot.done => slot.done = true,
            _ => return,
        }
        match (before, after) {
            (false, false) => self.ranges += 1,
            (true, true) => self.ranges -= 1,
            _ => {}
        }
        if at == 0 {
            self.ranges -= 1;
            self.advance();
        }
    }

    fn advance(&mut self) {
        while let Some(slot) = self.slots.front()
            && slot.done
        {
            self.frontier = Some(slot.position);
            self.bytes -= slot.bytes;
            self.slots.pop_front();
            self.base += 1;
        }
    }

    /// What is settled beyond the frontier.
    pub(super) fn done(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::with_capacity(self.ranges);
        let mut open = false;
        for slot in &self.slots {
            match (slot.done, open, ranges.last_mut()) {
                (true, true, Some(range)) => range.last = slot.position,
                (true, _, _) => ranges.push(Range {
                    first: slot.position,
                    last: slot.position,
                }),
                (false, _, _) => {}
            }
            open = slot.done;
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the order of settling, frontier and ranges are what a naive list says.
        #[test]
        fn agrees_with_a_list(gaps in prop::collection::vec(1_u64..5, 1..40), order in any::<u64>()) {
            let mut window = Window::new(None);
            let mut at = 0;
            let positions: Vec<Position> = gaps.iter().map(|gap| { at += gap; Position::from(at) }).collect();
            let mut open: Vec<(u64, Position)> = positions
                .iter()
                .map(|position| (window.push(*position, 1), *position))
                .collect();
            let mut random = fastrand::Rng::with_seed(order);
            let mut settled = Vec::new();
            while !open.is_empty() {
                let (seq, position) = open.swap_remove(random.usize(..open.len()));
                window.settle(seq);
                settled.push(position);
                let frontier = positions.iter().take_while(|p| settled.contains(p)).last().copied();
                prop_assert_eq!(window.frontier(), frontier);
                let beyond: Vec<Position> = positions
                    .iter()
                    .filter(|p| Some(**p) > frontier && settled.contains(p))
                    .copied()
                    .collect();
                let ranges = window.done();
                prop_assert_eq!(ranges.len(), window.ranges());
                for position in &positions {
                    let covered = ranges.iter().any(|r| r.first <= *position && *position <= r.last);
                    prop_assert_eq!(covered, beyond.contains(position));
                }
                prop_assert_eq!(window.len(), window.bytes());
            }
            prop_assert_eq!(window.len(), 0);
        }
    }
}
