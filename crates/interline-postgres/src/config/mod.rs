//! How to reach a database.

mod resolved;
#[cfg(test)]
mod tests;

use std::time::Duration;

use interline_transport::settings::{Secret, Shared, config_from_url, duration};
use serde::Deserialize;

pub(crate) use self::resolved::Resolved;

/// How to reach and use a database.
///
/// ```
/// use interline_postgres::Config;
///
/// let config = Config::try_from("postgres://ada:secret@db.example/shop?tls=on&partitions=6")?;
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), interline_core::Error>(())
/// ```
///
/// The URL is `postgres://[user[:password]@]host[:port][,host[:port]..][/database][?key=value&..]`
/// with port 5432 by default and the database named as the user. Of several hosts the first that
/// takes writes is used. Its query knows the shared settings and the fields below by their names
/// (durations as `500ms`, `10s`, `7d`). What the URL says wins over the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// URL, namespace, profile, TLS and least durability, as on every transport. The namespace
    /// names the schema: `interline`, or `interline_NAMESPACE`.
    #[serde(flatten)]
    pub shared: Shared,
    /// The user, if it is not in the URL.
    pub user: Option<String>,
    /// The password, if it is not in the URL.
    pub password: Option<Secret>,
    /// The partitions of a topic that is made without saying how many; 12 by default.
    pub partitions: u32,
    /// How long events of a topic are kept that is made without saying so; 7 days by default.
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
    /// How often readers look for events by themselves; 50 ms by default. They are woken by
    /// interline's own publishers at once; this is the delay of events published through SQL.
    #[serde(deserialize_with = "duration")]
    pub poll: Duration,
    /// How often the list of topics is read again, for patterns and deleted topics; 1 s by
    /// default.
    #[serde(deserialize_with = "duration")]
    pub topic_refresh: Duration,
    /// How long connecting and a request of the administration may take; 10 s by default.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    /// How many connections are shared by checkpoints, leases and the administration; 4 by
    /// default. Each publisher, member and reader has one of its own beside them.
    pub connections: usize,
    /// Whether this process keeps house where its user owns the schema: it begins ranges of the
    /// log, drops those beyond retention and forgets old copies; `true` by default.
    pub maintain: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shared: Shared::default(),
            user: None,
            password: None,
            partitions: 12,
            retention: Duration::from_secs(7 * 86_400),
            poll: Duration::from_millis(50),
            topic_refresh: Duration::from_secs(1),
            request_timeout: Duration::from_secs(10),
            connections: 4,
            maintain: true,
        }
    }
}

config_from_url!(Config);
