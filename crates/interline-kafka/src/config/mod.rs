//! How to reach a cluster.

mod properties;
mod resolved;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use interline_transport::settings::{Secret, Shared, config_from_url, duration};
use serde::Deserialize;

pub(crate) use self::resolved::{Names, Resolved, kafka_configs, millis};
use crate::token::TokenSource;

/// How to reach and use a Kafka cluster.
///
/// ```
/// use interline_kafka::Config;
///
/// let config = Config::try_from("kafka://ada:secret@broker:9093?tls=on&kafka.client.rack=eu-1")?;
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), interline_core::Error>(())
/// ```
///
/// The URL is `kafka://[user[:password]@]host[:port][,host[:port]..][?key=value&..]` with port
/// 9092 by default. Its query knows the shared settings, the fields below by their names
/// (durations as `500ms`, `10s`, `1m`), and `kafka.<property>` for
/// [properties of librdkafka](Self::properties). What the URL says wins over the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// URL, namespace, profile, TLS and least durability, as on every transport. The namespace
    /// is put before topics and groups, with a dot.
    #[serde(flatten)]
    pub shared: Shared,
    /// How to log in; with a user in the URL and nothing here, [`Sasl::ScramSha256`].
    pub sasl: Option<Sasl>,
    /// The user, if it is not in the URL.
    pub user: Option<String>,
    /// The password, if it is not in the URL.
    pub password: Option<Secret>,
    /// Where tokens for [`Sasl::OAuthBearer`] come from.
    #[serde(skip)]
    pub token: Option<TokenSource>,
    /// How long the publisher waits for more events to send along; 0 by default, since events
    /// that come while a request is on its way are sent together anyway. A few milliseconds pay
    /// where single events come by the thousand a second: the broker then has half the work.
    #[serde(deserialize_with = "duration")]
    pub linger: Duration,
    /// How many requests may be on their way to one broker, 1 to 5; 1 by default. More helps
    /// where the way to the broker is long, and costs processor time where it is short.
    pub max_in_flight: u8,
    /// After which silence the cluster takes a member for dead; 10 s by default. Its partitions
    /// stand still for so long when it dies. When all brokers are away for longer, every member
    /// is out and they stand still for so long after the return: choose more than a restart of
    /// your brokers takes if that is worse.
    #[serde(deserialize_with = "duration")]
    pub session_timeout: Duration,
    /// For how long the reading thread may be stuck before its member is evicted, and how long a
    /// rebalance waits for dead members; 45 s by default. Handlers do not count: they may take
    /// any time.
    #[serde(deserialize_with = "duration")]
    pub max_poll_interval: Duration,
    /// How long a member may settle what runs when partitions pass to another; 10 s by default.
    /// None of the member's partitions is read meanwhile.
    #[serde(deserialize_with = "duration")]
    pub revoke_budget: Duration,
    /// How often a pattern is expanded again and a missing return topic is looked for; 5 s by
    /// default.
    #[serde(deserialize_with = "duration")]
    pub topic_refresh: Duration,
    /// How long `connect` and each request of the administration may take; 10 s by default.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    /// Properties of librdkafka, passed through as they are. Those that the contract depends on
    /// are refused by name.
    pub properties: BTreeMap<String, Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shared: Shared::default(),
            sasl: None,
            user: None,
            password: None,
            token: None,
            linger: Duration::ZERO,
            max_in_flight: 1,
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(45),
            revoke_budget: Duration::from_secs(10),
            topic_refresh: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            properties: BTreeMap::new(),
        }
    }
}

config_from_url!(Config);

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Sasl {
    /// User and password as they are, inside TLS.
    #[serde(rename = "plain")]
    Plain,
    /// Salted challenge and response with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// Salted challenge and response with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// Tokens of an identity provider, from [`Config::token`].
    #[serde(rename = "oauthbearer")]
    OAuthBearer,
}

impl Sasl {
    fn mechanism(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "plain" => Self::Plain,
            "scram-sha-256" => Self::ScramSha256,
            "scram-sha-512" => Self::ScramSha512,
            "oauthbearer" => Self::OAuthBearer,
            _ => return None,
        })
    }
}
