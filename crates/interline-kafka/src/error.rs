//! Errors of librdkafka in the words of the contract.

use interline_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::SCHEME;

/// The kind and remedy of an error code.
pub(crate) fn kind(code: Code) -> (ErrorKind, &'static str) {
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => (
            ErrorKind::NotFound,
            "create the topic, or check its name and the namespace",
        ),
        Code::GroupIdNotFound => (ErrorKind::NotFound, "check the name of the group"),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => (
            ErrorKind::Denied,
            "give this user the permission (kafka-acls --add)",
        ),
        Code::Authentication | Code::SaslAuthenticationFailed => {
            (ErrorKind::Denied, "check user, password and mechanism")
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => (
            ErrorKind::Limit,
            "send less, or raise max.message.bytes of the topic",
        ),
        Code::OffsetOutOfRange | Code::AutoOffsetReset => (
            ErrorKind::PositionLost,
            "reset the group to a place that is kept",
        ),
        Code::OperationTimedOut | Code::RequestTimedOut | Code::MessageTimedOut => {
            (ErrorKind::Timeout, "check that the brokers answer")
        }
        Code::InvalidTopic | Code::InvalidPartitions | Code::InvalidReplicationFactor => (
            ErrorKind::Invalid,
            "the cluster cannot make such a topic: check its name, partitions and replicas",
        ),
        Code::PolicyViolation => (ErrorKind::Denied, "the cluster's policy forbids it"),
        Code::NonEmptyGroup => (ErrorKind::Invalid, "stop the group's members first"),
        Code::UnsupportedVersion | Code::UnsupportedFeature => (
            ErrorKind::Unsupported,
            "use a broker of version 2.4 or later",
        ),
        Code::PurgeQueue | Code::PurgeInflight => (
            ErrorKind::Closed,
            "flush with a longer deadline, or publish again with the same id",
        ),
        Code::BadMessage | Code::InvalidMessage | Code::BadCompression => (
            ErrorKind::Protocol,
            "check the disks and network of the brokers",
        ),
        _ => (
            ErrorKind::Unavailable,
            "check that the brokers are up; it is tried again by itself",
        ),
    }
}

/// The error of an answer with this code.
pub(crate) fn coded(operation: &'static str, code: Code) -> Error {
    let (kind, remedy) = kind(code);
    Error::new(kind, operation, code.to_string())
        .on(SCHEME)
        .remedy(remedy)
}

/// An error of rdkafka in `operation`.
pub(crate) fn kafka(operation: &'static str, error: &KafkaError) -> Error {
    match (error, error.rdkafka_error_code()) {
        // Its text shows the value, which may be a secret.
        (KafkaError::ClientConfig(_, _, name, _), _) => Error::new(
            ErrorKind::Config,
            operation,
            format!("librdkafka refuses the value of its property `{name}`"),
        )
        .on(SCHEME)
        .remedy("correct or remove it"),
        (_, Some(code)) => coded(operation, code),
        _ => Error::new(ErrorKind::Unavailable, operation, error.to_string())
            .on(SCHEME)
            .remedy("check that the brokers are up"),
    }
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
