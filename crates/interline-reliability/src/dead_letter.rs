//! A dead letter: the original event with the cause of its death.

use std::fmt;

use bytes::Bytes;
use interline_core::{
    Envelope, Group, HeaderName, Partition, Position, Recorded, Timestamp, Topic, stable_hash,
};

use crate::{Failure, FailureKind};

pub(crate) mod header {
    pub(crate) const ID: &str = "interline-dl-id";
    pub(crate) const KIND: &str = "interline-dl-kind";
    pub(crate) const CAUSE: &str = "interline-dl-cause";
    pub(crate) const CLASS: &str = "interline-dl-class";
    pub(crate) const ATTEMPTS: &str = "interline-dl-attempts";
    pub(crate) const GROUP: &str = "interline-dl-group";
    pub(crate) const TOPIC: &str = "interline-dl-topic";
    pub(crate) const PARTITION: &str = "interline-dl-partition";
    pub(crate) const POSITION: &str = "interline-dl-position";
    pub(crate) const FIRST: &str = "interline-dl-first-failure";
    pub(crate) const LAST: &str = "interline-dl-last-failure";
    pub(crate) const HANDLER: &str = "interline-dl-handler";
    pub(crate) const FINGERPRINT: &str = "interline-dl-fingerprint";
    pub(crate) const REDRIVEN: &str = "interline-redriven";
    pub(crate) const SETTLED: &str = "interline-dl-settled";
    pub(crate) const DISPOSITION: &str = "interline-dl-disposition";
}

/// Where a dead letter was delivered when it died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The group whose handler failed.
    pub group: Group,
    /// The partition of the topic that the group reads; for an event that came back through the
    /// return topic, of the return topic.
    pub partition: Partition,
    /// The position in it.
    pub position: Position,
}

impl Origin {
    /// The topic where the event was first published.
    #[must_use]
    pub fn topic(&self) -> Topic {
        match self.partition.topic.origin() {
            Some((topic, _)) => topic,
            None => self.partition.topic.clone(),
        }
    }

    /// The number of the dead letter: the same however often it is stored.
    #[must_use]
    pub fn number(&self) -> u64 {
        let hash = stable_hash(&[
            b"dead letter",
            self.group.as_str().as_bytes(),
            self.partition.topic.as_str().as_bytes(),
            &self.partition.index.to_be_bytes(),
            &self.position.0.to_be_bytes(),
            &self.position.1.to_be_bytes(),
        ]);
        hash.as_u64_pair().0
    }
}

/// Why an event died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The kind of the last failure, such as `permanent` or `panic`.
    pub kind: String,
    /// Its text, at most 1 KiB.
    pub text: String,
    /// The Rust type of its error, if known.
    pub class: String,
    /// The attempts made: at least so many, since a crash may lose count.
    pub attempts: u32,
    /// When the first attempt failed.
    pub first_failure: Timestamp,
    /// When the last attempt failed.
    pub last_failure: Timestamp,
    /// The handler.
    pub handler: String,
}

impl Cause {
    /// The cause of an event whose last attempt ended in `failure` now.
    #[must_use]
    pub fn new(failure: &Failure, attempts: u32, first_failure: Timestamp, handler: &str) -> Self {
        Self {
            kind: failure.kind().as_str().to_owned(),
            text: failure.cause().to_owned(),
            class: failure.class().to_owned(),
            attempts,
            first_failure,
            last_failure: Timestamp::now(),
            handler: handler.to_owned(),
        }
    }

    /// A short name for causes of one sort: kind, class, handler and the text without its digits,
    /// hashed. Dead letters with one fingerprint most likely need one repair.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let text: String = self.text.chars().filter(|c| !c.is_ascii_digit()).collect();
        let hash = stable_hash(&[
            self.kind.as_bytes(),
            self.class.as_bytes(),
            self.handler.as_bytes(),
            text.as_bytes(),
        ]);
        format!("{:08x}", hash.as_fields().0)
    }
}

/// An event that will not be tried again by itself, with its cause.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Where it was delivered.
    pub origin: Origin,
    /// Why it died.
    pub cause: Cause,
    /// How often it had been redriven before.
    pub redriven: u32,
    /// The event as it was published: same id, attributes, headers and bytes.
    pub envelope: Envelope,
}

