//! The policy of a group: one ordered value.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use interline_core::{Error, ErrorKind, Group, Result, Topic};

use crate::{Inbox, Retry};

/// What happens to a delivery that does not simply succeed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Policy {
    /// How often and when it is tried again.
    pub retry: Retry,
    /// Where it goes when it is not tried again.
    pub dead_letter: DeadLetterPolicy,
    /// How long an attempt may take and a hold may last.
    pub timeouts: Timeouts,
    /// What was handled before, if the group keeps account of it.
    pub inbox: Option<Arc<dyn Inbox>>,
    /// What happens to types without a handler.
    pub unhandled: Unhandled,
}

/// Where an event goes that is not tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterPolicy {
    /// The topic; `None` is `<topic>.<group>.dlq`.
    pub topic: Option<Topic>,
    /// What happens to the partition afterwards.
    pub after: AfterDeadLetter,
}

impl DeadLetterPolicy {
    /// All dead letters of the group go to `topic`, whose name has to end in `.dlq`: what is read
    /// from any other topic is not believed to be a dead letter, since anybody may write there.
    #[must_use]
    pub fn to(topic: Topic) -> Self {
        Self {
            topic: Some(topic),
            after: AfterDeadLetter::GoOn,
        }
    }

    /// Sets what happens to the partition afterwards.
    #[must_use]
    pub fn then(mut self, after: AfterDeadLetter) -> Self {
        self.after = after;
        self
    }

    /// Checks that the topic, if one is named, can hold dead letters.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless its name ends in `.dlq`.
    pub fn check(&self) -> Result<()> {
        match &self.topic {
            Some(topic) if !topic.is_dlq() => Err(Error::new(
                ErrorKind::Config,
                "start",
                format!("`{topic}` cannot hold dead letters"),
            )
            .remedy("name a topic that ends in `.dlq`, made by `Topic::system`")),
            _ => Ok(()),
        }
    }

    /// The topic for dead letters of `group` from `topic`.
    #[must_use]
    pub fn topic_for(&self, topic: &Topic, group: &Group) -> Topic {
        self.topic.clone().unwrap_or_else(|| topic.dlq(group))
    }
}

/// What happens to a partition after one of its events became a dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AfterDeadLetter {
    /// The key goes on with its next event.
    #[default]
    GoOn,
    /// The partition stops with an alarm until the group is started again.
    StopPartition,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// One attempt of a handler.
    pub handler: Duration,
    /// The longest delay that is held in memory; a longer one goes through the return topic and
    /// gives up the key's order.
    pub max_hold: Duration,
    /// How long a handler may block its thread beyond its timeout before its partitions are
    /// given up.
    pub stuck: Duration,
}

impl Default for Timeouts {
    /// 30 s, 60 s, 30 s.
    fn default() -> Self {
        Self {
            handler: Duration::from_secs(30),
            max_hold: Duration::from_secs(60),
            stuck: Duration::from_secs(30),
        }
    }
}

/// What happens to an event whose type has no handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unhandled {
    /// It is acked and counted.
    #[default]
    Ack,
    /// It becomes a dead letter.
    DeadLetter,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = match &self.dead_letter.topic {
            Some(topic) => topic.as_str(),
            None => "<topic>.<group>.dlq",
        };
        let after = match self.dead_letter.after {
            AfterDeadLetter::GoOn => "the key goes on",
            AfterDeadLetter::StopPartition => "the partition stops",
        };
        let unhandled = match self.unhandled {
            Unhandled::Ack => "acked and counted",
            Unhandled::DeadLetter => "dead-lettered",
        };
        writeln!(f, "retry: {}", self.retry)?;
        writeln!(f, "dead letters: to {topic}, then {after}")?;
        writeln!(f, "handler timeout: {:?}", self.timeouts.handler)?;
        writeln!(f, "longest hold: {:?}", self.timeouts.max_hold)?;
        match &self.inbox {
            Some(inbox) => writeln!(f, "dedupe: {inbox:?}")?,
            None => writeln!(f, "dedupe: off")?,
        }
        write!(f, "unhandled types: {unhandled}")
    }
}
