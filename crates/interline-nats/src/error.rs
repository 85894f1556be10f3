//! Errors of the server and of its client in the words of the contract.

use std::fmt;

use async_nats::client::{RequestError, RequestErrorKind};
use interline_core::{Error, ErrorKind};
use serde::Deserialize;

use crate::SCHEME;

/// Codes of JetStream that are told apart.
pub(crate) mod code {
    pub(crate) const UNAVAILABLE: u64 = 10008;
    pub(crate) const NOT_LEADER: u64 = 10009;
    pub(crate) const CONSUMER_NOT_FOUND: u64 = 10014;
    pub(crate) const NO_MESSAGE: u64 = 10037;
    pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
    pub(crate) const MESSAGE_TOO_LARGE: u64 = 10054;
    pub(crate) const STREAM_EXISTS: u64 = 10058;
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    pub(crate) const SUBJECT_OVERLAP: u64 = 10065;
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    pub(crate) const NO_REPLICAS_HERE: u64 = 10074;
    pub(crate) const NOT_ENABLED: u64 = 10076;
    pub(crate) const STORE_FAILED: u64 = 10077;
    pub(crate) const TOO_MANY_REQUESTS: u64 = 10167;
}

/// An error that JetStream answered.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default, rename = "err_code")]
    pub(crate) number: u64,
    #[serde(default)]
    pub(crate) description: String,
}

impl Refusal {
    /// Whether the same request may pass soon.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self.number,
            code::UNAVAILABLE | code::NOT_LEADER | code::TOO_MANY_REQUESTS
        )
    }

    pub(crate) fn error(&self, operation: &'static str) -> Error {
        let (kind, remedy) = match self.number {
            code::STREAM_NOT_FOUND | code::CONSUMER_NOT_FOUND | code::NO_MESSAGE => (
                ErrorKind::NotFound,
                "create the topic, or check its name and the namespace",
            ),
            code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT => (
                ErrorKind::Config,
                "start the server with `-js`, and give the account limits for JetStream",
            ),
            code::MESSAGE_TOO_LARGE => (
                ErrorKind::Limit,
                "send less, or raise max_msg_size of the stream",
            ),
            code::STORE_FAILED => (
                ErrorKind::Unavailable,
                "make room: lower the retention, raise the stream's limits, or check the disk",
            ),
            code::STREAM_EXISTS | code::SUBJECT_OVERLAP => (
                ErrorKind::Invalid,
                "choose another namespace, or remove the stream that is in the way",
            ),
            code::NO_REPLICAS_HERE => (
                ErrorKind::Invalid,
                "ask for 1 replica: the server is not part of a cluster",
            ),
            _ if self.is_transient() || self.code == 503 || self.code == 429 => (
                ErrorKind::Unavailable,
                "check that the servers are up; it is tried again by itself",
            ),
            _ if self.code == 404 => (ErrorKind::NotFound, "check the name and the namespace"),
            _ => (
                ErrorKind::Invalid,
                "check the settings of the stream and the limits of the account",
            ),
        };
        error(kind, operation, self.to_string(), remedy)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The server repeats names and subjects; none of them may break the line.
        write!(f, "{} ({})", self.description.escape_debug(), self.number)
    }
}

/// A request without a usable answer.
pub(crate) fn request(operation: &'static str, cause: RequestError) -> Error {
    let (kind, what, remedy) = match cause.kind() {
        RequestErrorKind::NoResponders => (
            ErrorKind::Unavailable,
            "JetStream does not answer",
            "start the server with `-js`, and give the account JetStream",
        ),
        RequestErrorKind::TimedOut => (
            ErrorKind::Timeout,
            "the server did not answer in time",
            "check that it is up and that this user may ask it",
        ),
        RequestErrorKind::MaxPayloadExceeded => (
            ErrorKind::Limit,
            "a request is larger than the server takes",
            "raise max_payload of the server",
        ),
        _ => (
            ErrorKind::Unavailable,
            "the connection broke",
            "check that the server is up; it is tried again by itself",
        ),
    };
    error(kind, operation, what, remedy)
        .because(cause)
        .ambiguous()
}

/// The connection ended before the answer came.
pub(crate) fn broken(operation: &'static str) -> Error {
    error(
        ErrorKind::Unavailable,
        operation,
        "the connection broke",
        "check that the server is up; it is tried again by itself",
    )
    .ambiguous()
}

/// The server forbids what was asked for; `what` are its own words.
pub(crate) fn denied(operation: &'static str, what: &str) -> Error {
    error(
        ErrorKind::Denied,
        operation,
        what.escape_debug().to_string(),
        "give this user the permission; deploy/nats lists what is needed",
    )
}

/// The server answered what it should not have.
pub(crate) fn protocol(operation: &'static str, cause: serde_json::Error) -> Error {
    error(
        ErrorKind::Protocol,
        operation,
        "the server's answer cannot be read",
        "check that it is a NATS server of version 2.10 or later",
    )
    .because(cause)
}

/// A handle that was closed.
pub(crate) fn closed(operation: &'static str) -> Error {
    Error::closed(operation).on(SCHEME)
}

/// An error of its own kind.
pub(crate) fn error(
    kind: ErrorKind,
    operation: &'static str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Error {
    Error::new(kind, operation, message.into())
        .on(SCHEME)
        .remedy(remedy.into())
}
