//! A typed event for the scenarios that need one.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use interline_core::{Codec, Event, Result, undecodable};

/// A number with a key: four bytes of number, then the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) key: String,
    pub(crate) number: u32,
}

impl Event for Noted {
    const TYPE: &'static str = "interline.conformance.noted";
    /// Nothing is published here: scenarios name topics of their own.
    const TOPIC: &'static str = "interline-conformance";
    type Codec = NotedCodec;

    fn key(&self) -> Option<Cow<'_, [u8]>> {
        Some(self.key.as_bytes().into())
    }
}

#[derive(Debug, Default)]
pub(crate) struct NotedCodec;

impl Codec<Noted> for NotedCodec {
    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn encode(&self, noted: &Noted, buffer: &mut BytesMut) -> Result<()> {
        buffer.put_u32(noted.number);
        buffer.put_slice(noted.key.as_bytes());
        Ok(())
    }

    fn decode(&self, _: Option<&str>, payload: &Bytes) -> Result<Noted> {
        let mut bytes = payload.clone();
        if bytes.len() < 4 {
            return Err(undecodable("fewer than four bytes"));
        }
        let number = bytes.get_u32();
        let key = String::from_utf8(bytes.into()).map_err(|_| undecodable("the key is no text"))?;
        Ok(Noted { key, number })
    }
}
