//! The names of everything that is stored.
//!
//! All keys of one topic carry its name in braces, so that they share a slot. A topic's name has
//! no brace, a group's and a member's neither, and no part has a colon: no two names meet.

use bytes::Bytes;
use interline_core::{Group, Topic};

/// Makes keys of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// A string: tells the data of this server from that of another, or from none.
    pub(crate) fn store(&self) -> Bytes {
        format!("{}:store", self.prefix).into()
    }

    /// A set: the names of the topics.
    pub(crate) fn topics(&self) -> Bytes {
        format!("{}:topics", self.prefix).into()
    }

    /// A hash: incarnation and settings of a topic, and the id of the last event of each
    /// partition under its number.
    pub(crate) fn topic(&self, topic: &Topic) -> Bytes {
        format!("{}:{{{topic}}}", self.prefix).into()
    }

    /// A stream: a partition.
    pub(crate) fn partition(&self, topic: &Topic, index: u32) -> Bytes {
        format!("{}:{{{topic}}}:{index}", self.prefix).into()
    }

    /// A string: the last batches of a publisher.
    pub(crate) fn session(&self, topic: &Topic, session: &str) -> Bytes {
        format!("{}:{{{topic}}}:session:{session}", self.prefix).into()
    }

    /// Two hashes: the events of the present and of the last dedupe window.
    pub(crate) fn seen(&self, topic: &Topic) -> [Bytes; 2] {
        ["seen", "seen-before"].map(|name| format!("{}:{{{topic}}}:{name}", self.prefix).into())
    }

    /// A hash: when each group was last seen.
    pub(crate) fn groups(&self, topic: &Topic) -> Bytes {
        format!("{}:{{{topic}}}:groups", self.prefix).into()
    }

    /// Three hashes of a group: members, leases, checkpoints.
    pub(crate) fn group(&self, topic: &Topic, group: &Group) -> [Bytes; 3] {
        ["members", "leases", "checkpoints"]
            .map(|name| format!("{}:{{{topic}}}:group:{group}:{name}", self.prefix).into())
    }

    /// A stream: wakes one reading.
    pub(crate) fn wake(&self, reading: &str) -> Bytes {
        format!("{}:wake:{reading}", self.prefix).into()
    }

    /// A string: what a group says of one event.
    pub(crate) fn inbox(&self, group: &Group, id: uuid::Uuid) -> Bytes {
        format!("{}:inbox:{group}:{id}", self.prefix).into()
    }
}
