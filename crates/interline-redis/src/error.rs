//! Errors of the client and of the server in the words of the contract.

use fred::error::{Error as Fred, ErrorKind as FredKind};
use interline_core::{Error, ErrorKind};

use crate::SCHEME;

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

/// A handle that was closed.
pub(crate) fn closed(operation: &'static str) -> Error {
    Error::closed(operation).on(SCHEME)
}

/// What the driver says of a connection that cannot be made, in words.
const WORDS: [(&str, ErrorKind, &str, &str); 8] = [
    (
        "NotValidForName",
        ErrorKind::Config,
        "the server's certificate is for another host name",
        "connect by the name that the certificate has",
    ),
    (
        "UnknownIssuer",
        ErrorKind::Config,
        "the server's certificate is from an authority that is not trusted",
        "name the file of the authority with `tls_ca`",
    ),
    (
        "Expired",
        ErrorKind::Config,
        "the server's certificate has expired",
        "renew it",
    ),
    (
        "InvalidCertificate",
        ErrorKind::Config,
        "the server's certificate is not valid",
        "give the server another one",
    ),
    (
        "InvalidContentType",
        ErrorKind::Config,
        "the server does not speak TLS",
        "name its TLS port, or use `tls=off`",
    ),
    (
        "ConnectionRefused",
        ErrorKind::Unavailable,
        "the server refuses connections",
        "check that it is up and listens on this address",
    ),
    (
        "failed to lookup",
        ErrorKind::Unavailable,
        "the host name is not known",
        "check the name",
    ),
    (
        "timed out",
        ErrorKind::Timeout,
        "the server does not answer",
        "check the address, the firewall and whether the server wants TLS",
    ),
];

/// An error of the client: the request may have been carried out.
pub(crate) fn client(operation: &'static str, cause: &Fred) -> Error {
    let details = cause.details();
    if let Some((_, kind, message, remedy)) = WORDS.iter().find(|(word, ..)| details.contains(word))
    {
        return error(*kind, operation, *message, *remedy).ambiguous();
    }
    let (kind, remedy) = match cause.kind() {
        FredKind::Auth => (ErrorKind::Denied, "check user and password"),
        FredKind::Timeout => (ErrorKind::Timeout, "check that the server answers"),
        FredKind::Config | FredKind::Url => (ErrorKind::Config, "correct the setting"),
        FredKind::Tls => (
            ErrorKind::Config,
            "check that the server speaks TLS and that its certificate is trusted (`tls_ca`)",
        ),
        // While it connects the driver asks the server by itself.
        FredKind::Unknown | FredKind::InvalidCommand | FredKind::InvalidArgument
            if is_answer(details) =>
        {
            return server(operation, details);
        }
        _ => (
            ErrorKind::Unavailable,
            "check that the server is up; it is tried again by itself",
        ),
    };
    error(kind, operation, one_line(details), remedy).ambiguous()
}

/// Whether the server said so: its errors begin with a word in capitals.
fn is_answer(details: &str) -> bool {
    let word = details.split_whitespace().next().unwrap_or_default();
    word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// An answer of the server that is an error: the request was not carried out.
pub(crate) fn server(operation: &'static str, text: &str) -> Error {
    let word = text.split_whitespace().next().unwrap_or_default();
    let (kind, remedy) = match word {
        "NOPERM" => (
            ErrorKind::Denied,
            "give this user the permission (ACL SETUSER); the least that is needed is in \
             deploy/redis",
        ),
        "NOAUTH" | "WRONGPASS" => (ErrorKind::Denied, "check user and password"),
        "OOM" => (
            ErrorKind::Unavailable,
            "the server has reached `maxmemory`: raise it or shorten the retention",
        ),
        "MISCONF" => (
            ErrorKind::Unavailable,
            "the server cannot write to its disk: make room",
        ),
        "READONLY" => (
            ErrorKind::Unavailable,
            "this server is a replica: name the primary",
        ),
        "LOADING" | "BUSY" | "MASTERDOWN" | "NOREPLICAS" | "TRYAGAIN" => {
            (ErrorKind::Unavailable, "wait; it is tried again by itself")
        }
        "WRONGTYPE" => (
            ErrorKind::Protocol,
            "another application uses this key: choose a `namespace` of your own",
        ),
        "CROSSSLOT" | "MOVED" | "ASK" | "CLUSTERDOWN" => (
            ErrorKind::Unsupported,
            "this is a node of a Redis Cluster: name a server that is none",
        ),
        _ => (ErrorKind::Protocol, "check the server's log"),
    };
    error(kind, operation, one_line(text), remedy)
}

/// What a server says may hold anything: keep it on one short line.
pub(crate) fn one_line(text: &str) -> String {
    let shown: String = text.chars().take(200).collect();
    shown.escape_debug().to_string().replace("\\'", "'")
}
