//! Typed events and their codecs.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use uuid::Uuid;

use crate::{EventId, Result};

/// A fact with a type and data, as a Rust type.
///
/// `#[derive(Event)]` of `interline-macros` writes this; by hand it is five lines:
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use interline_core::{Codec, Event, Result};
///
/// struct Tick(u8);
///
/// #[derive(Debug, Default)]
/// struct OneByte;
///
/// impl Codec<Tick> for OneByte {
///     fn content_type(&self) -> &'static str {
///         "application/octet-stream"
///     }
///     fn encode(&self, tick: &Tick, buffer: &mut BytesMut) -> Result<()> {
///         buffer.extend_from_slice(&[tick.0]);
///         Ok(())
///     }
///     fn decode(&self, _: Option<&str>, payload: &Bytes) -> Result<Tick> {
///         payload.first().copied().map(Tick).ok_or_else(|| interline_core::undecodable("empty"))
///     }
/// }
///
/// impl Event for Tick {
///     const TYPE: &'static str = "clock.tick";
///     const TOPIC: &'static str = "clock";
///     type Codec = OneByte;
/// }
///
/// let mut buffer = BytesMut::new();
/// OneByte.encode(&Tick(7), &mut buffer)?;
/// assert_eq!(OneByte.decode(None, &buffer.freeze())?.0, 7);
/// # Ok::<(), interline_core::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "no `Event` implementation",
    note = "add `#[derive(Event)]` with `#[event(type = \"..\", topic = \"..\")]`"
)]
pub trait Event: Sized + Send + 'static {
    /// The CloudEvents type, such as `shop.order.placed`.
    const TYPE: &'static str;
    /// The topic where events of this type are published.
    const TOPIC: &'static str;
    /// The URI of the schema, if there is one; another incompatible version has another URI.
    const SCHEMA: Option<&'static str> = None;
    /// How the data becomes bytes.
    type Codec: Codec<Self> + Default;

    /// The key: events of one key stay in order. `None` spreads events over the partitions.
    ///
    /// It may borrow from the event: the publisher keeps key and payload in one buffer.
    fn key(&self) -> Option<Cow<'_, [u8]>> {
        None
    }
}

/// What can be the key of an event, for `#[event(key = ..)]`.
///
/// Text and bytes are the key as they are. Numbers and UUIDs are their text, so that a publisher
/// in another language, or a person, finds the same partition by writing the same thing. The
/// `None` of an [`Option`] is no key at all, which differs from an empty one.
///
/// ```
/// use interline_core::EventKey;
///
/// assert_eq!("ada".to_key().unwrap(), &b"ada"[..]);
/// assert_eq!(42_u64.to_key().unwrap(), &b"42"[..]);
/// assert_eq!(Some(vec![0_u8]).to_key().unwrap(), &b"\0"[..]);
/// assert_eq!(None::<String>.to_key(), None);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of an event",
    label = "no text, bytes, number or UUID",
    note = "give an expression of such a type instead: `key = \"self.field.to_string()\"`"
)]
pub trait EventKey {
    /// The bytes of the key; `None` spreads the event.
    fn to_key(&self) -> Option<Cow<'_, [u8]>>;
}

macro_rules! keys_of_bytes {
    ($($key:ty)*) => {$(
        impl EventKey for $key {
            fn to_key(&self) -> Option<Cow<'_, [u8]>> {
                let bytes: &[u8] = self.as_ref();
                Some(bytes.into())
            }
        }
    )*};
}
keys_of_bytes!(str String [u8] Vec<u8>);

macro_rules! keys_of_text {
    ($($key:ty)*) => {$(
        impl EventKey for $key {
            fn to_key(&self) -> Option<Cow<'_, [u8]>> {
                Some(self.to_string().into_bytes().into())
            }
        }
    )*};
}
keys_of_text!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize Uuid);

impl EventKey for Bytes {
    fn to_key(&self) -> Option<Cow<'_, [u8]>> {
        Some((&**self).into())
    }
}

impl EventKey for ByteString {
    fn to_key(&self) -> Option<Cow<'_, [u8]>> {
        Some((&**self.as_bytes()).into())
    }
}

impl EventKey for EventId {
    fn to_key(&self) -> Option<Cow<'_, [u8]>> {
        Some(self.to_text().as_bytes().to_vec().into())
    }
}

impl<const N: usize> EventKey for [u8; N] {
    fn to_key(&self) -> Option<Cow<'_, [u8]>> {
        self.as_slice().to_key()
    }
}

impl<K: EventKey> EventKey for Option<K> {
    fn to_key(&self) -> Option<Cow<'_, [u8]>> {
        self.as_ref()?.to_key()
    }
}

macro_rules! keys_behind_pointers {
    ($($pointer:ty)*) => {$(
        impl<K: EventKey + ?Sized> EventKey for $pointer {
            fn to_key(&self) -> Option<Cow<'_, [u8]>> {
                (**self).to_key()
            }
        }
    )*};
}
keys_behind_pointers!(&K Box<K> Arc<K>);

impl<K: EventKey + ToOwned + ?Sized> EventKey for Cow<'_, K> {
    fn to_key(&self) -> Option<Cow<'_, [u8]>> {
        (**self).to_key()
    }
}

/// How data of type `T` becomes bytes and back.
///
/// An instance may hold state (a registry client, a schema cache); it is shared and used from
/// many threads at once.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no codec of `{T}`",
    label = "cannot encode and decode `{T}`",
    note = "derive what the codec asks of its types, or name another one: `#[event(codec = ..)]`"
)]
pub trait Codec<T>: Send + Sync + 'static {
    /// The media type that the codec writes, kept in `datacontenttype`.
    fn content_type(&self) -> &'static str;

    /// Appends the bytes of `value` to `buffer`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the value has no form in this codec;
    /// `buffer` may then hold a part of it.
    fn encode(&self, value: &T, buffer: &mut BytesMut) -> Result<()>;

    /// Reads a value from `payload`, which `content_type` describes.
    ///
    /// # Errors
    /// [`ErrorKind::Undecodable`](crate::ErrorKind::Undecodable) if the bytes are no such value or
    /// the content type belongs to another codec.
    fn decode(&self, content_type: Option<&str>, payload: &Bytes) -> Result<T>;
}
