//! What the events of one type and source have in common.

use std::sync::Arc;

use bytestring::ByteString;

use crate::{Error, ErrorKind, Result};

/// The attributes that every event of one type and source shares: `source`, `type`,
/// `datacontenttype` and `dataschema`.
///
/// A publisher makes it once per type and shares it, so that an event carries one pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    source: ByteString,
    ty: ByteString,
    content_type: Option<ByteString>,
    schema: Option<ByteString>,
}

impl Kind {
    /// Events of type `ty` from `source`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if either is empty, longer than 1,024 bytes or holds a control
    /// character or noncharacter.
    pub fn new(source: impl Into<ByteString>, ty: impl Into<ByteString>) -> Result<Self> {
        let (source, ty) = (source.into(), ty.into());
        check_text("source", &source)?;
        check_text("type", &ty)?;
        Ok(Self {
            source,
            ty,
            content_type: None,
            schema: None,
        })
    }

    /// Sets the media type of the payload.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<ByteString>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Sets the URI of the schema that the payload adheres to.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<ByteString>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// The attribute `source`.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The attribute `type`.
    #[must_use]
    pub fn ty(&self) -> &str {
        &self.ty
    }

    /// The attribute `datacontenttype`.
    #[must_use]
    pub fn data_content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The attribute `dataschema`.
    #[must_use]
    pub fn data_schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    pub(super) fn size(&self) -> usize {
        self.source.len()
            + self.ty.len()
            + self.content_type.as_ref().map_or(0, |text| text.len())
            + self.schema.as_ref().map_or(0, |text| text.len())
    }

    /// Shares an equal kind of `known` instead of keeping a second one; at most 64 are kept.
    ///
    /// A reader meets few kinds again and again; the last one met is looked at first.
    #[must_use]
    pub fn interned(self, known: &mut Vec<Arc<Self>>) -> Arc<Self> {
        if let Some(at) = known.iter().rposition(|kind| **kind == self) {
            let last = known.len() - 1;
            known.swap(at, last);
            return Arc::clone(&known[last]);
        }
        if known.len() == 64 {
            known.swap_remove(0);
        }
        let kind = Arc::new(self);
        known.push(Arc::clone(&kind));
        kind
    }
}

/// Checks the text of a CloudEvents attribute such as `source`: 1 to 1,024 bytes without control
/// characters and Unicode noncharacters, which the type `String` of CloudEvents excludes.
///
/// # Errors
/// [`ErrorKind::Invalid`] naming `attribute`, never the text.
pub fn check_text(attribute: &str, text: &str) -> Result<()> {
    const MAX: usize = 1_024;
    if text.is_empty() || text.len() > MAX || !text.chars().all(is_attribute_char) {
        return Err(Error::new(
            ErrorKind::Invalid,
            "envelope",
            format!("attribute `{attribute}` is empty, too long or holds a control character"),
        )
        .remedy(format!("use 1 to {MAX} bytes of printable text")));
    }
    Ok(())
}

/// Whether the type `String` of CloudEvents allows the character: neither a control character nor
/// a Unicode noncharacter.
#[must_use]
pub fn is_attribute_char(character: char) -> bool {
    let code = u32::from(character);
    let noncharacter = code & 0xFFFE == 0xFFFE || (0xFDD0..=0xFDEF).contains(&code);
    !character.is_control() && !noncharacter
}

/// An event type read as `schema.entity.operation`.
///
/// ```
/// use interline_core::TypeName;
///
/// let name = TypeName::new("public.users.create");
/// assert_eq!((name.schema(), name.entity(), name.operation()), ("public", "users", "create"));
/// let short = TypeName::new("heartbeat");
/// assert_eq!((short.schema(), short.entity(), short.operation()), ("", "", "heartbeat"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeName<'a> {
    schema: &'a str,
    entity: &'a str,
    operation: &'a str,
}

impl<'a> TypeName<'a> {
    /// Splits a type at its last two dots; missing parts are empty.
    #[must_use]
    pub fn new(ty: &'a str) -> Self {
        let (rest, operation) = ty.rsplit_once('.').unwrap_or(("", ty));
        let (schema, entity) = rest.rsplit_once('.').unwrap_or(("", rest));
        Self {
            schema,
            entity,
            operation,
        }
    }

    /// Everything before the last two tokens.
    #[must_use]
    pub fn schema(&self) -> &'a str {
        self.schema
    }

    /// The last token but one.
    #[must_use]
    pub fn entity(&self) -> &'a str {
        self.entity
    }

    /// The last token.
    #[must_use]
    pub fn operation(&self) -> &'a str {
        self.operation
    }
}
