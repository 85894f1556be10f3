//! A checkpoint as short text.
//!
//! Kafka keeps 4,096 bytes of metadata with a committed offset; other stores are glad of short
//! values too. The text is base64url over bytes, all numbers as LEB128:
//!
//! ```text
//! version=1  flags  unclean  [frontier]  [suspect deaths]  n (position attempts){n}  (first last)*
//! ```
//!
//! Every position is the difference to the one before it. Ranges come last and end with the
//! text, nearest first, so that what does not fit is the farthest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use interline_core::{Error, ErrorKind, Position, Progress, Range, Result, Suspect};

const VERSION: u8 = 1;
const HAS_FRONTIER: u8 = 1;
const HAS_SUSPECT: u8 = 2;

/// The text of `progress`, at most `max` bytes of ASCII.
///
/// What does not fit is left out, the farthest ranges first, then the attempts that are
/// farthest: events of a range that was left out run again after a crash, and attempts are
/// counted again from one. 64 bytes always hold the rest.
///
/// ```
/// use interline_core::{Position, Progress};
/// use interline_transport::checkpoint;
///
/// let progress = Progress { frontier: Some(Position::from(41)), ..Progress::default() };
/// let text = checkpoint::encode(&progress, 4_096);
/// assert_eq!(checkpoint::decode(&text)?, progress);
/// # Ok::<(), interline_core::Error>(())
/// ```
#[must_use]
pub fn encode(progress: &Progress, max: usize) -> String {
    // Four characters hold three bytes.
    let max = max / 4 * 3 + (max % 4).saturating_sub(1);
    let mut bytes = head(progress);
    push_attempts(&mut bytes, progress, max);
    let mut last = progress.frontier.unwrap_or_default();
    for range in &progress.done {
        let fits = bytes.len();
        push_position(&mut bytes, last, range.first);
        push_position(&mut bytes, range.first, range.last);
        if bytes.len() > max {
            bytes.truncate(fits);
            break;
        }
        last = range.last;
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

fn head(progress: &Progress) -> Vec<u8> {
    let flags = u8::from(progress.frontier.is_some()) * HAS_FRONTIER
        + u8::from(progress.suspect.is_some()) * HAS_SUSPECT;
    let mut bytes = vec![VERSION, flags, progress.unclean];
    let frontier = progress.frontier.unwrap_or_default();
    if progress.frontier.is_some() {
        push_position(&mut bytes, Position::default(), frontier);
    }
    if let Some(suspect) = progress.suspect {
        push_position(&mut bytes, frontier, suspect.position);
        bytes.push(suspect.deaths);
    }
    bytes
}

fn push_attempts(bytes: &mut Vec<u8>, progress: &Progress, max: usize) {
    let mut last = progress.frontier.unwrap_or_default();
    let mut body = Vec::new();
    let mut count = 0;
    for (position, attempts) in &progress.attempts {
        let fits = body.len();
        push_position(&mut body, last, *position);
        push_number(&mut body, u64::from(*attempts));
        // The count itself takes at most five bytes.
        if bytes.len() + body.len() + 5 > max {
            body.truncate(fits);
            break;
        }
        (last, count) = (*position, count + 1);
    }
    push_number(bytes, count);
    bytes.append(&mut body);
}

/// The progress that `text` holds.
///
/// # Errors
/// [`ErrorKind::Undecodable`] for anything that [`encode`] did not write; it never panics.
pub fn decode(text: &str) -> Result<Progress> {
    read(text).ok_or_else(|| {
        Error::new(
            ErrorKind::Undecodable,
            "read checkpoint",
            "the stored checkpoint was not written by interline, or by a newer version of it",
        )
        .remedy("update interline, or reset the group")
    })
}

fn read(text: &str) -> Option<Progress> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let mut input = &*bytes;
    if byte(&mut input)? != VERSION {
        return None;
    }
    let flags = byte(&mut input)?;
    if flags & !(HAS_FRONTIER | HAS_SUSPECT) != 0 {
        return None;
    }
    let mut progress = Progress {
        unclean: byte(&mut input)?,
        ..Progress::default()
    };
    if flags & HAS_FRONTIER != 0 {
        progress.frontier = Some(position(&mut input, Position::default())?);
    }
    let frontier = progress.frontier.unwrap_or_default();
    if flags & HAS_SUSPECT != 0 {
        progress.suspect = Some(Suspect {
            position: position(&mut input, frontier)?,
            deaths: byte(&mut input)?,
        });
    }
    let mut last = frontier;
    for _ in 0..number(&mut input)? {
        last = position(&mut input, last)?;
        let attempts = u32::try_from(number(&mut input)?).ok()?;
        progress.attempts.push((last, attempts));
    }
    last = frontier;
    while !input.is_empty() {
        let first = position(&mut input, last)?;
        last = position(&mut input, first)?;
        progress.done.push(Range { first, last });
    }
    Some(progress)
}

/// Differences wrap, so that any two positions can follow each other.
fn push_position(bytes: &mut Vec<u8>, before: Position, position: Position) {
    push_number(bytes, position.0.wrapping_sub(before.0));
    let low = if position.0 == before.0 { before.1 } else { 0 };
    push_number(bytes, position.1.wrapping_sub(low));
}

fn position(input: &mut &[u8], before: Position) -> Option<Position> {
    let high = before.0.wrapping_add(number(input)?);
    let low = if high == before.0 { before.1 } else { 0 };
    Some(Position(high, low.wrapping_add(number(input)?)))
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn number(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let next = byte(input)?;
        let bits = u64::from(next & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if next < 0x80 {
            return Some(number);
        }
    }
    None
}

fn byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

#[cfg(test)]
mod tests;
