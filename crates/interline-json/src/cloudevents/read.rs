//! Reading.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use interline_core::{
    AttributeValue, ByteString, Envelope, Error, ErrorKind, EventId, Headers, Key, Kind, Result,
    Timestamp, check_text, extension,
};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{MAX_DOCUMENT, MAX_MEMBERS, headers};
use crate::media;

/// The envelope of a document; a payload of JSON shares its bytes.
///
/// # Errors
/// [`ErrorKind::Undecodable`] for anything but one event by the rules above. The error names the
/// attribute or the place, never a value.
pub fn from_slice(document: &Bytes) -> Result<Envelope> {
    if document.len() > MAX_DOCUMENT {
        return Err(no_event(format!("it has more than {MAX_DOCUMENT} bytes")));
    }
    if document.trim_ascii_start().first() != Some(&b'{') {
        return Err(no_event("it is no JSON object"));
    }
    // Every message of the parser for an object is its own or ours and quotes no value.
    let members: Members<'_> =
        serde_json::from_slice(document).map_err(|cause| no_event(cause.to_string()))?;
    let mut parts = Parts::default();
    for (name, value) in members.0 {
        parts.take(&name, value)?;
    }
    parts.finish(document)
}

/// The envelope of a line, whether or not its line break is still there.
///
/// # Errors
/// As for [`from_slice`].
pub fn from_line(line: impl Into<Bytes>) -> Result<Envelope> {
    from_slice(&line.into())
}

/// The members of the object, none twice, their values not read yet.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A string that is borrowed where it holds no escape.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(12);
                while let Some((Text(name), value)) = map.next_entry()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        let name = shown(&name);
                        return Err(de::Error::custom(format_args!("{name} comes twice")));
                    }
                    if members.len() == MAX_MEMBERS {
                        return Err(de::Error::custom(format_args!(
                            "it has more than {MAX_MEMBERS} members"
                        )));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// What has been read of an event.
#[derive(Default)]
struct Parts<'a> {
    version: Option<String>,
    id: Option<String>,
    source: Option<String>,
    ty: Option<String>,
    content_type: Option<String>,
    schema: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    text_key: Option<String>,
    binary_key: Option<String>,
    headers: Option<Headers>,
    extensions: Vec<(ByteString, AttributeValue)>,
    data: Option<&'a RawValue>,
    binary_data: Option<Bytes>,
}

impl<'a> Parts<'a> {
    fn take(&mut self, name: &str, value: &'a RawValue) -> Result<()> {
        match name {
            "specversion" => self.version = string(name, value)?,
            "id" => self.id = string(name, value)?,
            "source" => self.source = string(name, value)?,
            "type" => self.ty = string(name, value)?,
            "datacontenttype" => self.content_type = string(name, value)?,
            "dataschema" => self.schema = string(name, value)?,
            "subject" => self.subject = string(name, value)?,
            "time" => self.time = string(name, value)?,
            extension::PARTITION_KEY => self.text_key = string(name, value)?,
            extension::INTERLINE_KEY => self.binary_key = string(name, value)?,
            extension::INTERLINE_HEADERS => {
                self.headers = string(name, value)?
                    .map(|text| headers::from_text(&text).map_err(|why| wrong(name, why)))
                    .transpose()?;
            }
            "data" => self.data = Some(value),
            "data_base64" => self.binary_data = binary(name, value)?,
            _ => {
                let name = ByteString::from(name);
                let value = scalar(&name, value)?;
                self.extensions.extend(value.map(|value| (name, value)));
            }
        }
        Ok(())
    }

    fn finish(mut self, document: &Bytes) -> Result<Envelope> {
        if required("specversion", self.version.take())? != "1.0" {
            return Err(wrong("specversion", "is not 1.0"));
        }
        let id = EventId::parse(required("id", self.id.take())?).map_err(broken)?;
        let source = required("source", self.source.take())?;
        let ty = required("type", self.ty.take())?;
        let payload = self.payload(document)?;
        let mut kind = Kind::new(source, ty).map_err(broken)?;
        if let Some(text) = checked("datacontenttype", self.content_type.take())? {
            kind = kind.content_type(text);
        }
        if let Some(text) = checked("dataschema", self.schema.take())? {
            kind = kind.schema(text);
        }
        let envelope = Envelope::from_parts(id, kind.into(), self.time()?, self.key()?, payload);
        self.rest(envelope)
    }

