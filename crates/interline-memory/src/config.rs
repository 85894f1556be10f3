//! The configuration.

use std::time::Duration;

use interline_core::Result;
use interline_transport::settings::{
    Profile, Shared, config, config_from_url, parse_duration, parse_number,
};
use serde::Deserialize;

use crate::SCHEME;

const KEYS: [&str; 6] = [
    "partitions",
    "capacity",
    "capacity_bytes",
    "history",
    "history_bytes",
    "retention",
];

/// How the memory is opened. What the URL says wins over the fields.
///
/// ```
/// use interline_memory::Config;
///
/// let config = Config::try_from("memory://shop?partitions=3&retention=1h")?;
/// assert_eq!(config.shared.url, "memory://shop?partitions=3&retention=1h");
/// assert!(Config::try_from("memory://shop?partition=3").is_err());
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Config {
    /// What all transports share.
    #[serde(flatten)]
    pub shared: Shared,
    /// The partitions of a topic that is created by its first publish or subscribe.
    pub partitions: u32,
    /// How many events of a topic may wait for its slowest group before publishing waits. One
    /// batch may go beyond it.
    pub capacity: u64,
    /// How many bytes may.
    pub capacity_bytes: u64,
    /// How many events of a topic are kept at least after every group has read them.
    pub history: u64,
    /// How many bytes are.
    pub history_bytes: u64,
    /// How long they are kept at most, and how long a group without members holds its place;
    /// text such as `7d` in files and URLs.
    #[serde(deserialize_with = "retention")]
    pub retention: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shared: Shared::from("memory://"),
            partitions: 12,
            capacity: 1 << 20,
            capacity_bytes: 256 << 20,
            // With what is on its way, small enough for a processor's own cache.
            history: 1 << 12,
            history_bytes: 64 << 20,
            retention: Duration::from_secs(7 * 86_400),
        }
    }
}

/// Which memory is meant, and how it is used.
pub(crate) struct Resolved {
    /// The name shared in the process; `None` is private.
    pub(crate) name: Option<String>,
    pub(crate) production: bool,
    pub(crate) config: Config,
}

impl Config {
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let (shared, mut address) = self.shared.resolve(SCHEME, &KEYS)?;
        let mut own = self.clone();
        for key in KEYS {
            if let Some(text) = address.take(key) {
                own.set(key, &text).map_err(|error| error.on(SCHEME))?;
            }
        }
        if own.partitions == 0 || own.partitions > 4_096 || own.capacity == 0 {
            let message = "partitions have to be 1 to 4,096 and the capacity at least 1";
            return Err(config(message, "leave them out for the defaults").on(SCHEME));
        }
        let name = match (&*address.endpoints, &address.path) {
            ([], None) => None,
            ([one], None) if one.port.is_none() => Some(one.host.clone()),
            _ => {
                let message = format!("`{address}` is no name of a memory");
                return Err(config(message, "write `memory://name` or `memory://`").on(SCHEME));
            }
        };
        let name = name.map(|name| format!("{}/{name}", shared.namespace.as_deref().unwrap_or("")));
        let production = shared.profile == Some(Profile::Production);
        own.shared = shared;
        Ok(Resolved {
            name,
            production,
            config: own,
        })
    }

    fn set(&mut self, key: &str, text: &str) -> Result<()> {
        match key {
            "partitions" => self.partitions = parse_number(key, text)?,
            "capacity" => self.capacity = parse_number(key, text)?,
            "capacity_bytes" => self.capacity_bytes = parse_number(key, text)?,
            "history" => self.history = parse_number(key, text)?,
            "history_bytes" => self.history_bytes = parse_number(key, text)?,
            _ => self.retention = parse_duration(key, text)?,
        }
        Ok(())
    }
}

config_from_url!(Config);

fn retention<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration("retention", &text).map_err(serde::de::Error::custom)
}
