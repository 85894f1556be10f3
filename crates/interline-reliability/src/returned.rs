//! What an event carries through its group's return topic.

use bytes::Bytes;
use interline_core::{Envelope, Group, HeaderName, Recorded, Timestamp, Topic, TopicSpec};

use crate::dead_letter::{header, number, without_marks};

const DUE: &str = "interline-due";
const ATTEMPTS: &str = "interline-attempts";
const FIRST: &str = "interline-first-failure";

/// The return topic of `group` for what it reads of `topic`.
///
/// It has one partition. It is nearly always empty, but members share partitions by their number:
/// with as many as its topic has, one of two members could be left with nothing else.
#[must_use]
pub fn return_topic(topic: &Topic, group: &Group) -> TopicSpec {
    TopicSpec::new(topic.retry(group)).partitions(1)
}

/// The marks of an event on its way back to its group: when it is due and what was tried.
///
/// They are believed only on the group's own return topic; anywhere else they are just headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// Not to be tried before, in milliseconds since 1970.
    pub due: Option<i64>,
    /// The attempts made so far.
    pub attempts: u32,
    /// When the first attempt failed.
    pub first_failure: Option<Timestamp>,
    /// How often the event was redriven as a dead letter.
    pub redriven: u32,
}

impl Returned {
    /// The longest wait that is believed, in milliseconds: a week.
    const MAX_WAIT: i64 = 7 * 24 * 3_600 * 1_000;

    /// The event with these marks in its headers.
    #[must_use]
    pub fn mark(&self, envelope: &Envelope) -> Envelope {
        let mut envelope = without_marks(&envelope.detached());
        let headers = envelope.headers_mut();
        let mut push = |name, value: String| {
            headers.push(HeaderName::from_static(name), Bytes::from(value));
        };
        if let Some(due) = self.due {
            push(DUE, due.to_string());
        }
        if self.attempts > 0 {
            push(ATTEMPTS, self.attempts.to_string());
        }
        if let Some(first) = self.first_failure {
            push(FIRST, first.to_string());
        }
        if self.redriven > 0 {
            push(header::REDRIVEN, self.redriven.to_string());
        }
        envelope
    }

    /// Reads the marks of a record of `topic`; none unless it is a return topic.
    #[must_use]
    pub fn read(topic: &Topic, record: &Recorded) -> Self {
        if !topic.is_retry() {
            return Self::default();
        }
        let envelope = &record.envelope;
        let latest = record.stored_at.saturating_add(Self::MAX_WAIT);
        Self {
            due: number(envelope, DUE).map(|due: i64| due.min(latest)),
            attempts: number(envelope, ATTEMPTS).unwrap_or(0),
            first_failure: number(envelope, FIRST),
            redriven: number(envelope, header::REDRIVEN).unwrap_or(0),
        }
    }
}