impl DeadLetter {
    /// The id by which commands name the dead letter: 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        letter_id(self.origin.number())
    }

    /// The dead letter of `envelope`, which may carry the marks of an earlier redrive.
    #[must_use]
    pub fn new(origin: Origin, cause: Cause, envelope: &Envelope) -> Self {
        let redriven = number(envelope, header::REDRIVEN).unwrap_or(0);
        Self {
            origin,
            cause,
            redriven,
            envelope: without_marks(&envelope.detached()),
        }
    }

    /// The event with the cause in its headers, as the dead-letter topic keeps it.
    #[must_use]
    pub fn to_envelope(&self) -> Envelope {
        let mut envelope = self.envelope.clone();
        let headers = envelope.headers_mut();
        let (origin, cause) = (&self.origin, &self.cause);
        let mut push = |name, value: String| {
            headers.push(HeaderName::from_static(name), Bytes::from(value));
        };
        push(header::ID, self.id());
        push(header::KIND, cause.kind.clone());
        push(header::CAUSE, cause.text.clone());
        push(header::CLASS, cause.class.clone());
        push(header::ATTEMPTS, cause.attempts.to_string());
        push(header::GROUP, origin.group.to_string());
        push(header::TOPIC, origin.partition.topic.to_string());
        push(header::PARTITION, origin.partition.index.to_string());
        push(header::POSITION, origin.position.to_string());
        push(header::FIRST, cause.first_failure.to_string());
        push(header::LAST, cause.last_failure.to_string());
        push(header::HANDLER, cause.handler.clone());
        push(header::FINGERPRINT, cause.fingerprint());
        if self.redriven > 0 {
            push(header::REDRIVEN, self.redriven.to_string());
        }
        envelope
    }

    /// Reads a dead letter from its topic; `None` if the record is none.
    #[must_use]
    pub fn from_record(record: &Recorded) -> Option<Self> {
        let envelope = &record.envelope;
        let text = |name| envelope.headers().text(name);
        let time = |name| text(name)?.parse().ok();
        let stored = Timestamp::from_unix_millis(record.stored_at);
        let topic = Topic::system(text(header::TOPIC)?).ok()?;
        Some(Self {
            origin: Origin {
                group: Group::new(text(header::GROUP)?).ok()?,
                partition: Partition::new(topic, text(header::PARTITION)?.parse().ok()?),
                position: text(header::POSITION)?.parse().ok()?,
            },
            cause: Cause {
                kind: text(header::KIND)?.to_owned(),
                text: text(header::CAUSE).unwrap_or_default().to_owned(),
                class: text(header::CLASS).unwrap_or_default().to_owned(),
                attempts: number(envelope, header::ATTEMPTS).unwrap_or(0),
                first_failure: time(header::FIRST).unwrap_or(stored),
                last_failure: time(header::LAST).unwrap_or(stored),
                handler: text(header::HANDLER).unwrap_or_default().to_owned(),
            },
            redriven: number(envelope, header::REDRIVEN).unwrap_or(0),
            envelope: without_marks(envelope),
        })
    }

    /// Whether the handler never saw the event as its type.
    #[must_use]
    pub fn is_undecodable(&self) -> bool {
        self.cause.kind == FailureKind::Undecodable.as_str()
    }
}

impl fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} from {} at {}: {}: {}",
            self.id(),
            self.envelope.ty(),
            self.origin.partition,
            self.origin.position,
            self.cause.kind,
            self.cause.text
        )
    }
}

pub(crate) fn letter_id(number: u64) -> String {
    format!("{number:016x}")
}

pub(crate) fn number<T: std::str::FromStr>(envelope: &Envelope, name: &str) -> Option<T> {
    envelope.headers().text(name)?.parse().ok()
}

/// The event without interline's own headers: as its publisher sent it, whatever it has been
/// through since.
#[must_use]
pub fn without_marks(envelope: &Envelope) -> Envelope {
    let mut envelope = envelope.clone();
    if envelope
        .headers()
        .iter()
        .any(|(name, _)| name.is_interline())
    {
        envelope.headers_mut().retain(|name| !name.is_interline());
    }
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;
    use interline_core::Kind;

    fn letter(cause: &str) -> DeadLetter {
        let envelope = Envelope::builder(Kind::new("/shop", "order.placed").unwrap())
            .key("ada")
            .header("x-trace", &b"\x00\xff"[..])
            .payload("{}")
            .build()
            .unwrap();
        let origin = Origin {
            group: Group::new("billing").unwrap(),
            partition: Partition::new(Topic::new("orders").unwrap(), 3),
            position: Position::from(17),
        };
        let failure = Failure::new(FailureKind::Permanent, cause.to_owned());
        let cause = Cause::new(&failure, 5, Timestamp::now(), "charge");
        DeadLetter::new(origin, cause, &envelope)
    }

    #[test]
    fn survives_its_topic() {
        let letter = letter("declined");
        let record = Recorded {
            position: Position::from(0),
            stored_at: 0,
            envelope: letter.to_envelope(),
        };
        assert_eq!(DeadLetter::from_record(&record), Some(letter));
    }

    #[test]
    fn storing_twice_gives_one_number_and_an_own_purpose() {
        assert_eq!(letter("a").id(), letter("b").id());
        assert_eq!(
            letter("order 1").cause.fingerprint(),
            letter("order 22").cause.fingerprint()
        );
        assert_ne!(
            letter("a").cause.fingerprint(),
            letter("b").cause.fingerprint()
        );
    }
}
