//! The one error type of the workspace.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// The result of an interline operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms that are the same on every transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing, malformed or refused by the profile.
    Config,
    /// A value given by the caller breaks a rule (a name, an attribute, an argument).
    Invalid,
    /// A payload, its headers or a batch is larger than what may be sent.
    Limit,
    /// The topic, group or dead letter does not exist.
    NotFound,
    /// Credentials were refused or a permission is missing.
    Denied,
    /// The server cannot be reached or refuses work for now.
    Unavailable,
    /// The deadline passed before the answer came.
    Timeout,
    /// The transport cannot do this; see its capabilities.
    Unsupported,
    /// A position is no longer, or not yet, in the partition.
    PositionLost,
    /// The payload cannot be read as the expected event.
    Undecodable,
    /// The handle was closed or its transport has failed for good.
    Closed,
    /// The server answered something that it should not have.
    Protocol,
}

impl ErrorKind {
    /// The kind in lower case with dashes, as it appears in dead letters, metrics and `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Invalid => "invalid",
            Self::Limit => "limit",
            Self::NotFound => "not-found",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Unsupported => "unsupported",
            Self::PositionLost => "position-lost",
            Self::Undecodable => "undecodable",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }
}

/// An error that names the operation, the transport and the remedy.
///
/// It is one pointer wide. `Display` is one line; `Debug` adds the chain of sources. Neither
/// ever holds a secret: whoever builds an error strips credentials from URLs and settings first.
///
/// ```
/// use interline_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::NotFound, "publish", "topic `orders` does not exist")
///     .on("kafka")
///     .remedy("create it with `interline topics create orders`");
/// assert_eq!(
///     error.to_string(),
///     "kafka publish: topic `orders` does not exist; create it with `interline topics create orders`"
/// );
/// assert!(!error.is_transient());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    transport: Option<&'static str>,
    message: Cow<'static, str>,
    remedy: Option<Cow<'static, str>>,
    ambiguous: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` in `operation` (a verb such as `publish` or `connect`).
    #[must_use]
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            transport: None,
            message: message.into(),
            remedy: None,
            ambiguous: false,
            source: None,
        }))
    }

    /// The error of an operation that `transport` does not declare in its capabilities.
    #[must_use]
    pub fn unsupported(transport: &'static str, operation: &'static str) -> Self {
        Self::new(
            ErrorKind::Unsupported,
            operation,
            "this transport cannot do it",
        )
        .on(transport)
        .remedy("see `capabilities()` or choose another transport")
    }

    /// The error of a handle used after `close`.
    #[must_use]
    pub fn closed(operation: &'static str) -> Self {
        Self::new(ErrorKind::Closed, operation, "the handle was closed")
            .remedy("connect again to go on")
    }

    /// Names the transport by its scheme.
    #[must_use]
    pub fn on(mut self, transport: &'static str) -> Self {
        self.0.transport = Some(transport);
        self
    }

    /// Says what the reader of the error can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Marks that the server may have carried the operation out all the same.
    #[must_use]
    pub fn ambiguous(mut self) -> Self {
        self.0.ambiguous = true;
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error once more, for another event or another caller. The cause is not repeated.
    #[must_use]
    pub fn again(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            operation: self.0.operation,
            transport: self.0.transport,
            message: self.0.message.clone(),
            remedy: self.0.remedy.clone(),
            ambiguous: self.0.ambiguous,
            source: None,
        }))
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The scheme of the transport, if one was involved.
    #[must_use]
    pub fn transport(&self) -> Option<&'static str> {
        self.0.transport
    }

    /// What happened, without operation and remedy.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the reader can do about it, if anything is known.
    #[must_use]
    pub fn remedy_text(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// Whether the server may have carried the operation out although it failed.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.0.ambiguous
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(transport) = inner.transport {
            write!(f, "{transport} ")?;
        }
        write!(f, "{}: {}", inner.operation, inner.message)?;
        match &inner.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} [{}]", self.0.kind.as_str())?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// So that a configuration can be given where one is converted to.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn display_is_one_line_and_debug_shows_the_chain() {
        let io = std::io::Error::other("refused");
        let error = Error::new(ErrorKind::Unavailable, "connect", "no broker answers").because(io);
        assert_eq!(error.to_string(), "connect: no broker answers");
        assert_eq!(
            format!("{error:?}"),
            "connect: no broker answers [unavailable]\n  caused by: refused"
        );
        assert!(error.is_transient());
    }

    #[test]
    fn an_error_is_told_again_without_its_cause() {
        let io = std::io::Error::other("refused");
        let error = Error::new(ErrorKind::Timeout, "publish", "no answer").on("memory");
        let error = error.remedy("wait").ambiguous().because(io);
        let again = error.again();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(
            (again.kind(), again.is_ambiguous()),
            (ErrorKind::Timeout, true)
        );
        assert!(again.source().is_none());
    }
}
