//! Headers as the text of one attribute.

use std::borrow::Cow;

use interline_core::{HeaderName, Headers};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// Everything but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The text of all headers that are not interline's own; `None` if there are none.
pub(super) fn to_text(headers: &Headers) -> Option<String> {
    let pairs: Vec<String> = headers
        .iter()
        .filter(|(name, _)| !name.is_interline())
        .map(|(name, value)| {
            let name = percent_encode(name.as_str().as_bytes(), ENCODED);
            format!("{name}={}", percent_encode(value, ENCODED))
        })
        .collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

/// The headers in `text`.
pub(super) fn from_text(text: &str) -> Result<Headers, &'static str> {
    let mut headers = Headers::new();
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=').ok_or("is no list of name=value")?;
        let name = String::from_utf8(decode(name)?.into_owned())
            .map_err(|_| "holds a name that is not UTF-8")?;
        let name = HeaderName::foreign(name);
        if name.is_interline() {
            return Err("holds a header of interline itself");
        }
        headers.push(name, decode(value)?.into_owned());
    }
    Ok(headers)
}

fn decode(text: &str) -> Result<Cow<'_, [u8]>, &'static str> {
    let complete = text
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()));
    if !complete {
        return Err("holds a `%` that two hex digits do not follow");
    }
    Ok(percent_decode_str(text).into())
}
