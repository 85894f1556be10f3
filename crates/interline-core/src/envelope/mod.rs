//! The envelope: the raw form of an event that every transport carries.

mod attribute;
mod builder;
mod headers;
mod id;
mod key;
mod kind;
mod time;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

pub use self::attribute::{AttributeValue, Attributes, check_attribute_name, extension};
pub use self::builder::EnvelopeBuilder;
pub use self::headers::{HeaderName, Headers, RESERVED_PREFIXES};
pub use self::id::stable_hash;
pub use self::id::{EventId, MAX_ID};
pub use self::key::Key;
pub use self::kind::{Kind, TypeName, check_text, is_attribute_char};
pub use self::time::Timestamp;

use crate::Result;

/// The raw form of an event: CloudEvents 1.0 attributes, free headers and a payload of bytes.
///
/// An envelope is immutable but for the `set_*` and `with_*` methods of its owner, and cheap to
/// clone: what events of one type share ([`Kind`]) and what few events have (subject, extension
/// attributes, headers) is behind one pointer each, the payload is [`Bytes`], a short key is in place.
///
/// The id never changes: not in retry, dead letter or redrive.
///
/// ```
/// use interline_core::{Envelope, Kind};
///
/// let kind = Kind::new("/shop", "shop.order.placed")?.content_type("application/json");
/// let envelope = Envelope::builder(kind)
///     .key("ada")
///     .subject("order/1")
///     .payload(r#"{"order":1}"#)
///     .build()?;
/// assert_eq!(envelope.ty(), "shop.order.placed");
/// assert_eq!(envelope.key().unwrap(), "ada");
/// assert_eq!(envelope.clone(), envelope);
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Envelope {
    id: EventId,
    kind: Arc<Kind>,
    time: Option<Timestamp>,
    key: Option<Key>,
    payload: Option<Bytes>,
    rest: Option<Arc<Rest>>,
}

/// What most events do not have, kept out of line so that an envelope stays small to move.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rest {
    subject: Option<ByteString>,
    attributes: Attributes,
    headers: Headers,
    foreign: bool,
}

static NO_ATTRIBUTES: Attributes = Attributes::new();
static NO_HEADERS: Headers = Headers::new();

impl Envelope {
    /// Starts an envelope of `kind` with a fresh id and no payload.
    pub fn builder(kind: impl Into<Arc<Kind>>) -> EnvelopeBuilder {
        EnvelopeBuilder::new(kind.into())
    }

    /// An envelope with nothing but what almost every event has; the fast way for publishers.
    ///
    /// Nothing is checked, because each part is valid by its type.
    #[must_use]
    pub fn from_parts(
        id: EventId,
        kind: Arc<Kind>,
        time: Option<Timestamp>,
        key: Option<Key>,
        payload: Option<Bytes>,
    ) -> Self {
        Self {
            id,
            kind,
            time,
            key,
            payload,
            rest: None,
        }
    }

