//! Errors of the server and its driver in the words of the contract.

use std::error::Error as _;

use interline_core::{Error, ErrorKind, Topic};
use tokio_postgres::error::SqlState;

use crate::SCHEME;

const BY_ITSELF: &str = "check that the server is up; it is tried again by itself";

/// The kind and remedy of an answer with this code.
fn kind(code: &SqlState) -> (ErrorKind, &'static str) {
    match code.code() {
        "42501" => (
            ErrorKind::Denied,
            "grant it to this user (deploy/postgres/roles.sql)",
        ),
        "IL001" => (ErrorKind::NotFound, "create the topic and subscribe anew"),
        "3D000" => (
            ErrorKind::NotFound,
            "create the database, or check its name",
        ),
        "3F000" | "42P01" | "42883" | "42703" => (
            ErrorKind::Config,
            "apply the migrations, or connect once with `profile=development`",
        ),
        "57014" | "55P03" => (ErrorKind::Timeout, "look for locks in pg_stat_activity"),
        code => match &code[..2.min(code.len())] {
            "28" => (ErrorKind::Denied, "check user, password and pg_hba.conf"),
            "54" => (ErrorKind::Limit, "send less"),
            "22" | "23" if code != "23514" => (ErrorKind::Invalid, "check the arguments"),
            // Connections, resources, operator, failover, rollbacks, and a range that is missing.
            "08" | "53" | "57" | "58" | "40" | "25" | "23" => (ErrorKind::Unavailable, BY_ITSELF),
            _ => (ErrorKind::Protocol, "check the server's log"),
        },
    }
}

/// An error of the driver in `operation`.
pub(crate) fn postgres(operation: &'static str, error: tokio_postgres::Error) -> Error {
    if let Some(answer) = error.as_db_error() {
        let (kind, remedy) = kind(answer.code());
        let text: String = answer.message().chars().take(300).collect();
        let text = text.escape_debug().to_string();
        return self::error(kind, operation, text, remedy).because(error);
    }
    if let Some((what, remedy)) = handshake(&error) {
        return self::error(ErrorKind::Denied, operation, what, remedy).because(error);
    }
    let what = match error.is_closed() {
        true => "the connection was closed".to_owned(),
        false => error.source().map_or_else(
            || error.to_string(),
            |cause| format!("{error}: {cause}").escape_debug().to_string(),
        ),
    };
    self::error(ErrorKind::Unavailable, operation, what, BY_ITSELF).because(error)
}

/// Why a connection could not be made secret, if that is what happened.
fn handshake(error: &tokio_postgres::Error) -> Option<(&'static str, &'static str)> {
    use rustls::CertificateError as Certificate;
    if error.to_string().contains("server does not support TLS") {
        return Some((
            "the server does not speak TLS",
            "turn `ssl` on at the server, or accept a readable connection with `insecure=1`",
        ));
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(error) = inner.or_else(|| error.downcast_ref::<rustls::Error>()) {
            return Some(match error {
                rustls::Error::InvalidCertificate(Certificate::UnknownIssuer) => (
                    "the server's certificate is of an authority that is not trusted",
                    "set `tls_ca=FILE` to the authority that signed it",
                ),
                rustls::Error::InvalidCertificate(
                    Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
                ) => (
                    "the server's certificate is for another host name",
                    "connect by a name that the certificate holds",
                ),
                rustls::Error::InvalidCertificate(
                    Certificate::Expired | Certificate::ExpiredContext { .. },
                ) => ("the server's certificate has expired", "renew it"),
                rustls::Error::AlertReceived(_) => (
                    "the server refuses the TLS handshake",
                    "set `tls_cert` and `tls_key` to a pair that it trusts",
                ),
                _ => (
                    "the TLS handshake failed",
                    "check the server's certificate and TLS versions",
                ),
            });
        }
        cause = error.source();
    }
    None
}

/// An error of the pool in `operation`.
pub(crate) fn pool(operation: &'static str, error: deadpool_postgres::PoolError) -> Error {
    match error {
        deadpool_postgres::PoolError::Backend(error) => postgres(operation, error),
        other => self::error(
            ErrorKind::Unavailable,
            operation,
            "no connection was free in time",
            "raise `connections`, or check that the server is up",
        )
        .because(other),
    }
}

/// A handle that was closed.
pub(crate) fn closed(operation: &'static str) -> Error {
    Error::closed(operation).on(SCHEME)
}

pub(crate) fn missing_topic(operation: &'static str, topic: &Topic) -> Error {
    error(
        ErrorKind::NotFound,
        operation,
        format!("topic `{topic}` does not exist"),
        format!("create it with `interline topics create {topic}` or use `profile=development`"),
    )
}

pub(crate) fn lost_connection() -> Error {
    error(
        ErrorKind::Unavailable,
        "read",
        "the connection was closed",
        BY_ITSELF,
    )
}

pub(crate) fn late(operation: &'static str) -> Error {
    error(
        ErrorKind::Timeout,
        operation,
        "the server did not answer in time",
        "check the server's load and locks (pg_stat_activity)",
    )
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
