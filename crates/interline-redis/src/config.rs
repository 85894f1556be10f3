//! How to reach a server.

#[cfg(test)]
mod tests;

use std::time::Duration;

use interline_core::{Durability, Result, Topic};
use interline_transport::settings::{
    Address, Profile, Secret, Shared, config, config_from_url, duration, parse_duration,
    parse_number,
};
use serde::{Deserialize, Deserializer};

use crate::SCHEME;
use crate::keys::Keys;

const PORT: u16 = 6379;

/// The query keys of this transport.
const OWN: [&str; 5] = [
    "partitions",
    "retention",
    "dedupe_window",
    "request_timeout",
    "durability",
];

/// The most partitions of a topic: more would make one command of a reading too long.
const MOST_PARTITIONS: u32 = 1_024;

/// How to reach and use a Redis server.
///
/// ```
/// use interline_redis::Config;
///
/// let config = Config::try_from("rediss://ada:secret@cache:6380/2?dedupe_window=1h")?;
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), interline_core::Error>(())
/// ```
///
/// The URL is `redis://[user[:password]@]host[:port][/database][?key=value&..]` with port 6379 by
/// default; `rediss://` turns TLS on. Its query knows the shared settings and the fields below by
/// their names (durations as `500ms`, `10s`, `7d`). What the URL says wins over the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Config {
    /// URL, namespace, profile, TLS and least durability, as on every transport. The namespace
    /// begins the name of every key; it is `interline` by default. A least durability of D2 has
    /// publishing wait for the server's disk where the server does not sync before it answers.
    #[serde(flatten)]
    pub shared: Shared,
    /// The user, if it is not in the URL.
    pub user: Option<String>,
    /// The password, if it is not in the URL.
    pub password: Option<Secret>,
    /// The partitions of a topic that nobody gave a number; 12 by default.
    pub partitions: u32,
    /// How long events are kept in a topic that nobody gave a retention; 7 days by default.
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
    /// For how long an event published twice is recognised; off by default, since it takes half
    /// of the server's speed. Resends of the publisher itself are recognised without it.
    #[serde(deserialize_with = "maybe_duration")]
    pub dedupe_window: Option<Duration>,
    /// How long `connect` and each request may take; 10 s by default.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    /// The durability of a server that forbids to ask for it (`CONFIG GET`); it is then shown as
    /// declared.
    #[serde(skip)]
    pub durability: Option<Durability>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shared: Shared::default(),
            user: None,
            password: None,
            partitions: 12,
            retention: Duration::from_secs(7 * 86_400),
            dedupe_window: None,
            request_timeout: Duration::from_secs(10),
            durability: None,
        }
    }
}

/// A configuration with its URL read and every rule checked.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The URL without credentials.
    pub(crate) place: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: u8,
    pub(crate) profile: Profile,
    pub(crate) min_durability: Durability,
    pub(crate) is_tls: bool,
    pub(crate) keys: Keys,
    /// The other settings, with what the URL said.
    pub(crate) config: Config,
}

impl Resolved {
    pub(crate) fn is_development(&self) -> bool {
        self.profile == Profile::Development
    }
}

impl Config {
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let mut config = self.clone();
        if let Some((scheme, rest)) = config.shared.url.split_once("://")
            && scheme.eq_ignore_ascii_case("rediss")
        {
            config.shared.url = format!("{SCHEME}://{rest}");
            config.shared.tls.enabled = Some(true);
        }
        let (shared, mut address) = config.shared.resolve(SCHEME, &OWN)?;
        config.shared = shared;
        config
            .finish(&mut address)
            .map_err(|error| error.on(SCHEME))
    }

    fn finish(mut self, address: &mut Address) -> Result<Resolved> {
        let [endpoint] = &*address.endpoints else {
            return Err(config(
                format!("`{address}` does not name one server"),
                "write `redis://host:port[/database]`",
            ));
        };
        let (host, port) = (endpoint.host.clone(), endpoint.port.unwrap_or(PORT));
        let database = match &address.path {
            None => 0,
            Some(path) => parse_number("database", path)?,
        };
        self.take(address)?;
        self.check_ranges()?;
        let is_tls = self.shared.uses_tls(address)?;
        if self.shared.tls.insecure && !is_tls && !address.is_loopback() {
            tracing::warn!(target: "interline::redis", server = %address, "the connection is not encrypted");
        }
        let prefix = match &self.shared.namespace {
            None => "interline".to_owned(),
            Some(namespace) => Topic::new(namespace)?.to_string(),
        };
        Ok(Resolved {
            place: address.to_string(),
            host,
            port,
            database,
            profile: self.shared.profile(address),
            min_durability: self.shared.min_durability(address, Durability::Process),
            is_tls,
            keys: Keys::new(&prefix),
            config: self,
        })
    }

    /// What the URL says of this transport's own settings.
    fn take(&mut self, address: &mut Address) -> Result<()> {
        if let Some(text) = address.take("partitions") {
            self.partitions = parse_number("partitions", &text)?;
        }
        if let Some(text) = address.take("retention") {
            self.retention = parse_duration("retention", &text)?;
        }
        if let Some(text) = address.take("dedupe_window") {
            self.dedupe_window = Some(parse_duration("dedupe_window", &text)?);
        }
        if let Some(text) = address.take("request_timeout") {
            self.request_timeout = parse_duration("request_timeout", &text)?;
        }
        if let Some(text) = address.take("durability") {
            let level = text.parse().map_err(|what: &'static str| {
                config("the value of `durability` is no durability", what)
            })?;
            self.durability = Some(level);
        }
        if address.user.is_some() {
            self.user.clone_from(&address.user);
        }
        if address.password.is_some() {
            self.password.clone_from(&address.password);
        }
        // `redis://:password@host` names the default user.
        self.user = self.user.take().filter(|user| !user.is_empty());
        Ok(())
    }

    fn check_ranges(&self) -> Result<()> {
        if self.partitions == 0 || self.partitions > MOST_PARTITIONS {
            return Err(config(
                format!("`partitions` has to be 1 to {MOST_PARTITIONS}"),
                "leave it out for 12",
            ));
        }
        let second = Duration::from_secs(1);
        if self.retention < second || self.dedupe_window.is_some_and(|window| window < second) {
            return Err(config(
                "`retention` or `dedupe_window` is under 1 s",
                "leave them out for 7 days and no window",
            ));
        }
        if self.request_timeout < Duration::from_millis(100) {
            return Err(config(
                "`request_timeout` is under 100 ms",
                "leave it out for 10 s",
            ));
        }
        Ok(())
    }
}

config_from_url!(Config);

fn maybe_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let parsed = text.map(|text| parse_duration("duration", &text));
    parsed.transpose().map_err(serde::de::Error::custom)
}
