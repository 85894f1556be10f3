//! From headers to an envelope.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use interline_core::{
    Envelope, EventId, HeaderName, Key, Kind, Timestamp, check_attribute_name, stable_hash,
};
use percent_encoding::percent_decode;

use super::names::{
    CONTENT_TYPE, DATASCHEMA, FIELDS, ID, Meaning, PARTITIONKEY, SOURCE, SPECVERSION, SUBJECT,
    TIME, TYPE, is_own, known_extension, meaning,
};
use super::{Origin, Style, is_printable};

/// Makes envelopes of records; one for each reading, since it remembers the kinds it met.
#[derive(Debug)]
pub struct Decoder {
    style: Style,
    kinds: Vec<Arc<Kind>>,
}

/// The values of the fields of one record, as they came.
struct Fields<'h> {
    values: [Option<&'h [u8]>; FIELDS],
    /// Whether there are headers beside the fields.
    more: bool,
}

/// The parts of a record that an envelope takes over.
struct Record<'a, H> {
    origin: &'a Origin<'a>,
    buffer: &'a Bytes,
    headers: H,
    key: Option<Bytes>,
    payload: Option<Bytes>,
}

impl Decoder {
    /// A decoder for a wire of this style.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self {
            style,
            kinds: Vec::new(),
        }
    }

    /// The envelope of a record.
    ///
    /// `headers` are names and values in the order of the wire. Those that are slices of `buffer`
    /// are shared with it, others are copied; an empty buffer copies all. Interline's own headers
    /// are believed from return and dead-letter topics alone, since only interline writes there.
    pub fn decode<'h, H>(
        &mut self,
        origin: &Origin<'_>,
        buffer: &Bytes,
        headers: H,
        key: Option<Bytes>,
        payload: Option<Bytes>,
    ) -> Envelope
    where
        H: Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    {
        let fields = self.fields(headers.clone());
        let mut record = Record {
            origin,
            buffer,
            headers,
            key,
            payload,
        };
        let envelope = match is_structured(&fields) {
            true => structured(self.style, &mut record),
            false => self.native(&fields, &mut record),
        };
        envelope.unwrap_or_else(|| self.foreign(&fields, record))
    }

    fn fields<'h>(&self, headers: impl Iterator<Item = (&'h [u8], &'h [u8])>) -> Fields<'h> {
        let mut fields = Fields {
            values: [None; FIELDS],
            more: false,
        };
        for (name, value) in headers {
            match meaning(self.style, name) {
                Meaning::Field(at) if fields.values[at].is_none() => {
                    fields.values[at] = Some(value);
                }
                // A second value of a field stays a header: nothing may be lost.
                _ => fields.more = true,
            }
        }
        fields
    }

    /// The envelope of a CloudEvent in binary mode; nothing if a required attribute is missing or
    /// broken.
    fn native<'h, H>(&mut self, fields: &Fields<'h>, record: &mut Record<'_, H>) -> Option<Envelope>
    where
        H: Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    {
        if self.text(fields.values[SPECVERSION]?)? != "1.0" {
            return None;
        }
        let id = EventId::parse(self.text(fields.values[ID]?)?).ok()?;
        let mut broken = [false; FIELDS];
        let mut optional = |at: usize| {
            let text = fields.values[at].map(|value| self.text(value))?;
            broken[at] = !text
                .as_ref()
                .is_some_and(|t| !t.is_empty() && is_printable(t));
            text.filter(|_| !broken[at])
        };
        let (subject, time) = (optional(SUBJECT), optional(TIME));
        let kind = match self.known_kind(fields) {
            Some(kind) => kind,
            None => {
                let source = self.text(fields.values[SOURCE]?)?;
                let ty = self.text(fields.values[TYPE]?)?;
                let (content_type, schema) = (optional(CONTENT_TYPE), optional(DATASCHEMA));
                self.kind(&source, &ty, content_type.as_deref(), schema.as_deref())?
            }
        };
        let parsed = time.as_deref().map(str::parse::<Timestamp>);
        let time = parsed.and_then(|parsed| parsed.map_err(|_| broken[TIME] = true).ok());
        // The wire's own key is the truth; the attribute speaks where there is none.
        let key = record.key.take().map(Key::from).or_else(|| {
            let text = self.text(fields.values[PARTITIONKEY]?)?;
            Some(Key::from(&*text))
        });
        let mut envelope = Envelope::from_parts(id, kind, time, key, record.payload.take());
        if let Some(subject) = subject {
            envelope.set_subject(share_text(record.buffer, subject));
        }
        if fields.more || broken.contains(&true) {
            self.rest(&mut envelope, &broken, &*record);
        }
        Some(envelope)
    }

    /// Extension attributes and free headers.
    fn rest<'h, H>(&self, envelope: &mut Envelope, broken: &[bool; FIELDS], record: &Record<'_, H>)
    where
        H: Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    {
        let mut seen = [false; FIELDS];
        for (name, value) in record.headers.clone() {
            let taken = match meaning(self.style, name) {
                Meaning::Field(at) => !std::mem::replace(&mut seen[at], true) && !broken[at],
                Meaning::Extension(attribute) => {
                    self.set_extension(envelope, attribute, value, record.buffer)
                }
                Meaning::Own => !record.origin.topic.is_system(),
                Meaning::Free => false,
            };
            if !taken {
                push(envelope, name, value, record.buffer);
            }
        }
    }

    fn set_extension(
        &self,
        envelope: &mut Envelope,
        attribute: &[u8],
        value: &[u8],
        buffer: &Bytes,
    ) -> bool {
        let (Ok(name), Some(text)) = (std::str::from_utf8(attribute), self.text(value)) else {
            return false;
        };
        if envelope.attribute(name).is_some() || check_attribute_name(name).is_err() {
            return false;
        }
        let name = match known_extension(name) {
            Some(name) => ByteString::from_static(name),
            None => share_text(buffer, Cow::Borrowed(name)),
        };
        envelope
            .set_attribute(name, share_text(buffer, text))
            .is_ok()
    }

    fn foreign<'h, H>(&mut self, fields: &Fields<'h>, record: Record<'_, H>) -> Envelope
    where
        H: Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    {
        let origin = record.origin;
        let content_type = fields.values[CONTENT_TYPE]
            .and_then(|value| std::str::from_utf8(value).ok())
            .filter(|text| !text.is_empty() && is_printable(text));
        let (source, ty) = (
            format!("{}:///{}", origin.scheme, origin.topic),
            origin.topic.as_str(),
        );
        #[expect(
            clippy::unwrap_used,
            reason = "a topic's name is a legal source and type"
        )]
        let kind = self.kind(&source, ty, content_type, None).unwrap();
        let Record { key, payload, .. } = record;
        let key = key.map(Key::from);
        let mut envelope = Envelope::from_parts(foreign_id(origin), kind, None, key, payload);
        for (name, value) in record.headers {
            let dropped = matches!(meaning(self.style, name), Meaning::Own);
            if !dropped || origin.topic.is_system() {
                push(&mut envelope, name, value, record.buffer);
            }
        }
        envelope.into_foreign()
    }

    /// The kind met last, if these fields say the same byte by byte: then they need no check.
    fn known_kind(&self, fields: &Fields<'_>) -> Option<Arc<Kind>> {
        let kind = self.kinds.last()?;
        let is = |at: usize, text: Option<&str>| {
            let value = fields.values[at];
            value == text.map(str::as_bytes) && value.is_none_or(|value| self.is_literal(value))
        };
        let same = is(TYPE, Some(kind.ty()))
            && is(SOURCE, Some(kind.source()))
            && is(CONTENT_TYPE, kind.data_content_type())
            && is(DATASCHEMA, kind.data_schema());
        same.then(|| Arc::clone(kind))
    }

    /// The kind with these parts: a known one, or a new one with copies of its own, so that it
    /// keeps no buffer alive.
    fn kind(
        &mut self,
        source: &str,
        ty: &str,
        content_type: Option<&str>,
        schema: Option<&str>,
    ) -> Option<Arc<Kind>> {
        let found = self.kinds.iter().rposition(|kind| {
            kind.ty() == ty
                && kind.source() == source
                && kind.data_content_type() == content_type
                && kind.data_schema() == schema
        });
        if let Some(at) = found {
            let last = self.kinds.len() - 1;
            self.kinds.swap(at, last);
            return Some(Arc::clone(&self.kinds[last]));
        }
        let mut kind = Kind::new(source, ty).ok()?;
        if let Some(content_type) = content_type {
            kind = kind.content_type(content_type);
        }
        if let Some(schema) = schema {
            kind = kind.schema(schema);
        }
        Some(kind.interned(&mut self.kinds))
    }

    fn text<'h>(&self, value: &'h [u8]) -> Option<Cow<'h, str>> {
        match self.is_literal(value) {
            true => std::str::from_utf8(value).ok().map(Cow::Borrowed),
            false => unescaped(value),
        }
    }

    /// Whether nothing of a value is escaped.
    fn is_literal(&self, value: &[u8]) -> bool {
        self.style == Style::Underscore || !(value.starts_with(b"\"") || value.contains(&b'%'))
    }
}