    /// The id, unique per source.
    #[must_use]
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// What this event shares with others of its type and source.
    #[must_use]
    pub fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }

    /// The context in which the event happened: a URI reference.
    #[must_use]
    pub fn source(&self) -> &str {
        self.kind.source()
    }

    /// The type of the event.
    #[must_use]
    pub fn ty(&self) -> &str {
        self.kind.ty()
    }

    /// The type, read as `schema.entity.operation`.
    #[must_use]
    pub fn type_name(&self) -> TypeName<'_> {
        TypeName::new(self.ty())
    }

    /// The media type of the payload.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.kind.data_content_type()
    }

    /// The URI of the schema that the payload adheres to.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.kind.data_schema()
    }

    /// When the event happened.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// What the event is about, in the context of its source.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.rest.as_ref()?.subject.as_deref()
    }

    /// The key: events of one key stay in one partition, in order. An empty key is a key.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The payload; `None` is an event without data, which differs from empty data.
    #[must_use]
    pub fn payload(&self) -> Option<&Bytes> {
        self.payload.as_ref()
    }

    /// The extension attributes, in the order in which they were set.
    ///
    /// `partitionkey` is not among them: it is the [`key`](Self::key).
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        self.rest
            .as_ref()
            .map_or(&NO_ATTRIBUTES, |rest| &rest.attributes)
    }

    /// The free headers; order and duplicates are kept.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        self.rest.as_ref().map_or(&NO_HEADERS, |rest| &rest.headers)
    }

    /// Whether the event carried no CloudEvents attributes, so that they were synthesised.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.foreign)
    }

    /// The extension attribute `name` as text, if it is set.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes().get(name)
    }

    /// The id shared by every event of one business process.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.attribute(extension::CORRELATION_ID)?.as_str()
    }

    /// The id of the event that led to this one.
    #[must_use]
    pub fn causation_id(&self) -> Option<&str> {
        self.attribute(extension::CAUSATION_ID)?.as_str()
    }

    /// The tenant on whose behalf the event happened.
    #[must_use]
    pub fn tenant_id(&self) -> Option<&str> {
        self.attribute(extension::TENANT_ID)?.as_str()
    }

    /// The user who made the event happen.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.attribute(extension::USER_ID)?.as_str()
    }

    /// The session in which the event happened.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.attribute(extension::SESSION_ID)?.as_str()
    }

    /// The process instance that published the event.
    #[must_use]
    pub fn instance_id(&self) -> Option<&str> {
        self.attribute(extension::INSTANCE_ID)?.as_str()
    }

    /// The trace context of the event's origin (W3C `traceparent`).
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.attribute(extension::TRACEPARENT)?.as_str()
    }

    /// The vendor part of the trace context (W3C `tracestate`).
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.attribute(extension::TRACESTATE)?.as_str()
    }

    /// Where the event came from: an open set with the standard values `database`, `websocket`,
    /// `frontend`, `system` and `internal`, kept in the attribute `origin`.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.attribute(extension::ORIGIN)?.as_str()
    }

    /// Sets what the event is about.
    pub fn set_subject(&mut self, subject: impl Into<ByteString>) {
        self.rest_mut().subject = Some(subject.into());
    }

    /// Sets or replaces the extension attribute `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) unless `name` is 1 to 64 characters of
    /// `a-z0-9`, no core attribute and not `data`.
    pub fn set_attribute(
        &mut self,
        name: impl Into<ByteString>,
        value: impl Into<AttributeValue>,
    ) -> Result<()> {
        self.rest_mut().attributes.set(name, value)
    }

    /// The headers, to be changed by their owner.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.rest_mut().headers
    }

    /// Replaces the id, before the event is published for the first time.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = id;
        self
    }

    /// Replaces the key.
    #[must_use]
    pub fn with_key(mut self, key: Option<Key>) -> Self {
        self.key = key;
        self
    }

    /// Replaces the payload.
    #[must_use]
    pub fn with_payload(mut self, payload: Option<Bytes>) -> Self {
        self.payload = payload;
        self
    }

    /// Marks an envelope whose attributes were synthesised by a transport.
    #[must_use]
    pub fn into_foreign(mut self) -> Self {
        self.rest_mut().foreign = true;
        self
    }

    /// Sets causation and correlation from the event that led to this one: the causation is the
    /// parent's id, the correlation is the parent's, or the parent's id if it has none.
    ///
    /// The tenant of the parent is taken over unless one is set already.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use interline_core::{Envelope, Kind};
    ///
    /// let kind = Arc::new(Kind::new("/shop", "shop.order.paid")?);
    /// let parent = Envelope::builder(Arc::clone(&kind)).build()?;
    /// let child = Envelope::builder(kind).build()?.caused_by(&parent);
    /// assert_eq!(child.causation_id(), Some(&*parent.id().to_text()));
    /// assert_eq!(child.correlation_id(), child.causation_id());
    /// # Ok::<(), interline_core::Error>(())
    /// ```
    #[must_use]
    pub fn caused_by(mut self, parent: &Self) -> Self {
        let cause = parent.id.to_text();
        let correlation = match parent.attribute(extension::CORRELATION_ID) {
            Some(value) => value.clone(),
            None => AttributeValue::String(cause.clone()),
        };
        let attributes = &mut self.rest_mut().attributes;
        attributes.insert_known(extension::CAUSATION_ID, AttributeValue::String(cause));
        attributes.insert_known(extension::CORRELATION_ID, correlation);
        if let (Some(tenant), None) = (
            parent.attribute(extension::TENANT_ID),
            attributes.get(extension::TENANT_ID),
        ) {
            attributes.insert_known(extension::TENANT_ID, tenant.clone());
        }
        self
    }

    /// The bytes that the envelope takes on a wire, near enough for budgets and windows.
    #[must_use]
    pub fn size(&self) -> usize {
        let rest = self
            .rest
            .as_ref()
            .map_or(0, |rest| rest.headers.size() + rest.attributes.size());
        self.payload.as_ref().map_or(0, Bytes::len)
            + self.key.as_deref().map_or(0, <[u8]>::len)
            + self.kind.size()
            + rest
    }

    /// A copy that shares no buffer with what it was read from.
    ///
    /// A slice of a network buffer keeps the whole buffer alive; what outlives its batch (dead
    /// letters, long holds) is copied first.
    #[must_use]
    pub fn detached(&self) -> Self {
        let mut copy = self.clone();
        copy.key = self.key.as_deref().map(Key::copy_from_slice);
        copy.payload = self.payload.as_deref().map(Bytes::copy_from_slice);
        copy
    }

    fn rest_mut(&mut self) -> &mut Rest {
        Arc::make_mut(self.rest.get_or_insert_default())
    }
}

