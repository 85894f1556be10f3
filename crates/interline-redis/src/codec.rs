//! An event as the fields of a stream entry, and back.
//!
//! `ce` holds attributes and headers in one field, `data` the payload, `key` a key that is no
//! attribute; an absent field is an absent value. One field for all attributes costs half of what
//! one for each would. It reads as a web form does, in any language and in `redis-cli`:
//!
//! ```text
//! ce_specversion=1.0&ce_source=/shop&ce_type=order.placed&ce_id=..&x-hop=a
//! ```
//!
//! with `%XX` for control characters and for the four that have a meaning: `% & = +`.
//! An entry without `ce` was written by another client: each of its fields is a header.

use bytes::{BufMut, Bytes, BytesMut};
use fred::types::Resp3Frame;
use interline_core::{Envelope, Key, Position, Topic, is_attribute_char};
use interline_transport::wire::{Decoder, Origin, Style, for_each_header};
use memchr::{memchr, memchr_iter, memchr2};

use crate::SCHEME;

const ATTRIBUTES: &[u8] = b"ce";
const KEY: &[u8] = b"key";
const DATA: &[u8] = b"data";

/// Appends attributes and headers to `text`.
pub(crate) fn pack(envelope: &Envelope, text: &mut BytesMut) {
    let begin = text.len();
    for_each_header(envelope, Style::Underscore, |name, value| {
        if text.len() > begin {
            text.put_u8(b'&');
        }
        // The names of attributes are plain by their own rules.
        match name.starts_with("ce_") {
            true => text.extend_from_slice(name.as_bytes()),
            false => escape(name.as_bytes(), text),
        }
        text.put_u8(b'=');
        escape(value, text);
    });
}

/// The key, unless it is among the attributes: `partitionkey` carries a key of printable text.
pub(crate) fn separate_key(envelope: &Envelope) -> Option<&Key> {
    let key = envelope.key()?;
    let is_attribute = !key.is_empty()
        && std::str::from_utf8(key).is_ok_and(|text| text.chars().all(is_attribute_char));
    (!is_attribute).then_some(key)
}

fn is_plain(byte: u8) -> bool {
    let is_control = (byte < b' ') | (byte == 0x7f);
    let has_meaning = (byte == b'%') | (byte == b'&') | (byte == b'=') | (byte == b'+');
    !(is_control | has_meaning)
}

fn escape(value: &[u8], text: &mut BytesMut) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    // Without a way out of the loop the compiler looks at many bytes at a time.
    if value
        .iter()
        .fold(true, |plain, byte| plain & is_plain(*byte))
    {
        text.extend_from_slice(value);
        return;
    }
    for &byte in value {
        if is_plain(byte) {
            text.put_u8(byte);
        } else {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
            text.extend_from_slice(&[b'%', high, low]);
        }
    }
}

/// Makes envelopes of entries; one for each reading.
#[derive(Debug)]
pub(crate) struct Unpacker {
    decoder: Decoder,
    /// Where names and values are in the text at hand, kept to be filled again.
    pairs: Vec<[u32; 4]>,
}

/// An entry taken apart.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) envelope: Envelope,
    /// It was written by interline, or as interline writes.
    pub(crate) is_own: bool,
}

impl Unpacker {
    pub(crate) fn new() -> Self {
        Self {
            decoder: Decoder::new(Style::Underscore),
            pairs: Vec::new(),
        }
    }

    /// The envelope of the entry with these fields.
    pub(crate) fn unpack(
        &mut self,
        topic: &Topic,
        partition: u32,
        position: Position,
        fields: Vec<Resp3Frame>,
    ) -> Unpacked {
        let origin = Origin {
            scheme: SCHEME,
            topic,
            partition,
            position,
        };
        let (mut packed, mut key, mut data) = (None, None, None);
        let mut others: Vec<(Bytes, Bytes)> = Vec::new();
        let mut strings = fields.into_iter().map(crate::reply::bytes);
        while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
            let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
            match &*name {
                ATTRIBUTES if packed.is_none() => packed = Some(value),
                KEY if key.is_none() => key = Some(value),
                DATA if data.is_none() => data = Some(value),
                _ => others.push((name, value)),
            }
        }
        let is_own = packed.is_some();
        let text = packed.map_or_else(Bytes::new, |packed| self.split(packed));
        let at = |from: u32, to: u32| &text[from as usize..to as usize];
        let pairs = self.pairs.iter().filter(|_| is_own);
        let headers = pairs
            .map(|[name, mid, value, end]| (at(*name, *mid), at(*value, *end)))
            .chain(others.iter().map(|(name, value)| (&**name, &**value)));
        let envelope = self.decoder.decode(&origin, &text, headers, key, data);
        Unpacked { envelope, is_own }
    }

    /// Notes where the pairs are in `packed` without its escapes, and returns that.
    fn split(&mut self, packed: Bytes) -> Bytes {
        self.pairs.clear();
        if memchr2(b'%', b'+', &packed).is_none() {
            let mut begin = 0;
            for end in memchr_iter(b'&', &packed).chain([packed.len()]) {
                let pair = &packed[begin..end];
                let name = memchr(b'=', pair).unwrap_or(pair.len());
                let value = (name + 1).min(pair.len());
                self.note(begin, name, value, pair.len());
                begin = end + 1;
            }
            return packed;
        }
        let mut plain = BytesMut::with_capacity(packed.len());
        for pair in packed.split(|byte| *byte == b'&') {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let begin = plain.len();
            unescape(halves.next().unwrap_or_default(), &mut plain);
            let name = plain.len() - begin;
            unescape(halves.next().unwrap_or_default(), &mut plain);
            self.note(begin, name, name, plain.len() - begin);
        }
        plain.freeze()
    }

    fn note(&mut self, begin: usize, name: usize, value: usize, end: usize) {
        let at = |offset: usize| u32::try_from(begin + offset).unwrap_or(u32::MAX);
        if name > 0 {
            self.pairs.push([at(0), at(name), at(value), at(end)]);
        }
    }
}

fn unescape(text: &[u8], plain: &mut BytesMut) {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let pair = (digit(text.get(at + 1)), digit(text.get(at + 2)));
        match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                plain.put_u8((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', _) => plain.put_u8(b' '),
            // A stray percent sign stands for itself, as web forms have it.
            _ => plain.put_u8(byte),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests;
