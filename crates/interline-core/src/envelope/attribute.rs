//! Extension attributes.

use std::fmt;

use bytestring::ByteString;

use super::kind::is_attribute_char;
use crate::{Error, ErrorKind, Result};

/// The names of the extension attributes that interline knows.
pub mod extension {
    /// The id shared by every event of one business process.
    pub const CORRELATION_ID: &str = "correlationid";
    /// The id of the event that led to this one.
    pub const CAUSATION_ID: &str = "causationid";
    /// The tenant.
    pub const TENANT_ID: &str = "tenantid";
    /// The user.
    pub const USER_ID: &str = "userid";
    /// The session.
    pub const SESSION_ID: &str = "sessionid";
    /// The publishing process instance.
    pub const INSTANCE_ID: &str = "instanceid";
    /// The origin: `database`, `websocket`, `frontend`, `system`, `internal` or another word.
    pub const ORIGIN: &str = "origin";
    /// The key, as CloudEvents names it on a wire.
    pub const PARTITION_KEY: &str = "partitionkey";
    /// The key in base64, in formats of text, if it is no text that `partitionkey` can hold.
    pub const INTERLINE_KEY: &str = "interlinekey";
    /// The headers, in formats that have no other place for them.
    pub const INTERLINE_HEADERS: &str = "interlineheaders";
    /// W3C trace context of the event's origin.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C vendor trace context.
    pub const TRACESTATE: &str = "tracestate";
}

/// The attributes that are fields of the envelope and never extensions.
const CORE: [&str; 13] = [
    "id",
    "source",
    "specversion",
    "type",
    "datacontenttype",
    "dataschema",
    "subject",
    "time",
    "data",
    "database64",
    extension::PARTITION_KEY,
    extension::INTERLINE_KEY,
    extension::INTERLINE_HEADERS,
];

/// The value of an extension attribute: one of the CloudEvents types that differ in JSON.
///
/// URIs, timestamps and binary values are strings in every format; on a wire without types
/// (binary mode) a value is read back as its canonical string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number of 32 bits.
    Integer(i32),
    /// Text, and every type whose canonical form is text.
    String(ByteString),
}

impl AttributeValue {
    /// The text, if the value is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Boolean(_) | Self::Integer(_) => None,
        }
    }

    /// The canonical string of the value, as wires without types carry it.
    #[must_use]
    pub fn to_text(&self) -> ByteString {
        match self {
            Self::Boolean(true) => ByteString::from_static("true"),
            Self::Boolean(false) => ByteString::from_static("false"),
            Self::Integer(number) => number.to_string().into(),
            Self::String(text) => text.clone(),
        }
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl From<bool> for AttributeValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for AttributeValue {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for AttributeValue {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl From<String> for AttributeValue {
    fn from(value: String) -> Self {
        Self::String(value.into())
    }
}

impl From<ByteString> for AttributeValue {
    fn from(value: ByteString) -> Self {
        Self::String(value)
    }
}

/// Extension attributes by name; names are unique, order is that of setting.
///
/// ```
/// use interline_core::Attributes;
///
/// let mut attributes = Attributes::new();
/// attributes.set("shard", 3)?;
/// attributes.set("shard", 4)?;
/// assert_eq!(attributes.get("shard"), Some(&4.into()));
/// assert!(attributes.set("Shard", 5).is_err());
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Attributes(Vec<(ByteString, AttributeValue)>);

impl Attributes {
    /// No attributes.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        // A handful at most: a scan beats a map.
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Sets or replaces the value of `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an illegal name, or a control character or noncharacter in a text
    /// value.
    pub fn set(
        &mut self,
        name: impl Into<ByteString>,
        value: impl Into<AttributeValue>,
    ) -> Result<()> {
        let (name, value) = (name.into(), value.into());
        check_attribute_name(&name)?;
        if let AttributeValue::String(text) = &value
            && !text.chars().all(is_attribute_char)
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                "envelope",
                format!("attribute `{name}` holds a control character or noncharacter"),
            ));
        }
        self.insert(name, value);
        Ok(())
    }

    /// Sets an attribute whose name is one of [`extension`].
    pub(super) fn insert_known(&mut self, name: &'static str, value: AttributeValue) {
        self.insert(ByteString::from_static(name), value);
    }

    fn insert(&mut self, name: ByteString, value: AttributeValue) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Names and values, in the order of setting.
    pub fn iter(&self) -> impl Iterator<Item = (&ByteString, &AttributeValue)> {
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

    pub(super) fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.as_str().map_or(5, str::len))
            .sum()
    }
}

impl PartialEq for Attributes {
    /// The same names with the same values; order carries no meaning in CloudEvents.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .all(|(name, value)| other.get(name) == Some(value))
    }
}

/// The longest attribute name. CloudEvents advises 20 but readers have to accept more.
const MAX_NAME: usize = 64;

/// Checks the name of an extension attribute: 1 to 64 characters of `a-z0-9` (CloudEvents advises
/// 20 at most), and none of the envelope's own fields.
///
/// # Errors
/// [`ErrorKind::Invalid`] otherwise.
pub fn check_attribute_name(name: &str) -> Result<()> {
    let legal = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if legal && !CORE.contains(&name) {
        return Ok(());
    }
    let shown: String = name.chars().take(32).collect();
    Err(Error::new(
        ErrorKind::Invalid,
        "envelope",
        format!("{shown:?} is no name for an extension attribute"),
    )
    .remedy("use 1 to 64 of a-z 0-9, and a typed method for id, source, type, subject, time, key"))
}
