//! Validated names: [`Topic`], [`Group`], [`Instance`] and [`Partition`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::{Error, ErrorKind, Result};

const DLQ: &str = ".dlq";
const RETRY: &str = ".retry";

/// The longest topic name that a caller may choose, in bytes.
///
/// With the longest group name, a separator and `.retry` it stays below Kafka's limit of 249.
pub const MAX_TOPIC: usize = 120;

/// The longest group or instance name, in bytes.
pub const MAX_GROUP: usize = 64;

/// Where events are published: one or more tokens of `A-Z a-z 0-9 - _`, joined by dots.
///
/// The alphabet is legal on every transport, so the encoding of a topic name is the name itself
/// and two topics never meet. Names that end in `.retry` or `.dlq` belong to interline: they are
/// made by [`Topic::retry`] and [`Topic::dlq`] or read back with [`Topic::system`].
///
/// Every event on its way carries its topic: a name of up to 23 bytes is kept in place, so that a
/// clone counts no reference.
///
/// ```
/// use interline_core::{Group, Topic};
///
/// let orders = Topic::new("shop.orders")?;
/// assert_eq!(orders.dlq(&Group::new("billing")?).as_str(), "shop.orders.billing.dlq");
/// assert!(Topic::new("shop.orders.dlq").is_err());
/// assert!(Topic::new("no spaces").is_err());
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(SmolStr);

impl Topic {
    /// A topic that the caller names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an empty or too long name, another character, an empty token
    /// or a reserved ending.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        check_tokens("topic", name, MAX_TOPIC)?;
        if name.ends_with(DLQ) || name.ends_with(RETRY) {
            return Err(invalid("topic", name, "ends in a reserved word")
                .remedy("leave the endings `.retry` and `.dlq` to interline"));
        }
        Ok(Self(name.into()))
    }

    /// A topic that may also be a return topic or a dead-letter topic.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] as for [`Topic::new`], except that reserved endings are allowed.
    pub fn system(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        check_tokens("topic", name, MAX_TOPIC + MAX_GROUP + 1 + RETRY.len())?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The return topic of `group`: where that group, and only it, gets an event back.
    #[must_use]
    pub fn retry(&self, group: &Group) -> Self {
        Self(format!("{self}.{group}{RETRY}").into())
    }

    /// The topic that holds the dead letters of `group` for this topic.
    #[must_use]
    pub fn dlq(&self, group: &Group) -> Self {
        Self(format!("{self}.{group}{DLQ}").into())
    }

    /// Whether the name belongs to interline: a return topic or a dead-letter topic.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.is_retry() || self.is_dlq()
    }

    /// Whether this is a return topic.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        self.0.ends_with(RETRY)
    }

    /// Whether this is a dead-letter topic.
    #[must_use]
    pub fn is_dlq(&self) -> bool {
        self.0.ends_with(DLQ)
    }

    /// The topic and group that this return or dead-letter topic was made for.
    #[must_use]
    pub fn origin(&self) -> Option<(Self, Group)> {
        let rest = self
            .0
            .strip_suffix(DLQ)
            .or_else(|| self.0.strip_suffix(RETRY))?;
        let (topic, group) = rest.rsplit_once('.')?;
        Some((Self::new(topic).ok()?, Group::new(group).ok()?))
    }
}

/// The consumers that share one reading of a topic: one token of `A-Z a-z 0-9 - _`, no dot.
///
/// ```
/// use interline_core::Group;
///
/// assert_eq!(Group::new("billing")?.as_str(), "billing");
/// assert!(Group::new("billing.eu").is_err());
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(Arc<str>);

impl Group {
    /// A group that the caller names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an empty or too long name or another character.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        check_token("group", name, MAX_GROUP)?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One member of a group across restarts: the same rules as [`Group`].
///
/// A process that starts again under the same instance takes over its old membership at once
/// instead of waiting for it to lapse.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance(Arc<str>);

impl Instance {
    /// An instance that the caller names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an empty or too long name or another character.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        check_token("instance", name, MAX_GROUP)?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! name_traits {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(name: &str) -> Result<Self> {
                Self::new(name)
            }
        }
    )*};
}
name_traits!(Topic Group Instance);

/// A fixed slice of a topic: an ordered log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic.
    pub topic: Topic,
    /// The number of the slice, from 0.
    pub index: u32,
}

impl Partition {
    /// Slice `index` of `topic`.
    #[must_use]
    pub fn new(topic: Topic, index: u32) -> Self {
        Self { topic, index }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn check_tokens(what: &'static str, name: &str, max: usize) -> Result<()> {
    check_length(what, name, max)?;
    name.split('.')
        .try_for_each(|token| check_alphabet(what, name, token))
}

fn check_token(what: &'static str, name: &str, max: usize) -> Result<()> {
    check_length(what, name, max)?;
    check_alphabet(what, name, name)
}

fn check_length(what: &'static str, name: &str, max: usize) -> Result<()> {
    if name.len() > max {
        return Err(invalid(what, name, "is too long").remedy(format!("use at most {max} bytes")));
    }
    Ok(())
}

fn check_alphabet(what: &'static str, name: &str, token: &str) -> Result<()> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !token.is_empty() && token.bytes().all(legal) {
        return Ok(());
    }
    let remedy = if what == "topic" {
        "use A-Z a-z 0-9 - _ in tokens joined by single dots"
    } else {
        "use A-Z a-z 0-9 - _ only"
    };
    Err(invalid(what, name, "is not a legal name").remedy(remedy))
}

fn invalid(what: &'static str, name: &str, why: &str) -> Error {
    // Names come from outside: escape them and keep the line short.
    let shown: String = name.chars().take(64).collect();
    Error::new(
        ErrorKind::Invalid,
        "name",
        format!("{what} {shown:?} {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_topics_know_their_origin() {
        let (topic, group) = (
            Topic::new("shop.orders").unwrap(),
            Group::new("billing").unwrap(),
        );
        for system in [topic.retry(&group), topic.dlq(&group)] {
            assert!(system.is_system());
            assert_eq!(system.origin(), Some((topic.clone(), group.clone())));
            assert_eq!(Topic::system(&system).unwrap(), system);
        }
        assert_eq!(topic.origin(), None);
    }

    #[test]
    fn odd_names_are_refused_and_shown_escaped() {
        for name in [
            "", ".", "a..b", "a.", "a b", "a\r\nb", "{a}", "é", "a>", "*",
        ] {
            assert!(Topic::new(name).is_err(), "{name:?}");
            assert!(Group::new(name).is_err(), "{name:?}");
        }
        let shown = Topic::new("a\r\nb").unwrap_err().to_string();
        assert!(!shown.contains('\n'), "{shown}");
        assert!(Topic::new("x".repeat(MAX_TOPIC)).is_ok());
        assert!(Topic::new("x".repeat(MAX_TOPIC + 1)).is_err());
    }
}
