//! Limits that are checked before any I/O.

use crate::{Capabilities, Envelope, Error, ErrorKind, Outgoing, Result};

/// The largest payload, unless the transport's own limit is lower: 1 MiB.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// The most headers of one event.
pub const MAX_HEADERS: usize = 64;

/// The most bytes of names and values of all headers and attributes of one event: 16 KiB.
pub const MAX_HEADER_BYTES: usize = 16 << 10;

/// The longest key in bytes: 64 KiB.
pub const MAX_KEY: usize = 64 << 10;

/// Checks what a publisher is about to send.
///
/// Interline's own headers (dead letters, due times) do not count towards the number of headers,
/// so that what could be published can also be dead-lettered.
///
/// # Errors
/// [`ErrorKind::Limit`] naming what is too large and the limit.
pub fn check(outgoing: &Outgoing, capabilities: &Capabilities) -> Result<()> {
    let envelope = &outgoing.envelope;
    let payload = envelope.payload().map_or(0, bytes::Bytes::len);
    let max = capabilities.max_payload.min(MAX_PAYLOAD);
    let exceeded = |what: &str, size: usize, limit: usize| {
        Err(Error::new(
            ErrorKind::Limit,
            "publish",
            format!("{what} of {size} exceeds the limit of {limit}"),
        )
        .on(capabilities.transport)
        .remedy("send less, or publish a reference to where the data is kept"))
    };
    if payload > max {
        return exceeded("a payload in bytes", payload, max);
    }
    let key = envelope.key().map_or(0, |key| key.len());
    if key > MAX_KEY {
        return exceeded("a key in bytes", key, MAX_KEY);
    }
    let (count, bytes) = user_headers(envelope);
    if count > MAX_HEADERS {
        return exceeded("a number of headers", count, MAX_HEADERS);
    }
    if bytes > MAX_HEADER_BYTES {
        return exceeded("headers in bytes", bytes, MAX_HEADER_BYTES);
    }
    Ok(())
}

fn user_headers(envelope: &Envelope) -> (usize, usize) {
    let mut total = (0, 0);
    for (name, value) in envelope.headers().iter() {
        if !name.is_interline() {
            total.0 += 1;
            total.1 += name.as_str().len() + value.len();
        }
    }
    for (name, value) in envelope.attributes().iter() {
        total.1 += name.len() + value.as_str().map_or(5, str::len);
    }
    total
}
