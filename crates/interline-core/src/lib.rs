#![doc = include_str!("../README.md")]

mod capabilities;
mod envelope;
mod error;
mod event;
mod inbox;
pub mod limits;
mod name;
mod pattern;
pub mod planted;
mod transport;

use std::future::Future;
use std::pin::Pin;

pub use bytes::{Bytes, BytesMut};
pub use bytestring::ByteString;

pub use crate::capabilities::{Cadence, Capabilities, Dedupe, Durability, LagAccuracy};
pub use crate::envelope::{
    AttributeValue, Attributes, Envelope, EnvelopeBuilder, EventId, HeaderName, Headers, Key, Kind,
    MAX_ID, RESERVED_PREFIXES, Timestamp, TypeName, check_attribute_name, check_text, extension,
    is_attribute_char, stable_hash,
};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::event::{Codec, Event, EventKey};
pub use crate::inbox::{Claim, Inbox};
pub use crate::name::{Group, Instance, MAX_GROUP, MAX_TOPIC, Partition, Topic};
pub use crate::pattern::Pattern;
pub use crate::transport::*;

/// The future that erased handles return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The error of a payload that is not what it should be.
#[must_use]
pub fn undecodable(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Undecodable, "decode", why.to_string())
        .remedy("check the publisher's type and codec, or handle the event raw")
}
