//! Points in time.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Error, ErrorKind, Result};

/// A point in time with nanoseconds and the offset in which it was written, as RFC 3339 has it.
///
/// ```
/// use interline_core::Timestamp;
///
/// let time: Timestamp = "2018-04-05T17:31:00+02:00".parse()?;
/// assert_eq!(time.to_string(), "2018-04-05T17:31:00+02:00");
/// assert_eq!(time, "2018-04-05T15:31:00Z".parse()?);
/// assert_eq!(time.unix_millis(), 1_522_942_260_000);
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// Now, by this machine's clock.
    #[must_use]
    pub fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }

    /// The point `millis` milliseconds after 1970-01-01T00:00:00Z; a point outside the years 0
    /// to 9999, which RFC 3339 can write, is moved to the nearest one inside.
    #[must_use]
    pub fn from_unix_millis(millis: i64) -> Self {
        Self::from_unix_nanos(i128::from(millis) * 1_000_000)
    }

    fn from_unix_nanos(nanos: i128) -> Self {
        let nanos = nanos.clamp(-62_167_219_200_000_000_000, 253_402_300_799_999_999_999);
        Self(OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.0.unix_timestamp() * 1_000 + i64::from(self.0.millisecond())
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::try_from(self.0 - earlier.0).unwrap_or_default()
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self> {
        OffsetDateTime::parse(text, &Rfc3339)
            .map(Self)
            .map_err(|cause| {
                let shown: String = text.chars().take(40).collect();
                Error::new(
                    ErrorKind::Invalid,
                    "envelope",
                    format!("{shown:?} is no point in time"),
                )
                .remedy("write it as in 2018-04-05T17:31:00Z (RFC 3339)")
                .because(cause)
            })
    }
}

impl From<SystemTime> for Timestamp {
    /// A time outside the years 0 to 9999 is moved to the nearest one inside.
    fn from(time: SystemTime) -> Self {
        let nanos = |span: Duration| i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
        Self::from_unix_nanos(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A time of nine decimals and an offset takes 35 bytes.
        let mut text = [0; 40];
        let mut rest = &mut text[..];
        let written = self.0.format_into(&mut rest, &Rfc3339);
        written.map_err(|_| fmt::Error)?;
        let length = 40 - rest.len();
        f.write_str(std::str::from_utf8(&text[..length]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
