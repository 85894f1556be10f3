//! The id of an event and the identity by which copies of it are recognised.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Timestamp;
use crate::{Error, ErrorKind, Result};

/// The longest id that a caller may choose, in bytes.
pub const MAX_ID: usize = 128;

/// The id of an event, unique per source: a UUID (version 7 by default) or the caller's text.
///
/// ```
/// use interline_core::EventId;
///
/// let id = EventId::new();
/// assert_eq!(EventId::parse(id.to_text())?, id);
/// assert_eq!(EventId::parse("order-1")?.to_string(), "order-1");
/// assert!(EventId::parse("").is_err());
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Uuid(Uuid),
    Text(Arc<str>),
}

impl EventId {
    /// A fresh id: a UUID of version 7, which sorts by the millisecond of its making.
    ///
    /// Its 74 random bits come from a generator of this thread that the system seeded: a call to
    /// the system for each event would cost more than the rest of publishing.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "every call gives another id")]
    pub fn new() -> Self {
        Self::at(Timestamp::now())
    }

    /// A fresh id made at a time that is known already.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        let millis = u64::try_from(time.unix_millis()).unwrap_or(0);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&fastrand::u64(..).to_ne_bytes());
        random[8..].copy_from_slice(&fastrand::u16(..).to_ne_bytes());
        Self::from(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The id with this text.
    ///
    /// Text in the canonical form of a UUID (36 characters, lower case) is kept as a UUID; any
    /// other text is kept as it is, so that the text always round-trips.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for empty text, more than [`MAX_ID`] bytes or a control character.
    pub fn parse(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        let canonical = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
        if canonical && let Ok(uuid) = Uuid::try_parse(text) {
            return Ok(Self(Repr::Uuid(uuid)));
        }
        if text.is_empty() || text.len() > MAX_ID || text.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "envelope",
                "the event id is empty, too long or holds a control character",
            )
            .remedy(format!("use 1 to {MAX_ID} bytes of printable text")));
        }
        Ok(Self(Repr::Text(text.into())))
    }

    /// The UUID, if the id is one.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self.0 {
            Repr::Uuid(uuid) => Some(uuid),
            Repr::Text(_) => None,
        }
    }

    /// The text of the id.
    #[must_use]
    pub fn to_text(&self) -> ByteString {
        match &self.0 {
            Repr::Uuid(uuid) => {
                let mut buffer = Uuid::encode_buffer();
                ByteString::from(&*uuid.hyphenated().encode_lower(&mut buffer))
            }
            Repr::Text(text) => ByteString::from(&**text),
        }
    }

    /// The id of the `index`th event that `group` publishes while it handles the event with this
    /// id: the same in every rerun, so that a rerun publishes no new events.
    ///
    /// It is a UUID of version 8 made from the first 16 bytes of SHA-256 over the three parts.
    #[must_use]
    pub fn derived(&self, group: &str, index: u32) -> Self {
        let text = self.to_text();
        Self(Repr::Uuid(stable_hash(&[
            b"derived",
            text.as_bytes(),
            group.as_bytes(),
            &index.to_be_bytes(),
        ])))
    }

    /// The identity by which copies are recognised: source and id together.
    ///
    /// A UUID is unique by itself and is used as it is; any other id is hashed with the source
    /// (SHA-256, 16 bytes). A store adds the purpose of the copy, see
    /// [`Purpose`](crate::Purpose).
    #[must_use]
    pub fn identity(&self, source: &str) -> Uuid {
        match &self.0 {
            Repr::Uuid(uuid) => *uuid,
            Repr::Text(text) => stable_hash(&[b"identity", source.as_bytes(), text.as_bytes()]),
        }
    }
}

/// A UUID of version 8 from SHA-256 over length-prefixed parts, so that no two lists of parts
/// give the same bytes.
#[must_use]
pub fn stable_hash(parts: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(Repr::Uuid(uuid))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(uuid) => write!(f, "{uuid}"),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_depends_on_the_source_unless_the_id_is_a_uuid() {
        let text = EventId::parse("1").unwrap();
        assert_ne!(text.identity("/a"), text.identity("/b"));
        let uuid = EventId::new();
        assert_eq!(uuid.identity("/a"), uuid.identity("/b"));
    }

    #[test]
    fn derived_ids_are_stable_and_distinct() {
        let id = EventId::parse("order-1").unwrap();
        assert_eq!(id.derived("g", 0), id.derived("g", 0));
        assert_ne!(id.derived("g", 0), id.derived("g", 1));
        assert_ne!(id.derived("g", 0), id.derived("h", 0));
    }

    #[test]
    fn an_upper_case_uuid_keeps_its_text() {
        let text = "0193F0A0-0000-7000-8000-00000000000A";
        assert_eq!(EventId::parse(text).unwrap().to_string(), text);
    }
}
