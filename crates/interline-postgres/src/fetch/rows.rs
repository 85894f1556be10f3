//! Rows of one partition on their way to records.

use std::ops::Range;

use bytes::Bytes;
use interline_core::{Budget, Partition, Recorded};
use interline_transport::wire::{Decoder, Origin};
use tokio_postgres::Row;

use super::session::Micros;
use crate::places::Places;

/// The size of one buffer. Larger ones are mapped and unmapped for every batch, which costs more
/// than the copy.
const CHUNK: usize = 64 << 10;

/// Rows of one partition, copied into buffers of their own: a row keeps the whole of what was read
/// from the socket alive.
#[derive(Debug, Default)]
pub(super) struct Slab {
    pub(super) serial: u64,
    full: Vec<Bytes>,
    chunk: Vec<u8>,
    rows: Vec<Place>,
    pub(super) last: i64,
    pub(super) stored: i64,
    pub(super) bytes: usize,
}

/// A row, with where its parts are in the buffer of this number.
#[derive(Debug)]
struct Place {
    id: i64,
    stored: i64,
    chunk: usize,
    key: Option<Range<usize>>,
    headers: Range<usize>,
    payload: Option<Range<usize>>,
}

impl Slab {
    pub(super) fn clear(&mut self) {
        self.full.clear();
        self.chunk.clear();
        self.rows.clear();
        self.bytes = 0;
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether the row has to go into another batch.
    pub(super) fn is_full(&self, serial: u64, row: &Row, budget: Budget) -> bool {
        if self.rows.is_empty() {
            return false;
        }
        self.serial != serial
            || self.rows.len() >= budget.events
            || self.bytes + row.raw_size_bytes() > budget.bytes
    }

    pub(super) fn push(&mut self, serial: u64, row: &Row) -> Result<(), tokio_postgres::Error> {
        self.serial = serial;
        let id = row.try_get(1)?;
        let stored = row.try_get::<_, Micros>(2)?.0;
        let key = row.try_get::<_, Option<&[u8]>>(3)?;
        let headers = row.try_get::<_, Option<&[u8]>>(4)?.unwrap_or_default();
        let payload = row.try_get::<_, Option<&[u8]>>(5)?;
        self.make_room(row.raw_size_bytes());
        let place = Place {
            id,
            stored,
            chunk: self.full.len(),
            key: key.map(|key| self.copy(key)),
            headers: self.copy(headers),
            payload: payload.map(|payload| self.copy(payload)),
        };
        self.rows.push(place);
        self.bytes += row.raw_size_bytes();
        (self.last, self.stored) = (id, stored);
        Ok(())
    }

    /// Makes sure that a row of this size is in one buffer as a whole.
    fn make_room(&mut self, size: usize) {
        if self.chunk.capacity() - self.chunk.len() >= size {
            return;
        }
        let fresh = Vec::with_capacity(size.max(CHUNK));
        let full = std::mem::replace(&mut self.chunk, fresh);
        if !full.is_empty() {
            self.full.push(full.into());
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.chunk.len();
        self.chunk.extend_from_slice(bytes);
        start..self.chunk.len()
    }

    /// What has been put in, if anything; the slab is empty then.
    pub(super) fn take(&mut self) -> Option<Self> {
        (!self.rows.is_empty()).then(|| std::mem::take(self))
    }

    /// The rows as records.
    pub(super) fn records(
        mut self,
        decoder: &mut Decoder,
        scheme: &'static str,
        partition: &Partition,
        places: &Places,
    ) -> Vec<Recorded> {
        self.full.push(self.chunk.into());
        let rows = self.rows.into_iter();
        rows.map(|row| {
            let buffer = &self.full[row.chunk];
            let part = |range: Range<usize>| buffer.slice(range);
            let position = places.position(row.id);
            let origin = Origin {
                scheme,
                topic: &partition.topic,
                partition: partition.index,
                position,
            };
            let headers = Headers(&buffer[row.headers]);
            let (key, payload) = (row.key.map(part), row.payload.map(part));
            Recorded {
                position,
                stored_at: row.stored.div_euclid(1_000),
                envelope: decoder.decode(&origin, buffer, headers, key, payload),
            }
        })
        .collect()
    }
}

/// Names and values as the log stores them; what is broken ends them.
#[derive(Clone)]
struct Headers<'h>(&'h [u8]);

impl<'h> Iterator for Headers<'h> {
    type Item = (&'h [u8], &'h [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (size, rest) = self.0.split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(u16::from_be_bytes(*size).into())?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        let (value, rest) = rest.split_at_checked(size)?;
        self.0 = rest;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::pack_headers;
    use interline_core::{Envelope, HeaderName, Kind};

    #[test]
    fn headers_come_back_as_they_were_packed() {
        let mut envelope = Envelope::builder(Kind::new("/a", "b").unwrap())
            .build()
            .unwrap();
        let name = HeaderName::new("x-empty").unwrap();
        envelope.headers_mut().push(name, "");
        let mut packed = Vec::new();
        pack_headers(&envelope, &mut packed);
        let all: Vec<_> = Headers(&packed).collect();
        assert_eq!(all[0], (&b"ce_specversion"[..], &b"1.0"[..]));
        assert_eq!(all.last(), Some(&(&b"x-empty"[..], &b""[..])));
        // Cut anywhere, it ends early and nothing else.
        for cut in 0..packed.len() {
            let fewer = Headers(&packed[..cut]).count();
            assert!(fewer < all.len());
        }
    }
}
