//! The events of a topic, nearly as they were handed over.

use std::collections::VecDeque;

use interline_core::{Envelope, Outgoing};

/// Batches from this size on are kept as they are; smaller ones share a segment of this size.
const SHARED: usize = 64;

/// The batches of a topic, each kept as its publisher handed it over until no partition needs an
/// event of it any more: publishing a batch moves no envelope.
///
/// A segment whose events lie in several partitions lives as long as the slowest of them, so what
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
    live: u32,
    bytes: u64,
    /// Small batches may be added while there is space.
    shared: bool,
}

/// Where an event is. Numbers of segments wrap; there are never as many at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    segment: u32,
    at: u32,
}

impl Slot {
    /// The slot of the event that follows in the same batch.
    pub(super) fn next(self) -> Self {
        Self {
            segment: self.segment,
            at: self.at + 1,
        }
    }
}

/// Segments that nobody needs any more, to be dropped when the lock is released.
pub(super) type Dead = Vec<Vec<Outgoing>>;

impl Segments {
    /// The slot that the first event of a batch of this size gets, if it is [`push`](Self::push)ed
    /// next.
    pub(super) fn first_slot(&self, events: usize) -> Slot {
        match self.ring.back() {
            Some(last) if last.takes(events) => Slot {
                segment: self.number(self.ring.len() - 1),
                at: last.events.len() as u32,
            },
            _ => Slot {
                segment: self.number(self.ring.len()),
                at: 0,
            },
        }
    }

    fn number(&self, at: usize) -> u32 {
        self.base.wrapping_add(at as u32)
    }

    /// Keeps a batch of which `live` events with these bytes were stored.
    pub(super) fn push(&mut self, mut batch: Vec<Outgoing>, live: u32, bytes: u64) {
        if live == 0 {
            return;
        }
        self.bytes += bytes;
        if let Some(last) = self.ring.back_mut()
            && last.takes(batch.len())
        {
            last.events.append(&mut batch);
            last.live += live;
            last.bytes += bytes;
            return;
        }
        let shared = batch.len() < SHARED;
        if shared {
            let mut events = Vec::with_capacity(SHARED);
            events.append(&mut batch);
            batch = events;
        } else if batch.capacity() / 2 > batch.len() {
            batch.shrink_to_fit();
        }
        self.ring.push_back(Segment {
            events: batch,
            live,
            bytes,
            shared,
        });
    }

    pub(super) fn envelope(&self, slot: Slot) -> &Envelope {
        let segment = &self.ring[slot.segment.wrapping_sub(self.base) as usize];
        &segment.events[slot.at as usize].envelope
    }

    /// The bytes of all segments that are kept.
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

impl Segment {
    /// What died has no capacity and takes nothing.
    fn takes(&self, events: usize) -> bool {
        self.shared && self.events.len() + events <= self.events.capacity()
    }
}
