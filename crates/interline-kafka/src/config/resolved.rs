//! A configuration with its URL read and every rule checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use interline_core::{Durability, Group, Result, Topic};
use interline_transport::settings::{
    Address, Profile, Secret, config, parse_duration, parse_number,
};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::{Config, Sasl, properties};
use crate::SCHEME;

const PORT: u16 = 9092;
const PREFIX: &str = "kafka.";

/// The query keys of this transport.
const OWN: [&str; 9] = [
    "sasl",
    "linger",
    "max_in_flight",
    "session_timeout",
    "max_poll_interval",
    "revoke_budget",
    "topic_refresh",
    "request_timeout",
    "kafka.*",
];

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The URL without credentials.
    pub(crate) place: String,
    pub(crate) profile: Profile,
    pub(crate) min_durability: Durability,
    pub(crate) is_tls: bool,
    /// The other settings, with what the URL said.
    pub(crate) config: Config,
    pub(crate) names: Names,
    properties: BTreeMap<String, Secret>,
}

/// Names as the cluster knows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// What precedes them: empty, or the namespace and a dot.
    prefix: String,
}

impl Config {
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let (shared, mut address) = self.shared.resolve(SCHEME, &OWN)?;
        let mut config = self.clone();
        config.shared = shared;
        let resolved = config.finish(&mut address);
        resolved.map_err(|error| error.on(SCHEME))
    }

    fn finish(mut self, address: &mut Address) -> Result<Resolved> {
        if address.endpoints.is_empty() || address.path.is_some() {
            return Err(config(
                format!("`{address}` names no broker, or a path"),
                "write `kafka://host:port[,host:port..]`",
            ));
        }
        self.take(address)?;
        self.check_ranges()?;
        let is_tls = self.shared.uses_tls(address)?;
        self.check_login(address, is_tls)?;
        let brokers: Vec<String> = address
            .endpoints
            .iter()
            .map(|endpoint| endpoint.with_port(PORT))
            .collect();
        let mut properties = self.properties.clone();
        for name in properties.keys() {
            properties::check(name)?;
        }
        properties.insert("bootstrap.servers".to_owned(), brokers.join(",").into());
        self.secure(is_tls, &mut properties)?;
        let prefix = match &self.shared.namespace {
            None => String::new(),
            Some(namespace) => format!("{}.", Topic::new(namespace)?),
        };
        Ok(Resolved {
            place: address.to_string(),
            profile: self.shared.profile(address),
            min_durability: self.shared.min_durability(address, Durability::Quorum),
            is_tls,
            names: Names { prefix },
            config: self,
            properties,
        })
    }

    /// What the URL says of this transport's own settings.
    fn take(&mut self, address: &mut Address) -> Result<()> {
        if let Some(text) = address.take("sasl") {
            self.sasl = Some(Sasl::parse(&text).ok_or_else(|| {
                config(
                    "the value of `sasl` is no mechanism",
                    "write plain, scram-sha-256, scram-sha-512 or oauthbearer",
                )
            })?);
        }
        if let Some(text) = address.take("max_in_flight") {
            self.max_in_flight = parse_number("max_in_flight", &text)?;
        }
        for (key, slot) in [
            ("linger", &mut self.linger),
            ("session_timeout", &mut self.session_timeout),
            ("max_poll_interval", &mut self.max_poll_interval),
            ("revoke_budget", &mut self.revoke_budget),
            ("topic_refresh", &mut self.topic_refresh),
            ("request_timeout", &mut self.request_timeout),
        ] {
            if let Some(text) = address.take(key) {
                *slot = parse_duration(key, &text)?;
            }
        }
        for (key, value) in address.query() {
            if let Some(name) = key.strip_prefix(PREFIX) {
                self.properties.insert(name.to_owned(), value.clone());
            }
        }
        if address.user.is_some() {
            self.user.clone_from(&address.user);
        }
        if address.password.is_some() {
            self.password.clone_from(&address.password);
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<()> {
        let second = Duration::from_secs(1);
        if !(1..=5).contains(&self.max_in_flight) {
            return Err(config(
                "`max_in_flight` is out of range",
                "write 1 to 5: order survives a resend among at most five requests",
            ));
        }
        if self.session_timeout < second || self.max_poll_interval < self.session_timeout {
            return Err(config(
                "`session_timeout` is under 1 s or over `max_poll_interval`",
                "choose 6s to 45s, and a longer `max_poll_interval`",
            ));
        }
        if self.revoke_budget >= self.max_poll_interval {
            return Err(config(
                "`revoke_budget` is not below `max_poll_interval`",
                "lower it: a member that takes longer is evicted",
            ));
        }
        if self.topic_refresh.is_zero() || self.request_timeout.is_zero() {
            return Err(config(
                "`topic_refresh` or `request_timeout` is 0",
                "write 1s or more",
            ));
        }
        Ok(())
    }

    /// Whether there is all that the mechanism needs, and nothing is shown to the network.
    fn check_login(&mut self, address: &Address, is_tls: bool) -> Result<()> {
        if self.sasl.is_none() && self.token.is_some() {
            self.sasl = Some(Sasl::OAuthBearer);
        }
        if self.sasl.is_none() && self.user.is_some() {
            self.sasl = Some(Sasl::ScramSha256);
        }
        let Some(sasl) = self.sasl else {
            return Ok(());
        };
        if !is_tls && !address.is_loopback() {
            return Err(config(
                format!("logging in to `{address}` without TLS would show the credentials"),
                "set `tls=on`; `insecure=1` does not allow this",
            ));
        }
        let has_login = self.user.is_some() && self.password.is_some();
        match sasl {
            Sasl::OAuthBearer if self.token.is_none() => Err(config(
                "`sasl=oauthbearer` needs tokens, and no source of them is set",
                "set `Config::token`",
            )),
            Sasl::Plain | Sasl::ScramSha256 | Sasl::ScramSha512 if !has_login => Err(config(
                format!("{} needs a user and a password", sasl.mechanism()),
                "write `kafka://user:password@host`",
            )),
            _ => Ok(()),
        }
    }

    /// The properties that follow from TLS and SASL.
    fn secure(&self, is_tls: bool, properties: &mut BTreeMap<String, Secret>) -> Result<()> {
        let protocol = match (self.sasl, is_tls) {
            (None, false) => "plaintext",
            (None, true) => "ssl",
            (Some(_), false) => "sasl_plaintext",
            (Some(_), true) => "sasl_ssl",
        };
        properties.insert("security.protocol".to_owned(), protocol.into());
        if let Some(sasl) = self.sasl {
            properties.insert("sasl.mechanism".to_owned(), sasl.mechanism().into());
        }
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            properties.insert("sasl.username".to_owned(), user.as_str().into());
            properties.insert("sasl.password".to_owned(), password.clone());
        }
        let tls = &self.shared.tls;
        for (setting, property, file) in [
            ("tls_ca", "ssl.ca.location", &tls.ca),
            ("tls_cert", "ssl.certificate.location", &tls.cert),
            ("tls_key", "ssl.key.location", &tls.key),
        ] {
            if let Some(file) = file {
                check_readable(setting, file)?;
                let file = file.to_string_lossy().into_owned();
                properties.insert(property.to_owned(), file.into());
            }
        }
        Ok(())
    }
}

