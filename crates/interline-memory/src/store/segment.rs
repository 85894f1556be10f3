//! The events of a topic as they were handed over.

use std::collections::VecDeque;

use interline_core::{Envelope, Outgoing};

/// The batches of a topic, each kept as its publisher handed it over until no partition needs an
/// event of it any more: publishing moves no envelope.
///
/// A batch whose events lie in several partitions lives as long as the slowest of them, so what
/// is kept is counted here.
#[derive(Debug, Default)]
pub(super) struct Segments {
    base: u32,
    ring: VecDeque<Segment>,
    bytes: u64,
}

#[derive(Debug)]
struct Segment {
    events: Vec<Outgoing>,
    stored_at: i64,
    live: u32,
    bytes: u64,
}

/// Where an event is. Numbers of segments wrap; there are never as many at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    segment: u32,
    at: u32,
}

/// Batches that nobody needs any more, to be dropped when the lock is released.
pub(super) type Dead = Vec<Vec<Outgoing>>;

impl Segments {
    /// The place that the event at `at` of the batch will have which is pushed next.
    pub(super) fn next_slot(&self, at: usize) -> Slot {
        Slot {
            segment: self.base.wrapping_add(self.ring.len() as u32),
            at: at as u32,
        }
    }

    /// Keeps a batch of which `live` events with these bytes were stored.
    pub(super) fn push(&mut self, mut events: Vec<Outgoing>, live: u32, bytes: u64, now: i64) {
        if live == 0 {
            return;
        }
        if events.capacity() / 2 > events.len() {
            events.shrink_to_fit();
        }
        self.bytes += bytes;
        self.ring.push_back(Segment {
            events,
            stored_at: now,
            live,
            bytes,
        });
    }

    fn at(&self, slot: Slot) -> &Segment {
        &self.ring[slot.segment.wrapping_sub(self.base) as usize]
    }

    pub(super) fn envelope(&self, slot: Slot) -> &Envelope {
        &self.at(slot).events[slot.at as usize].envelope
    }

    pub(super) fn stored_at(&self, slot: Slot) -> i64 {
        self.at(slot).stored_at
    }

    /// The bytes of all batches that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An event is not needed any more.
    pub(super) fn release(&mut self, slot: Slot, dead: &mut Dead) {
        let segment = &mut self.ring[slot.segment.wrapping_sub(self.base) as usize];
        segment.live -= 1;
        if segment.live > 0 {
            return;
        }
        self.bytes -= segment.bytes;
        dead.push(std::mem::take(&mut segment.events));
        while self
            .ring
            .pop_front_if(|segment| segment.live == 0)
            .is_some()
        {
            self.base = self.base.wrapping_add(1);
        }
    }
}
