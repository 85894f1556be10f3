//! Typed events and their codecs.

use bytes::{Bytes, BytesMut};

use crate::Result;

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
    fn key(&self) -> Option<Bytes> {
        None
    }
}

/// How data of type `T` becomes bytes and back.
///
/// An instance may hold state (a registry client, a schema cache); it is shared and used from
/// many threads at once.
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