    /// The payload; sets the content type that `data` without one declares.
    fn payload(&mut self, document: &Bytes) -> Result<Option<Bytes>> {
        let Some(value) = self.data else {
            return Ok(self.binary_data.take());
        };
        if self.binary_data.is_some() {
            return Err(no_event("`data` and `data_base64` exclude each other"));
        }
        let content_type = self
            .content_type
            .get_or_insert_with(|| "application/json".into());
        if media::is_json(content_type) {
            return Ok(Some(document.slice_ref(value.get().as_bytes())));
        }
        let Text(text) = serde_json::from_str(value.get())
            .map_err(|_| wrong("data", "is no string, as its content type requires"))?;
        if !media::is_utf8(content_type) && !text.is_ascii() {
            return Err(wrong("data", "is text of another charset than UTF-8"));
        }
        Ok(Some(Bytes::from(text.into_owned())))
    }

    fn time(&self) -> Result<Option<Timestamp>> {
        // The cause quotes the text, so it is not kept.
        let parse = |text: &String| {
            text.parse()
                .map_err(|_| wrong("time", "is no RFC 3339 time"))
        };
        self.time.as_ref().map(parse).transpose()
    }

    fn key(&mut self) -> Result<Option<Key>> {
        match (self.text_key.take(), self.binary_key.take()) {
            (Some(_), Some(_)) => Err(no_event(
                "`partitionkey` and `interlinekey` exclude each other",
            )),
            (Some(text), None) => Ok(Some(text.into())),
            (None, Some(text)) => {
                decode(extension::INTERLINE_KEY, &text).map(|key| Some(key.into()))
            }
            (None, None) => Ok(None),
        }
    }

    fn rest(self, mut envelope: Envelope) -> Result<Envelope> {
        if let Some(subject) = checked("subject", self.subject)? {
            envelope.set_subject(subject);
        }
        for (name, value) in self.extensions {
            envelope.set_attribute(name, value).map_err(broken)?;
        }
        if let Some(headers) = self.headers {
            *envelope.headers_mut() = headers;
        }
        Ok(envelope)
    }
}

/// The value of an attribute; `null` is an absent one.
fn scalar(name: &str, value: &RawValue) -> Result<Option<AttributeValue>> {
    let json = value.get();
    // The first byte of a JSON value tells its type, so nothing nested is ever followed.
    match json.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b't') => Ok(Some(true.into())),
        Some(b'f') => Ok(Some(false.into())),
        Some(b'"') => Ok(string(name, value)?.map(Into::into)),
        Some(b'-' | b'0'..=b'9') => match json.parse::<i32>() {
            Ok(number) => Ok(Some(number.into())),
            Err(_) => Err(wrong(name, "is no whole number of 32 bits")),
        },
        _ => Err(wrong(name, "is an object or an array")),
    }
}

fn string(name: &str, value: &RawValue) -> Result<Option<String>> {
    serde_json::from_str(value.get()).map_err(|_| wrong(name, "is no string"))
}

fn binary(name: &str, value: &RawValue) -> Result<Option<Bytes>> {
    let text: Option<Text<'_>> =
        serde_json::from_str(value.get()).map_err(|_| wrong(name, "is no string"))?;
    text.map(|Text(text)| decode(name, &text)).transpose()
}

fn decode(name: &str, text: &str) -> Result<Bytes> {
    STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|_| wrong(name, "is no base64"))
}

fn required(name: &str, value: Option<String>) -> Result<String> {
    value.ok_or_else(|| wrong(name, "is missing"))
}

fn checked(name: &str, value: Option<String>) -> Result<Option<String>> {
    if let Some(text) = &value {
        check_text(name, text).map_err(broken)?;
    }
    Ok(value)
}

fn wrong(name: &str, why: &str) -> Error {
    no_event(format!("{} {why}", shown(name)))
}

/// The error of a broken rule of the envelope; its message names the attribute alone.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
fn broken(error: Error) -> Error {
    no_event(error.message())
}

fn no_event(why: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Undecodable,
        "decode",
        format!("the document is no CloudEvent: {why}"),
    )
    .remedy("write one JSON object with specversion 1.0, id, source and type")
}

/// A member's name as it may stand in an error: names come from outside.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(32).collect();
    format!("`{}`", short.escape_debug())
}
