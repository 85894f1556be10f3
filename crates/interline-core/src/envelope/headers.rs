//! Free transport headers.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use crate::{Error, ErrorKind, Result};

/// Prefixes that brokers, bindings and interline itself give a meaning to, in lower case.
///
/// A user header with one of them is refused, since a broker would obey it or a reader would
/// take it for an attribute.
pub const RESERVED_PREFIXES: [&str; 5] = ["interline-", "ce_", "ce-", "nats-", "kafka_"];

/// Names that carry attributes on some wire.
const RESERVED_NAMES: [&str; 3] = ["content-type", "traceparent", "tracestate"];

/// The name of a header: 1 to 128 visible ASCII characters other than `:`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderName(ByteString);

impl HeaderName {
    /// A name chosen by the caller.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for other characters, another length or a reserved name or prefix.
    pub fn new(name: impl Into<ByteString>) -> Result<Self> {
        let name = name.into();
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if !(1..=128).contains(&name.len()) || !name.bytes().all(legal) {
            return Err(invalid(&name, "is not a legal name"));
        }
        let lower = name.to_ascii_lowercase();
        if RESERVED_PREFIXES
            .iter()
            .any(|prefix| lower.starts_with(prefix))
            || RESERVED_NAMES.contains(&&*lower)
        {
            return Err(invalid(&name, "is reserved"));
        }
        Ok(Self(name))
    }

    /// A name read from a wire, whatever it is: other clients have other rules.
    #[must_use]
    pub fn foreign(name: impl Into<ByteString>) -> Self {
        Self(name.into())
    }

    /// A name known at compile time, which is not checked.
    #[must_use]
    pub const fn from_static(name: &'static str) -> Self {
        Self(ByteString::from_static(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether interline owns the name.
    #[must_use]
    pub fn is_interline(&self) -> bool {
        self.0.starts_with("interline-")
    }
}

fn invalid(name: &str, why: &str) -> Error {
    let shown: String = name.chars().take(32).collect();
    Error::new(
        ErrorKind::Invalid,
        "envelope",
        format!("header name {shown:?} {why}"),
    )
    .remedy("use 1 to 128 visible ASCII characters without `:` and no broker's prefix")
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Headers in order; a name may come more than once.
///
/// ```
/// use interline_core::{HeaderName, Headers};
///
/// let mut headers = Headers::new();
/// headers.push(HeaderName::new("x-hop")?, "a");
/// headers.push(HeaderName::new("x-hop")?, "b");
/// assert_eq!(headers.text("x-hop"), Some("a"));
/// assert_eq!(headers.len(), 2);
/// assert!(HeaderName::new("interline-due").is_err());
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, Bytes)>);

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header behind the others.
    pub fn push(&mut self, name: HeaderName, value: impl Into<Bytes>) {
        self.0.push((name, value.into()));
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.iter()
            .find(|(known, _)| known.as_str() == name)
            .map(|(_, value)| value)
    }

    /// The first value of `name` if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Keeps the headers for which `keep` says yes.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &Bytes)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.0.len() + value.len())
            .sum()
    }
}

impl fmt::Debug for Headers {
    /// Names and sizes, never values: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, value.len())))
            .finish()
    }
}
