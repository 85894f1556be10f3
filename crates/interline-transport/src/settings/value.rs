//! Values of settings.

use std::fmt;
use std::time::Duration;

use interline_core::Result;
use serde::{Deserialize, Deserializer};

use super::config;

/// A value that never appears in Debug, Display or serialised form.
///
/// ```
/// let secret = interline_transport::settings::Secret::from("hunter2");
/// assert_eq!(format!("{secret} {secret:?}"), "*** ***");
/// assert_eq!(secret.reveal(), "hunter2");
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(Box<str>);

impl Secret {
    /// The value, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads `on`, `off`, `true`, `false`, `1` or `0`.
///
/// # Errors
/// [`ErrorKind::Config`](interline_core::ErrorKind::Config) for anything else.
pub fn parse_switch(key: &str, text: &str) -> Result<bool> {
    match text {
        "on" | "true" | "1" => Ok(true),
        "off" | "false" | "0" => Ok(false),
        _ => Err(config(
            format!("{:?} is no value for `{key}`", shown(text)),
            "write `on` or `off`",
        )),
    }
}

/// Reads a whole number.
///
/// # Errors
/// [`ErrorKind::Config`](interline_core::ErrorKind::Config) for anything else.
pub fn parse_number<T: std::str::FromStr>(key: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| {
        config(
            format!("{:?} is no value for `{key}`", shown(text)),
            "write a whole number",
        )
    })
}

/// [`parse_duration`] for a field of a configuration: `#[serde(deserialize_with = "duration")]`.
///
/// # Errors
/// That of the format for anything but text that [`parse_duration`] reads.
pub fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration("duration", &text).map_err(serde::de::Error::custom)
}

/// Reads a number with one of the units `ms`, `s`, `m`, `h`, `d`.
///
/// ```
/// use std::time::Duration;
/// use interline_transport::settings::parse_duration;
///
/// assert_eq!(parse_duration("retention", "7d")?, Duration::from_secs(604_800));
/// assert!(parse_duration("retention", "7").is_err());
/// # Ok::<(), interline_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](interline_core::ErrorKind::Config) for anything else.
pub fn parse_duration(key: &str, text: &str) -> Result<Duration> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    match number.zip(millis).and_then(|(n, unit)| n.checked_mul(unit)) {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => Err(config(
            format!("{:?} is no value for `{key}`", shown(text)),
            "write a number with a unit, as in `500ms`, `30s`, `5m`, `12h` or `7d`",
        )),
    }
}

/// What may be shown of a value that came from outside.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
