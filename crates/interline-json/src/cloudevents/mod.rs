//! The JSON event format of CloudEvents 1.0: structured mode, one event per JSON object.
//!
//! | envelope | member |
//! |---|---|
//! | id, source, type, content type, schema, subject, time | `id` `source` `type` `datacontenttype` `dataschema` `subject` `time` |
//! | key | `partitionkey`; `interlinekey` in base64 if the key is empty, or no text that an attribute may hold |
//! | extension attributes | by name, as boolean, number or string |
//! | headers | none; in lines `interlineheaders`, see below |
//! | payload | `data` or `data_base64` |
//!
//! # Bytes stay what they are
//! A payload that says it is JSON and is one JSON value becomes `data` as it stands, with its
//! spaces, its number forms and its order of members; text (`text/*`, `*/xml`, `*/*+xml` in UTF-8)
//! becomes a JSON string. Whatever `data` could not give back byte for byte becomes `data_base64`:
//! other media types, JSON with space around it or with errors, and a payload without a media
//! type, because `data` without one declares JSON.
//!
//! Reading is the reverse. `data` without `datacontenttype` is JSON, and the envelope says so by
//! the content type `application/json`. `data` of another media type has to be a string and stands
//! for its text. `"data": null` is the payload `null`; an attribute that is `null` is absent.
//!
//! # Lines
//! CloudEvents has no headers. For streams of lines between processes, [`to_line`] adds them as
//! the extension attribute `interlineheaders`: `name=value` pairs joined by `&`, both
//! percent-encoded, in order and with duplicates. Headers of interline itself (`interline-..`)
//! describe a delivery and not the event: they are not written, and a document that holds one is
//! refused. [`from_slice`] and [`from_line`] both read the attribute.
//!
//! # What is refused
//! Reading fails with [`ErrorKind::Undecodable`](interline_core::ErrorKind::Undecodable) for
//! everything that CloudEvents forbids: a missing or empty required attribute, another
//! `specversion`, an attribute of the wrong type, a fraction or a number of more than 32 bits, an
//! object or array as an attribute, an illegal attribute name, control characters and
//! noncharacters, a member that comes twice, `data` beside `data_base64`; also for more than
//! [`MAX_MEMBERS`] members or [`MAX_DOCUMENT`] bytes. URIs are kept as they are written. The
//! nesting of `data` is not followed, so that its depth costs no stack.

mod headers;
mod read;
mod write;

pub use self::read::{from_line, from_slice};
pub use self::write::{to_line, to_vec, write};

/// The media type of a document with one event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The largest document that is read, in bytes: 8 MiB, which holds the largest payload
/// ([`MAX_PAYLOAD`](interline_core::limits::MAX_PAYLOAD)) even if each of its bytes is escaped.
pub const MAX_DOCUMENT: usize = 8 << 20;

/// The most members of a document that is read.
pub const MAX_MEMBERS: usize = 256;
