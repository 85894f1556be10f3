//! The configuration that every transport shares.
//!
//! A transport's `Config` holds a [`Shared`] and its own fields; [`Shared::resolve`] reads the
//! URL, lets what it says win over the fields, and leaves the transport's own query keys to it.

mod address;
mod value;

use std::fmt;
use std::path::PathBuf;

use interline_core::{Durability, Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer};

pub use self::address::{Address, Endpoint};
pub use self::value::{Secret, duration, parse_duration, parse_number, parse_switch};
pub use crate::config_from_url;

/// What every transport is configured with.
///
/// ```
/// use interline_transport::settings::{Profile, Shared};
///
/// let shared = Shared::from("memory://shop?namespace=dev&profile=production");
/// let (shared, address) = shared.resolve("memory", &[])?;
/// assert_eq!(shared.namespace.as_deref(), Some("dev"));
/// assert_eq!(shared.profile(&address), Profile::Production);
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Shared {
    /// `scheme://[user[:password]@]host[:port][,host[:port]..][/path][?key=value&..]`.
    pub url: String,
    /// Put before the names of everything that is stored, to tell applications apart.
    pub namespace: Option<String>,
    /// What is done for the caller; `None` chooses by the endpoints.
    pub profile: Option<Profile>,
    /// Encryption of the connection.
    pub tls: Tls,
    /// The least durability that is accepted; `None` takes the profile's.
    #[serde(alias = "min-durability", deserialize_with = "durability")]
    pub min_durability: Option<Durability>,
}

impl Shared {
    /// The query keys that every transport knows.
    pub const KEYS: [&'static str; 8] = [
        "namespace",
        "profile",
        "tls",
        "tls_ca",
        "tls_cert",
        "tls_key",
        "insecure",
        "min_durability",
    ];

    /// Reads the URL: what it says wins over the fields. `own` are the query keys that belong to
    /// the transport alone; they stay in the address.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a malformed URL, another scheme than `scheme`, an unknown key or
    /// a malformed value. No message holds a credential.
    pub fn resolve(&self, scheme: &'static str, own: &[&str]) -> Result<(Self, Address)> {
        let mut address = Address::parse(&self.url).map_err(|error| error.on(scheme))?;
        if address.scheme != scheme {
            let wrong = format!("`{address}` is no `{scheme}://` URL");
            return Err(config(wrong, format!("begin it with `{scheme}://`")).on(scheme));
        }
        address.check_keys(own).map_err(|error| error.on(scheme))?;
        let mut shared = self.clone();
        shared
            .take(&mut address)
            .map_err(|error| error.on(scheme))?;
        Ok((shared, address))
    }

    fn take(&mut self, address: &mut Address) -> Result<()> {
        if let Some(namespace) = address.take("namespace") {
            self.namespace = Some(namespace);
        }
        if let Some(profile) = address.take("profile") {
            self.profile = Some(profile.parse()?);
        }
        if let Some(level) = address.take("min_durability") {
            self.min_durability = Some(parse_durability(&level)?);
        }
        if let Some(switch) = address.take("tls") {
            self.tls.enabled = Some(parse_switch("tls", &switch)?);
        }
        if let Some(switch) = address.take("insecure") {
            self.tls.insecure = parse_switch("insecure", &switch)?;
        }
        for (key, file) in [
            ("tls_ca", &mut self.tls.ca),
            ("tls_cert", &mut self.tls.cert),
            ("tls_key", &mut self.tls.key),
        ] {
            if let Some(path) = address.take(key) {
                *file = Some(path.into());
            }
        }
        Ok(())
    }

    /// The profile: the chosen one, else development if every endpoint is this machine.
    #[must_use]
    pub fn profile(&self, address: &Address) -> Profile {
        self.profile.unwrap_or(if address.is_loopback() {
            Profile::Development
        } else {
            Profile::Production
        })
    }