/// Whether the payload is the whole event. The media type may have parameters and any case.
fn is_structured(fields: &Fields<'_>) -> bool {
    const MEDIA: &[u8] = b"application/cloudevents+json";
    fields.values[CONTENT_TYPE].is_some_and(|value| {
        let start = value.get(..MEDIA.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(MEDIA))
            && matches!(value.get(MEDIA.len()), None | Some(b';' | b' ' | b'\t'))
    })
}

/// The envelope of a CloudEvent in structured mode; headers that repeat its attributes carry
/// nothing new.
fn structured<'h, H>(style: Style, record: &mut Record<'_, H>) -> Option<Envelope>
where
    H: Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
{
    let document = record.payload.as_ref()?;
    let mut envelope = interline_json::cloudevents::from_slice(document).ok()?;
    if let Some(key) = record.key.take() {
        envelope = envelope.with_key(Some(key.into()));
    }
    let believed = record.origin.topic.is_system();
    if !believed && !envelope.headers().is_empty() {
        let own = |name: &HeaderName| is_own(name.as_str().as_bytes());
        envelope.headers_mut().retain(|name| !own(name));
    }
    for (name, value) in record.headers.clone() {
        match meaning(style, name) {
            Meaning::Free => push(&mut envelope, name, value, record.buffer),
            Meaning::Own if believed => push(&mut envelope, name, value, record.buffer),
            _ => {}
        }
    }
    Some(envelope)
}

