//! Building an envelope with everything checked.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::kind::check_text;
use super::{AttributeValue, Envelope, EventId, HeaderName, Key, Kind, Timestamp};
use crate::{Result, extension};

/// Builds an [`Envelope`]; the first mistake is kept and returned by [`build`](Self::build).
///
/// ```
/// use interline_core::{Envelope, Kind};
///
/// let kind = Kind::new("/shop", "shop.order.placed")?;
/// let event = Envelope::builder(kind.clone()).tenant("acme").header("x-hop", "a").build()?;
/// assert_eq!(event.tenant_id(), Some("acme"));
///
/// let error = Envelope::builder(kind).header("ce_id", "1").build().unwrap_err();
/// assert_eq!(error.message(), "header name \"ce_id\" is reserved");
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct EnvelopeBuilder {
    envelope: Result<Envelope>,
}

impl EnvelopeBuilder {
    pub(super) fn new(kind: Arc<Kind>) -> Self {
        Self {
            envelope: Ok(Envelope::from_parts(EventId::new(), kind, None, None, None)),
        }
    }

    fn change(mut self, change: impl FnOnce(&mut Envelope) -> Result<()>) -> Self {
        if let Ok(envelope) = &mut self.envelope
            && let Err(error) = change(envelope)
        {
            self.envelope = Err(error);
        }
        self
    }

    /// Sets the id.
    pub fn id(self, id: impl Into<EventId>) -> Self {
        self.change(|envelope| {
            envelope.id = id.into();
            Ok(())
        })
    }

    /// Sets when the event happened.
    pub fn time(self, time: Timestamp) -> Self {
        self.change(|envelope| {
            envelope.time = Some(time);
            Ok(())
        })
    }

    /// Sets the key.
    pub fn key(self, key: impl Into<Key>) -> Self {
        self.change(|envelope| {
            envelope.key = Some(key.into());
            Ok(())
        })
    }

    /// Sets the payload.
    pub fn payload(self, payload: impl Into<Bytes>) -> Self {
        self.change(|envelope| {
            envelope.payload = Some(payload.into());
            Ok(())
        })
    }

    /// Sets what the event is about.
    pub fn subject(self, subject: impl Into<ByteString>) -> Self {
        self.change(|envelope| {
            let subject = subject.into();
            check_text("subject", &subject)?;
            envelope.set_subject(subject);
            Ok(())
        })
    }

    /// Sets an extension attribute.
    pub fn attribute(self, name: impl Into<ByteString>, value: impl Into<AttributeValue>) -> Self {
        self.change(|envelope| envelope.set_attribute(name, value))
    }

    /// Sets the tenant.
    pub fn tenant(self, tenant: impl Into<ByteString>) -> Self {
        self.attribute(extension::TENANT_ID, tenant.into())
    }

    /// Adds a header.
    pub fn header(self, name: impl Into<ByteString>, value: impl Into<Bytes>) -> Self {
        self.change(|envelope| {
            let name = HeaderName::new(name)?;
            envelope.headers_mut().push(name, value);
            Ok(())
        })
    }

    /// The envelope.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for the first part that broke a rule.
    pub fn build(self) -> Result<Envelope> {
        self.envelope
    }
}