fn check_readable(setting: &str, file: &Path) -> Result<()> {
    std::fs::File::open(file).map(drop).map_err(|cause| {
        config(
            format!("the file {file:?} of `{setting}` cannot be read"),
            "check its path and permissions",
        )
        .because(cause)
    })
}

/// What every client is told unless the user says otherwise.
const CLIENT: [(&str, &str); 5] = [
    ("client.id", "interline"),
    // After which a connection that lost its other end without a word is given up. With the
    // default of a minute readings would stall for as long, and an event on its way would not be
    // sent again before its publish timeout.
    ("socket.timeout.ms", "20000"),
    ("socket.keepalive.enable", "true"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
];

/// What every consumer is told beside that, unless the user says otherwise.
///
/// A member has one request on its way to each broker. While the queue of a partition with a
/// backlog is full the request names the others alone, and if they are at their ends it stays
/// away for the longest wait: the backlog is then read at one full queue per longest wait. With
/// the defaults of 500 ms and a queue of 2 MiB that was 4 MB/s; with these it is over 160 MB/s.
const CONSUMER: [(&str, &str); 3] = [
    // Per partition, since each has a queue of its own.
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.wait.max.ms", "50"),
    // The default of 1 s makes a fast reader wait for most of its time.
    ("fetch.queue.backoff.ms", "2"),
];

impl Resolved {
    /// The properties of every client.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        // Otherwise the level follows the `log` crate, which nobody listens to here.
        client.set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in CLIENT {
            client.set(name, value);
        }
        for (name, value) in &self.properties {
            client.set(name, value.reveal());
        }
        client
    }

    /// The properties of a publisher.
    pub(crate) fn producer(&self, timeout: Duration) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("max.in.flight", self.config.max_in_flight.to_string())
            .set("linger.ms", millis(self.config.linger))
            .set("message.timeout.ms", millis(timeout))
            .set(
                "message.max.bytes",
                crate::publisher::MAX_MESSAGE.to_string(),
            )
            // The window alone bounds. librdkafka counts an event until everything reported with
            // it is let go, which is after its place in the window was given to another.
            .set("queue.buffering.max.messages", "0")
            .set(
                "queue.buffering.max.kbytes",
                crate::publisher::QUEUE_KIB.to_string(),
            );
        client
    }

    /// The properties of every consumer.
    fn consumer(&self) -> ClientConfig {
        let mut client = self.client();
        for (name, value) in CONSUMER {
            if !self.properties.contains_key(name) {
                client.set(name, value);
            }
        }
        client
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true");
        client
    }

    /// The properties of a member of a group.
    pub(crate) fn member(&self, group: &Group, instance: Option<&str>) -> ClientConfig {
        let config = &self.config;
        let mut client = self.consumer();
        let heartbeat = config.session_timeout / 20;
        let heartbeat = heartbeat.clamp(Duration::from_millis(200), Duration::from_secs(3));
        if client.get("heartbeat.interval.ms").is_none() {
            client.set("heartbeat.interval.ms", millis(heartbeat));
        }
        client
            .set("group.id", self.names.group(group))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(config.session_timeout))
            .set("max.poll.interval.ms", millis(config.max_poll_interval));
        if let Some(instance) = instance {
            client.set("group.instance.id", instance);
        }
        client
    }

    /// The properties of a reading without a group. librdkafka wants a group all the same; it is
    /// never joined and nothing is committed to it.
    pub(crate) fn reader(&self) -> ClientConfig {
        let mut client = self.consumer();
        client.set("group.id", format!("{}interline-reader", self.names.prefix));
        client
    }
}

impl Names {
    pub(crate) fn topic(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    pub(crate) fn group(&self, group: &Group) -> String {
        format!("{}{group}", self.prefix)
    }

    /// The topic that the cluster calls `name`, if it is one of this namespace.
    pub(crate) fn to_topic(&self, name: &str) -> Option<Topic> {
        let name = name.strip_prefix(&self.prefix)?;
        // The cluster's own topics are nobody's.
        if name.starts_with("__") {
            return None;
        }
        Topic::system(name).ok()
    }

    pub(crate) fn to_group(&self, name: &str) -> Option<Group> {
        Group::new(name.strip_prefix(&self.prefix)?).ok()
    }
}

pub(crate) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// The remedy that names a property of a topic.
pub(crate) fn kafka_configs(place: &str, topic: &str, change: &str) -> String {
    let brokers = place
        .split_once("://")
        .map_or(place, |(_, brokers)| brokers);
    format!(
        "kafka-configs --bootstrap-server {brokers} --entity-type topics --entity-name {topic} \
         --alter --add-config {change}"
    )
}
