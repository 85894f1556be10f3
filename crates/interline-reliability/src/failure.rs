//! Why a handler did not succeed, and whether trying again can help.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The longest text of a cause that is kept, in bytes.
pub(crate) const MAX_CAUSE: usize = 1_024;

/// Why a delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler returned an error that may pass.
    Transient,
    /// The handler said that trying again cannot help.
    Permanent,
    /// The handler panicked.
    Panic,
    /// The handler took longer than its timeout.
    Timeout,
    /// The payload is not the event that its type promises.
    Undecodable,
    /// The type has no handler and the policy asks for a dead letter.
    Unhandled,
    /// The event was running each time its process died.
    Suspect,
}

impl FailureKind {
    /// The kind in lower case, as dead letters and metrics carry it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Undecodable => "undecodable",
            Self::Unhandled => "unhandled",
            Self::Suspect => "suspect",
        }
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Transient | Self::Panic | Self::Timeout)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a handler returns when it did not succeed.
///
/// Every error converts into a transient failure, so that `?` means "retry, in order";
/// [`Fail::permanent`] and [`Fail::retry_after`] decide otherwise.
///
/// ```
/// use std::time::Duration;
/// use interline_reliability::{Fail, Failure, FailureKind};
///
/// fn charge(card: &str) -> Result<(), Failure> {
///     if card == "declined" {
///         return Err("the card was declined".permanent());
///     }
///     std::fs::read("/no/such/file").map(|_| ())?;
///     Ok(())
/// }
/// assert_eq!(charge("declined").unwrap_err().kind(), FailureKind::Permanent);
/// assert_eq!(charge("fine").unwrap_err().kind(), FailureKind::Transient);
/// let later = "busy".retry_after(Duration::from_secs(9));
/// assert_eq!(later.delay(), Some(Duration::from_secs(9)));
/// ```
#[derive(Clone)]
pub struct Failure(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: FailureKind,
    cause: Cow<'static, str>,
    class: &'static str,
    delay: Option<Duration>,
}

impl Failure {
    /// A failure with the text of its cause, cut to 1 KiB.
    #[must_use]
    pub fn new(kind: FailureKind, cause: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            cause: capped(cause.into()),
            class: "",
            delay: None,
        }))
    }

    /// Why the delivery failed.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// The text of the cause.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.0.cause
    }

    /// The name of the Rust type of the error, or empty.
    #[must_use]
    pub fn class(&self) -> &'static str {
        self.0.class
    }

    /// How long to wait before the next attempt, if the handler said so.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.0.delay
    }
}

/// Cuts at a character boundary.
fn capped(cause: Cow<'static, str>) -> Cow<'static, str> {
    if cause.len() <= MAX_CAUSE {
        return cause;
    }
    let mut end = MAX_CAUSE;
    while !cause.is_char_boundary(end) {
        end -= 1;
    }
    cause[..end].to_owned().into()
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        let mut failure = Self::new(FailureKind::Transient, text);
        failure.0.class = std::any::type_name::<E>();
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind(), self.cause())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Turns anything that can be shown into a [`Failure`].
pub trait Fail: fmt::Display + Sized {
    /// Trying again cannot help: the event becomes a dead letter with this cause.
    #[must_use]
    fn permanent(self) -> Failure {
        Failure::new(FailureKind::Permanent, self.to_string())
    }

    /// Trying again may help: the event is retried by the policy.
    #[must_use]
    fn transient(self) -> Failure {
        Failure::new(FailureKind::Transient, self.to_string())
    }

    /// Trying again may help, but not before `delay`.
    #[must_use]
    fn retry_after(self, delay: Duration) -> Failure {
        let mut failure = self.transient();
        failure.0.delay = Some(delay);
        failure
    }
}

impl<T: fmt::Display> Fail for T {}
