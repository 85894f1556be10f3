//! One envelope handed to one group.

use interline_core::{Envelope, Group, Partition, Position, Recorded, Topic};

/// One envelope handed to one group, as a handler sees it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub(crate) record: &'a Recorded,
    pub(crate) partition: &'a Partition,
    pub(crate) topic: &'a Topic,
    pub(crate) group: &'a Group,
    pub(crate) attempt: u32,
}

impl<'a> Delivery<'a> {
    /// The envelope.
    #[must_use]
    pub fn envelope(&self) -> &'a Envelope {
        &self.record.envelope
    }

    /// The topic where the event was published; the same for an event that came back through the
    /// return topic.
    #[must_use]
    pub fn topic(&self) -> &'a Topic {
        self.topic
    }

    /// The partition that it was read from.
    #[must_use]
    pub fn partition(&self) -> &'a Partition {
        self.partition
    }

    /// Its position there.
    #[must_use]
    pub fn position(&self) -> Position {
        self.record.position
    }

    /// When it was stored, in milliseconds since 1970 by the store's clock.
    #[must_use]
    pub fn stored_at(&self) -> i64 {
        self.record.stored_at
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &'a Group {
        self.group
    }

    /// Which attempt this is, from 1; after a crash at least so many.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}
