//! How to reach a server.

mod login;
mod resolved;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use interline_transport::settings::{Secret, Shared, config_from_url, duration};
use serde::Deserialize;

pub(crate) use self::login::Login;
pub(crate) use self::resolved::Resolved;

/// How to reach and use a NATS server with JetStream, version 2.10 or later.
///
/// ```
/// use interline_nats::Config;
///
/// let config = Config::try_from("nats://ada:secret@127.0.0.1:4222?namespace=shop")?;
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), interline_core::Error>(())
/// ```
///
/// The URL is `nats://[user:password@|token@]host[:port][,host[:port]..][?key=value&..]` with
/// port 4222 by default; `tls://` is the same with `tls=on`. Its query knows the shared settings
/// and the fields below by their names (durations as `500ms`, `10s`, `1m`). What the URL says wins
/// over the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// URL, namespace, profile, TLS and least durability, as on every transport. The namespace
    /// is the first token of every subject.
    #[serde(flatten)]
    pub shared: Shared,
    /// The user, if it is not in the URL.
    pub user: Option<String>,
    /// The password, if it is not in the URL.
    pub password: Option<Secret>,
    /// A token, if it is not in the URL.
    pub token: Option<Secret>,
    /// The file with a user's JWT and seed, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// The file with a user's seed (`SU..`).
    pub nkey: Option<PathBuf>,
    /// What the subjects begin with on which this client is answered, if it may not listen on
    /// others; `_INBOX` by default.
    pub inbox_prefix: Option<String>,
    /// Declares that the server writes to disk before it acknowledges (`sync_interval: always`).
    /// A client cannot ask for it; [`monitor`](Self::monitor) can. Either way events go out in
    /// batches that are written to disk once, to topics made so on servers from 2.12 on and to
    /// streams that `allow_atomic`.
    pub sync_always: bool,
    /// `host:port` of the server's monitoring (`http_port`), where its durability is asked for
    /// once, in the clear.
    pub monitor: Option<String>,
    /// How long `connect` and each request may take; 10 s by default.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shared: Shared::default(),
            user: None,
            password: None,
            token: None,
            credentials: None,
            nkey: None,
            inbox_prefix: None,
            sync_always: false,
            monitor: None,
            request_timeout: Duration::from_secs(10),
        }
    }
}

config_from_url!(Config);
