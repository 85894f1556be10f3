//! Writing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use interline_core::{
    AttributeValue, Envelope, Error, ErrorKind, Result, extension, is_attribute_char,
};
use serde_json::value::RawValue;

use super::headers;
use crate::media;

/// Appends the document of `envelope` to `out`, without its headers, which a transport carries
/// beside it.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the envelope has no form in JSON; `out` may then hold a part of it.
pub fn write(envelope: &Envelope, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    attributes(envelope, out)?;
    payload(envelope, false, out)?;
    out.push(b'}');
    Ok(())
}

/// The document of `envelope`, without its headers, which a transport carries beside it.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the envelope has no form in JSON.
pub fn to_vec(envelope: &Envelope) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(256 + envelope.size());
    write(envelope, &mut out)?;
    Ok(out)
}

/// The document of `envelope` with its headers as one line that ends in `\n` and holds no other
/// line break.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the envelope has no form in JSON.
pub fn to_line(envelope: &Envelope) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(256 + envelope.size());
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    attributes(envelope, &mut out)?;
    if let Some(text) = headers::to_text(envelope.headers()) {
        string(extension::INTERLINE_HEADERS, &text, &mut out)?;
    }
    payload(envelope, true, &mut out)?;
    out.extend_from_slice(b"}\n");
    Ok(out)
}

fn attributes(envelope: &Envelope, out: &mut Vec<u8>) -> Result<()> {
    string("id", &envelope.id().to_text(), out)?;
    string("source", envelope.source(), out)?;
    string("type", envelope.ty(), out)?;
    let time = envelope.time().map(|time| time.to_string());
    let optional = [
        ("datacontenttype", envelope.content_type()),
        ("dataschema", envelope.schema()),
        ("subject", envelope.subject()),
        ("time", time.as_deref()),
    ];
    for (name, text) in optional {
        if let Some(text) = text {
            string(name, text, out)?;
        }
    }
    if let Some(key) = envelope.key() {
        match std::str::from_utf8(key) {
            Ok(text) if is_attribute(text) => string(extension::PARTITION_KEY, text, out)?,
            _ => base64(extension::INTERLINE_KEY, key, out),
        }
    }
    for (attribute, value) in envelope.attributes().iter() {
        match value {
            AttributeValue::String(text) => string(attribute, text, out)?,
            AttributeValue::Boolean(_) | AttributeValue::Integer(_) => {
                name(attribute, out);
                out.extend_from_slice(value.to_text().as_bytes());
            }
        }
    }
    Ok(())
}

/// `partitionkey` is a string of CloudEvents that is not empty; a key may be anything.
fn is_attribute(key: &str) -> bool {
    !key.is_empty() && key.chars().all(is_attribute_char)
}

fn payload(envelope: &Envelope, one_line: bool, out: &mut Vec<u8>) -> Result<()> {
    let Some(payload) = envelope.payload() else {
        return Ok(());
    };
    let content_type = envelope.content_type().unwrap_or_default();
    if media::is_json(content_type) {
        if let Some(value) = exact_json(payload, one_line) {
            name("data", out);
            out.extend_from_slice(value.as_bytes());
            return Ok(());
        }
    } else if media::is_text(content_type)
        && media::is_utf8(content_type)
        && let Ok(text) = std::str::from_utf8(payload)
    {
        return string("data", text, out);
    }
    base64("data_base64", payload, out);
    Ok(())
}

/// The payload, if it can stand in a document and be read from it again byte for byte.
fn exact_json(payload: &[u8], one_line: bool) -> Option<&str> {
    let value = serde_json::from_slice::<&RawValue>(payload).ok()?.get();
    let whole = value.len() == payload.len();
    let breaks = one_line && value.bytes().any(|byte| matches!(byte, b'\n' | b'\r'));
    (whole && !breaks).then_some(value)
}

/// A member's name; attribute names need no escape, and the version always stands before.
fn name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn string(member: &str, text: &str, out: &mut Vec<u8>) -> Result<()> {
    name(member, out);
    serde_json::to_writer(out, text).map_err(|_| {
        Error::new(
            ErrorKind::Invalid,
            "encode",
            format!("attribute `{member}` has no form in JSON"),
        )
    })
}

fn base64(member: &str, bytes: &[u8], out: &mut Vec<u8>) {
    name(member, out);
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}
