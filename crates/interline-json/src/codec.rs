//! The codecs.

use bytes::{BufMut, Bytes, BytesMut};
use interline_core::{Codec, Error, ErrorKind, Result, undecodable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::media;

/// Data as JSON, by its [`Serialize`] and [`DeserializeOwned`].
///
/// It reads every content type that declares JSON in UTF-8 (`application/json`, `text/json`,
/// `application/vnd.shop+json; charset=utf-8`) and events without one. An error names line and
/// column, never what stands there.
///
/// ```
/// use bytes::BytesMut;
/// use interline_core::Codec;
/// use interline_json::Json;
///
/// let mut buffer = BytesMut::new();
/// Json.encode(&vec![1, 2], &mut buffer)?;
/// let back: Vec<u8> = Json.decode(Some("application/json"), &buffer.freeze())?;
/// assert_eq!(back, [1, 2]);
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn encode(&self, value: &T, buffer: &mut BytesMut) -> Result<()> {
        // The cause may quote the value, so it is not kept.
        serde_json::to_writer(buffer.writer(), value).map_err(|_| {
            Error::new(
                ErrorKind::Invalid,
                "encode",
                "the value has no form in JSON",
            )
            .remedy("use text, numbers or unit variants as the keys of maps")
        })
    }

    fn decode(&self, content_type: Option<&str>, payload: &Bytes) -> Result<T> {
        if let Some(given) = content_type
            && !(media::is_json(given) && media::is_utf8(given))
        {
            let shown: String = given.chars().take(64).collect();
            return Err(undecodable(format_args!(
                "the content type {shown:?} is not JSON in UTF-8"
            )));
        }
        serde_json::from_slice(payload).map_err(|cause| unfit(&cause))
    }
}

fn unfit(cause: &serde_json::Error) -> Error {
    let what = match cause.classify() {
        serde_json::error::Category::Data => "JSON of another shape than the type",
        serde_json::error::Category::Eof => "JSON that ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
    };
    let (line, column) = (cause.line(), cause.column());
    undecodable(format_args!(
        "the payload is {what} (line {line}, column {column})"
    ))
}

/// Bytes as they are, for data of type [`Bytes`] or `Vec<u8>`; it reads every content type.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use interline_core::Codec;
/// use interline_json::Raw;
///
/// let mut buffer = BytesMut::new();
/// Raw.encode(&Bytes::from_static(b"\x00\xff"), &mut buffer)?;
/// let back: Vec<u8> = Raw.decode(Some("image/png"), &buffer.freeze())?;
/// assert_eq!(back, b"\x00\xff");
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Raw;

macro_rules! raw {
    ($($bytes:ty, $copy:expr;)*) => {$(
        impl Codec<$bytes> for Raw {
            fn content_type(&self) -> &'static str {
                "application/octet-stream"
            }

            fn encode(&self, value: &$bytes, buffer: &mut BytesMut) -> Result<()> {
                buffer.extend_from_slice(value);
                Ok(())
            }

            fn decode(&self, _: Option<&str>, payload: &Bytes) -> Result<$bytes> {
                Ok($copy(payload))
            }
        }
    )*};
}
raw! {
    Bytes, Bytes::clone;
    Vec<u8>, |payload: &Bytes| payload.to_vec();
}
