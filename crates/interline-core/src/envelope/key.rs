//! The key of an event.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// The longest key that is kept in place: room for a UUID as text.
const INLINE: usize = 38;

/// The bytes by which events are kept in one partition and in order. An empty key is a key.
///
/// A key of up to 38 bytes is kept in place, so that cloning or dropping it counts no reference;
/// a longer one shares its bytes with its clones.
///
/// ```
/// use interline_core::Key;
///
/// let key = Key::from("ada");
/// assert_eq!(key, "ada");
/// assert_eq!(key.len(), 3);
/// assert_eq!(key.to_bytes(), "ada");
/// ```
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Shared(Bytes),
}

impl Key {
    /// A copy of `key`.
    #[must_use]
    pub fn copy_from_slice(key: &[u8]) -> Self {
        Self::inline(key).unwrap_or_else(|| Self(Repr::Shared(Bytes::copy_from_slice(key))))
    }

    fn inline(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        let len = key.len() as u8;
        Some(Self(Repr::Inline { len, bytes }))
    }

    /// The key as bytes of its own, copied if it is short.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Inline { .. } => Bytes::copy_from_slice(self),
            Repr::Shared(bytes) => bytes.clone(),
        }
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Bytes> for Key {
    fn from(key: Bytes) -> Self {
        Self::inline(&key).unwrap_or(Self(Repr::Shared(key)))
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        Self::copy_from_slice(key)
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self::copy_from_slice(key.as_bytes())
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Bytes::from(key).into()
    }
}

impl From<Vec<u8>> for Key {
    fn from(key: Vec<u8>) -> Self {
        Bytes::from(key).into()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(other)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<&T> for Key {
    fn eq(&self, other: &&T) -> bool {
        **self == *other.as_ref()
    }
}

impl PartialEq<[u8]> for Key {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<str> for Key {
    fn eq(&self, other: &str) -> bool {
        **self == *other.as_bytes()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_comes_back() {
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 300] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let key = Key::from(bytes.clone());
            assert_eq!(key, &bytes);
            assert_eq!(key.clone(), Key::copy_from_slice(&bytes));
            assert_eq!(key.to_bytes(), bytes);
            let is_inline = matches!(key.0, Repr::Inline { .. });
            assert_eq!(is_inline, len <= INLINE);
        }
    }

    #[test]
    fn an_optional_key_takes_no_more_than_a_key() {
        assert_eq!(size_of::<Option<Key>>(), 40);
    }
}
