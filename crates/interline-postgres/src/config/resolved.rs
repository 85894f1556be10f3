//! A configuration with its URL read and every rule checked.

use std::time::Duration;

use interline_core::{Durability, Result};
use interline_transport::settings::{
    Address, Profile, config, parse_duration, parse_number, parse_switch,
};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Config;
use crate::schema::Schema;
use crate::{SCHEME, tls};

const PORT: u16 = 5432;

/// The query keys of this transport.
const OWN: [&str; 7] = [
    "partitions",
    "retention",
    "poll",
    "topic_refresh",
    "request_timeout",
    "connections",
    "maintain",
];

/// After which silence a connection is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A configuration that can be used.
#[derive(Clone)]
pub(crate) struct Resolved {
    /// The URL without credentials.
    pub(crate) place: String,
    pub(crate) profile: Profile,
    pub(crate) min_durability: Durability,
    pub(crate) schema: Schema,
    pub(crate) driver: tokio_postgres::Config,
    /// How to speak TLS; nothing for a plain connection.
    pub(crate) tls: Option<MakeRustlsConnect>,
    /// The other settings, with what the URL said.
    pub(crate) config: Config,
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
        if address.endpoints.is_empty() {
            return Err(config(
                format!("`{address}` names no server"),
                "write `postgres://host:port/database`",
            ));
        }
        self.take(address)?;
        self.check_ranges()?;
        let tls = match self.shared.uses_tls(address)? {
            true => Some(tls::connector(&self.shared.tls)?),
            false => None,
        };
        Ok(Resolved {
            place: address.to_string(),
            profile: self.shared.profile(address),
            min_durability: self.shared.min_durability(address, Durability::Disk),
            schema: Schema::new(self.shared.namespace.as_deref())?,
            driver: self.driver(address, tls.is_some()),
            tls,
            config: self,
        })
    }

    /// What the URL says of this transport's own settings.
    fn take(&mut self, address: &mut Address) -> Result<()> {
        if let Some(text) = address.take("partitions") {
            self.partitions = parse_number("partitions", &text)?;
        }
        if let Some(text) = address.take("connections") {
            self.connections = parse_number("connections", &text)?;
        }
        if let Some(text) = address.take("maintain") {
            self.maintain = parse_switch("maintain", &text)?;
        }
        for (key, slot) in [
            ("retention", &mut self.retention),
            ("poll", &mut self.poll),
            ("topic_refresh", &mut self.topic_refresh),
            ("request_timeout", &mut self.request_timeout),
        ] {
            if let Some(text) = address.take(key) {
                *slot = parse_duration(key, &text)?;
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
        if !(1..=4_096).contains(&self.partitions) {
            return Err(config("`partitions` is out of range", "write 1 to 4096"));
        }
        if self.connections == 0 {
            return Err(config("`connections` is 0", "write 1 or more"));
        }
        let durations = [
            self.retention,
            self.poll,
            self.topic_refresh,
            self.request_timeout,
        ];
        if durations.iter().any(Duration::is_zero) {
            return Err(config(
                "`retention`, `poll`, `topic_refresh` or `request_timeout` is 0",
                "write 1ms or more",
            ));
        }
        Ok(())
    }

    fn driver(&self, address: &Address, is_tls: bool) -> tokio_postgres::Config {
        let mut driver = tokio_postgres::Config::new();
        for endpoint in &address.endpoints {
            driver.host(&endpoint.host);
            driver.port(endpoint.port.unwrap_or(PORT));
        }
        if let Some(user) = &self.user {
            driver.user(user);
        }
        if let Some(password) = &self.password {
            driver.password(password.reveal());
        }
        if let Some(database) = &address.path {
            driver.dbname(database);
        }
        driver
            .application_name("interline")
            .connect_timeout(self.request_timeout)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE)
            .keepalives_retries(2)
            .tcp_user_timeout(3 * KEEPALIVE)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            // The default would fall back to a plain connection in silence.
            .ssl_mode(match is_tls {
                true => SslMode::Require,
                false => SslMode::Disable,
            });
        driver
    }
}