/// Decodes once what the NATS and HTTP bindings escape, in a quoted string too.
fn unescaped(value: &[u8]) -> Option<Cow<'_, str>> {
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let Some(quoted) = quoted else {
        return percent_decode(value).decode_utf8().ok();
    };
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' {
            *bytes.next()?
        } else {
            *byte
        });
    }
    let text = percent_decode(&plain).decode_utf8().ok()?.into_owned();
    Some(Cow::Owned(text))
}

/// The id of a record without one: the same at every reading of it.
fn foreign_id(origin: &Origin<'_>) -> EventId {
    let (topic, partition, position) = (origin.topic, origin.partition, origin.position);
    EventId::parse(format!("{topic}/{partition}/{position}")).unwrap_or_else(|_| {
        // The names of return topics may be longer than an id.
        let place = position.to_string();
        let parts = [
            topic.as_str().as_bytes(),
            &partition.to_be_bytes(),
            place.as_bytes(),
        ];
        stable_hash(&parts).into()
    })
}

fn push(envelope: &mut Envelope, name: &[u8], value: &[u8], buffer: &Bytes) {
    let name = match std::str::from_utf8(name) {
        Ok(name) => share_text(buffer, Cow::Borrowed(name)),
        Err(_) => String::from_utf8_lossy(name).into_owned().into(),
    };
    envelope
        .headers_mut()
        .push(HeaderName::foreign(name), share(buffer, value));
}

/// `part` as a slice of `buffer`, or as a copy if it lies elsewhere.
fn share(buffer: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() {
        return Bytes::new();
    }
    let within = buffer.as_ptr_range();
    let part_range = part.as_ptr_range();
    if within.start <= part_range.start && part_range.end <= within.end {
        buffer.slice_ref(part)
    } else {
        Bytes::copy_from_slice(part)
    }
}

fn share_text(buffer: &Bytes, text: Cow<'_, str>) -> ByteString {
    match text {
        Cow::Owned(text) => text.into(),
        Cow::Borrowed(text) => {
            ByteString::try_from(share(buffer, text.as_bytes())).unwrap_or_else(|_| text.into())
        }
    }
}
