//! Taking answers apart.

use bytes::Bytes;
use fred::types::Resp3Frame;
use interline_core::{Error, ErrorKind, Position, Result};

use crate::error::{self, error};

/// An answer, or the error that it is.
pub(crate) fn checked(operation: &'static str, frame: Resp3Frame) -> Result<Resp3Frame> {
    match &frame {
        Resp3Frame::SimpleError { data, .. } => Err(error::server(operation, data)),
        Resp3Frame::BlobError { data, .. } => {
            Err(error::server(operation, &String::from_utf8_lossy(data)))
        }
        _ => Ok(frame),
    }
}

/// The error of an answer that no server gives.
pub(crate) fn odd(operation: &'static str) -> Error {
    error(
        ErrorKind::Protocol,
        operation,
        "the server gave an answer of another form than asked for",
        "check that nothing stands between client and server that changes answers",
    )
}

/// The elements of a list; none if the answer is no list.
pub(crate) fn list(frame: Resp3Frame) -> Vec<Resp3Frame> {
    match frame {
        Resp3Frame::Array { data, .. } | Resp3Frame::Push { data, .. } => data,
        _ => Vec::new(),
    }
}

/// The bytes of a string.
pub(crate) fn bytes(frame: Resp3Frame) -> Option<Bytes> {
    match frame {
        Resp3Frame::BlobString { data, .. } | Resp3Frame::SimpleString { data, .. } => Some(data),
        _ => None,
    }
}

/// A string as text, lossily: for what people or this crate wrote.
pub(crate) fn text(frame: Resp3Frame) -> Option<String> {
    match frame {
        Resp3Frame::Number { data, .. } => Some(data.to_string()),
        other => Some(String::from_utf8_lossy(&bytes(other)?).into_owned()),
    }
}

/// A whole number, also one that came as a string.
pub(crate) fn number<T: std::str::FromStr>(frame: Resp3Frame) -> Option<T> {
    text(frame)?.parse().ok()
}

/// The strings of a list, nothing for what is no string.
pub(crate) fn texts(frame: Resp3Frame) -> Vec<Option<String>> {
    list(frame).into_iter().map(text).collect()
}

/// The id of an entry.
pub(crate) fn position(id: &[u8]) -> Option<Position> {
    let dash = id.iter().position(|byte| *byte == b'-')?;
    Some(Position(digits(&id[..dash])?, digits(&id[dash + 1..])?))
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| number.checked_mul(10)?.checked_add(digit.into()))?
    })
}

/// The id of an entry as the server writes it.
pub(crate) fn id(position: Position) -> String {
    format!("{}-{}", position.0, position.1)
}