    /// The least durability that is accepted: the chosen one, else `production` in the profile
    /// of that name and the least of all in development.
    #[must_use]
    pub fn min_durability(&self, address: &Address, production: Durability) -> Durability {
        self.min_durability.unwrap_or(match self.profile(address) {
            Profile::Development => Durability::Memory,
            Profile::Production => production,
        })
    }

    /// Whether the connection is encrypted.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it would not be although an endpoint is another machine, unless
    /// `insecure` is set; and for files of a connection that is said to be plain.
    pub fn uses_tls(&self, address: &Address) -> Result<bool> {
        let files = self.tls.has_files();
        match self.tls.enabled {
            Some(false) if files => Err(config(
                "TLS is off but a certificate, key or authority is given",
                "remove `tls=off` or the `tls_*` settings",
            )),
            Some(true) => Ok(true),
            None if files => Ok(true),
            _ if self.tls.insecure || address.is_loopback() => Ok(false),
            _ => Err(config(
                format!("`{address}` is another machine and TLS is off"),
                "set `tls=on` (and `tls_ca=FILE` for an authority of your own), or accept a \
                 readable connection with `insecure=1`",
            )),
        }
    }
}

/// Makes a transport's `Config` from a URL: `TryFrom` for `&str`, `String` and `&String`.
///
/// The type has a field `shared` of type [`Shared`], a default, and a method `resolve(&self)` that
/// checks it as a whole.
#[macro_export]
macro_rules! config_from_url {
    ($config:ty) => {
        impl TryFrom<&str> for $config {
            type Error = interline_core::Error;

            /// A configuration from a URL, checked as a whole.
            ///
            /// # Errors
            /// [`ErrorKind::Config`](interline_core::ErrorKind::Config) naming what is wrong,
            /// without any secret.
            fn try_from(url: &str) -> Result<Self, Self::Error> {
                let config = Self {
                    shared: $crate::settings::Shared::from(url),
                    ..Self::default()
                };
                config.resolve()?;
                Ok(config)
            }
        }

        impl TryFrom<String> for $config {
            type Error = interline_core::Error;

            fn try_from(url: String) -> Result<Self, Self::Error> {
                Self::try_from(&*url)
            }
        }

        impl TryFrom<&String> for $config {
            type Error = interline_core::Error;

            fn try_from(url: &String) -> Result<Self, Self::Error> {
                Self::try_from(&**url)
            }
        }
    };
}

impl From<&str> for Shared {
    fn from(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..Self::default()
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("url", &address::redacted(&self.url))
            .field("namespace", &self.namespace)
            .field("profile", &self.profile)
            .field("tls", &self.tls)
            .field("min_durability", &self.min_durability)
            .finish()
    }
}

/// What a transport does for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Topics are created and schemas migrated.
    Development,
    /// Everything has to be there already; errors print the fix.
    Production,
}

impl std::str::FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "development" | "dev" => Ok(Self::Development),
            "production" | "prod" => Ok(Self::Production),
            other => Err(config(
                format!("{:?} is no profile", value::shown(other)),
                "write `development` or `production`",
            )),
        }
    }
}

/// Encryption of the connection. Any file turns it on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// On or off; `None` is on if a file is given.
    pub enabled: Option<bool>,
    /// PEM file of the authorities that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file of the client's private key.
    pub key: Option<PathBuf>,
    /// Accepts a plain connection to another machine.
    pub insecure: bool,
}

impl Tls {
    fn has_files(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.key.is_some()
    }
}

fn durability<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Durability>, D::Error> {
    Option::<String>::deserialize(from)?
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

fn parse_durability(text: &str) -> Result<Durability> {
    text.parse().map_err(|what: &'static str| {
        config(format!("{:?} is no durability", value::shown(text)), what)
    })
}

/// An error of the configuration, with its remedy.
pub fn config(
    message: impl Into<std::borrow::Cow<'static, str>>,
    remedy: impl Into<std::borrow::Cow<'static, str>>,
) -> Error {
    Error::new(ErrorKind::Config, "connect", message).remedy(remedy)
}

#[cfg(test)]
mod tests;