impl PartialEq for Envelope {
    /// Equal in every attribute, header and byte. Whether an envelope is foreign is not compared:
    /// it tells how the attributes came about, not what they are.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.kind == other.kind
            && self.time == other.time
            && self.key == other.key
            && self.payload == other.payload
            && self.subject() == other.subject()
            && self.attributes() == other.attributes()
            && self.headers() == other.headers()
    }
}

impl fmt::Debug for Envelope {
    /// Attributes and sizes, never the payload: it may be personal or secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("id", &self.id)
            .field("type", &self.ty())
            .field("source", &self.source())
            .field("time", &self.time)
            .field("key_bytes", &self.key.as_deref().map(<[u8]>::len))
            .field("payload_bytes", &self.payload.as_ref().map(Bytes::len))
            .field("attributes", &self.attributes().len())
            .field("headers", &self.headers().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_small() {
        // Two lines of the processor's cache.
        assert!(size_of::<Envelope>() <= 128, "{}", size_of::<Envelope>());
        assert!(size_of::<Option<Envelope>>() <= 128);
    }

    #[test]
    fn a_child_names_its_cause_and_keeps_the_correlation() {
        let kind = Arc::new(Kind::new("/shop", "a.b.c").unwrap());
        let root = Envelope::builder(Arc::clone(&kind))
            .attribute(extension::TENANT_ID, "acme")
            .build()
            .unwrap();
        let child = Envelope::builder(Arc::clone(&kind))
            .build()
            .unwrap()
            .caused_by(&root);
        let grandchild = Envelope::builder(kind).build().unwrap().caused_by(&child);
        assert_eq!(child.causation_id(), Some(&*root.id().to_text()));
        assert_eq!(child.correlation_id(), Some(&*root.id().to_text()));
        assert_eq!(grandchild.causation_id(), Some(&*child.id().to_text()));
        assert_eq!(grandchild.correlation_id(), Some(&*root.id().to_text()));
        assert_eq!(grandchild.tenant_id(), Some("acme"));
    }
}
