//! CloudEvents binary mode: an envelope as headers beside key and payload, and back. Structured
//! mode (the payload is the whole event) is read too, never written.
//!
//! What other clients wrote is never lost and never stops a reading: a record without CloudEvents
//! attributes, or with broken ones, becomes a foreign envelope with its bytes and headers as they
//! are.

mod decode;
mod names;

use std::borrow::Cow;

use interline_core::{Envelope, Kind, Position, Timestamp, Topic, is_attribute_char};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use uuid::Uuid;

pub use self::decode::Decoder;

/// How a wire writes attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// `ce_id`, `content-type`; values as they are. Kafka, Redis, PostgreSQL and memory.
    Underscore,
    /// `ce-id`, `ce-datacontenttype`; values percent-encoded. NATS.
    Dash,
}

/// Where a record was read, for what is synthesised when it is foreign.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The transport's scheme.
    pub scheme: &'static str,
    /// The topic.
    pub topic: &'a Topic,
    /// The partition's number.
    pub partition: u32,
    /// The position.
    pub position: Position,
}

/// What the NATS and HTTP bindings ask to be escaped, apart from everything outside of ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Calls `put` with the name and value of every header of `envelope`: attributes first, then the
/// free headers in order. Key and payload are the wire's own; a key of printable text comes as
/// `partitionkey` too, for readers that know CloudEvents alone.
///
/// ```
/// use interline_core::{Envelope, EventId, Kind};
/// use interline_transport::wire::{for_each_header, Style};
///
/// let envelope = Envelope::builder(Kind::new("/shop", "order.placed")?)
///     .id(EventId::parse("1")?)
///     .build()?;
/// let mut names = Vec::new();
/// for_each_header(&envelope, Style::Underscore, |name, _| names.push(name.to_owned()));
/// assert_eq!(names, ["ce_specversion", "ce_source", "ce_type", "ce_id"]);
/// # Ok::<(), interline_core::Error>(())
/// ```
pub fn for_each_header(envelope: &Envelope, style: Style, mut put: impl FnMut(&str, &[u8])) {
    for_each_kind_attribute(envelope.kind(), style, |name, value| {
        put(name, value.as_bytes());
    });
    for_each_own_attribute(envelope, style, |name, value| put(name, value.as_bytes()));
    for (name, value) in envelope.headers().iter() {
        put(name.as_str(), value);
    }
}

/// The part of [`for_each_header`] that is the same for all events of a kind.
pub fn for_each_kind_attribute(kind: &Kind, style: Style, mut put: impl FnMut(&str, &str)) {
    let core = names::core(style);
    let mut text = |name: &str, value: &str| put(name, &escaped(value, style));
    text(core.specversion, "1.0");
    text(core.source, kind.source());
    text(core.ty, kind.ty());
    if let Some(content_type) = kind.data_content_type() {
        text(core.content_type, content_type);
    }
    if let Some(schema) = kind.data_schema() {
        text(core.dataschema, schema);
    }
}

/// The part of [`for_each_header`] that writes the attributes of this event beside those of its
/// kind.
pub fn for_each_own_attribute(envelope: &Envelope, style: Style, mut put: impl FnMut(&str, &str)) {
    let core = names::core(style);
    let mut text = |name: &str, value: &str| put(name, &escaped(value, style));
    match envelope.id().as_uuid() {
        Some(uuid) => {
            let mut buffer = Uuid::encode_buffer();
            text(core.id, uuid.hyphenated().encode_lower(&mut buffer));
        }
        None => text(core.id, &envelope.id().to_text()),
    }
    if let Some(time) = envelope.time() {
        text(core.time, time.encode(&mut Timestamp::buffer()));
    }
    if let Some(subject) = envelope.subject() {
        text(core.subject, subject);
    }
    let key = envelope.key().and_then(|key| std::str::from_utf8(key).ok());
    if let Some(key) = key.filter(|key| !key.is_empty() && is_printable(key)) {
        text(core.partitionkey, key);
    }
    for (name, value) in envelope.attributes().iter() {
        text(&names::extension(style, name), &value.to_text());
    }
}

fn escaped(value: &str, style: Style) -> Cow<'_, str> {
    // What is escaped is seldom there, and looking for it this way is much faster.
    let is_plain = |byte| matches!(byte, b'!' | b'#' | b'$' | b'&'..=b'~');
    match style {
        Style::Dash if !value.bytes().all(is_plain) => utf8_percent_encode(value, ESCAPED).into(),
        Style::Dash | Style::Underscore => Cow::Borrowed(value),
    }
}

/// Whether a CloudEvents string may hold the text.
fn is_printable(text: &str) -> bool {
    // Nearly all text is ASCII, where the rule is one comparison.
    text.bytes().all(|byte| (0x20..0x7F).contains(&byte)) || text.chars().all(is_attribute_char)
}

#[cfg(test)]
mod tests;
