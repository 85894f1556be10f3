//! Points in time.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::{Error, ErrorKind, Result};

/// The first and the last second of the years 0 to 9999, since 1970.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;

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
///
/// Two times are equal if they are the same instant, whatever their offsets.
// Days and months are counted when it is written: every event is given a time, and few are printed.
#[derive(Clone, Copy)]
pub struct Timestamp {
    /// Since 1970, rounded down.
    seconds: i64,
    nanos: u32,
    offset: Offset,
}

/// Minutes east of Greenwich, counted from a day west of it: never zero, so that an optional time
/// takes no more room than a time.
#[derive(Clone, Copy)]
struct Offset(NonZeroU16);

impl Offset {
    const DAY: u16 = 24 * 60;
    const UTC: Self = Self(NonZeroU16::new(Self::DAY).unwrap());

    fn of(offset: UtcOffset) -> Self {
        let minutes = Self::DAY.saturating_add_signed(offset.whole_minutes());
        NonZeroU16::new(minutes).map_or(Self::UTC, Self)
    }

    fn seconds(self) -> i32 {
        (i32::from(self.0.get()) - i32::from(Self::DAY)) * 60
    }
}

impl Timestamp {
    /// Now, by this machine's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// The point `millis` milliseconds after 1970-01-01T00:00:00Z; a point outside the years 0
    /// to 9999, which RFC 3339 can write, is moved to the nearest one inside.
    #[must_use]
    pub fn from_unix_millis(millis: i64) -> Self {
        let nanos = millis.rem_euclid(1_000) as u32 * 1_000_000;
        Self::from_unix(millis.div_euclid(1_000), nanos)
    }

    fn from_unix(seconds: i64, nanos: u32) -> Self {
        let (seconds, nanos) = match seconds {
            ..FIRST => (FIRST, 0),
            FIRST..=LAST => (seconds, nanos),
            _ => (LAST, 999_999_999),
        };
        Self {
            seconds,
            nanos,
            offset: Offset::UTC,
        }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.seconds * 1_000 + i64::from(self.nanos / 1_000_000)
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let seconds = self.seconds.saturating_sub(earlier.seconds);
        let Ok(seconds) = u64::try_from(seconds) else {
            return Duration::ZERO;
        };
        Duration::new(seconds, self.nanos).saturating_sub(Duration::new(0, earlier.nanos))
    }

    /// Room for the text of any time.
    #[must_use]
    pub const fn buffer() -> [u8; 40] {
        // Nine decimals and an offset take 35.
        [0; 40]
    }

    /// Its text, written without an allocation.
    ///
    /// ```
    /// use interline_core::Timestamp;
    ///
    /// let time = Timestamp::from_unix_millis(1_500);
    /// assert_eq!(time.encode(&mut Timestamp::buffer()), "1970-01-01T00:00:01.5Z");
    /// ```
    pub fn encode(self, buffer: &mut [u8; 40]) -> &str {
        let mut rest = &mut buffer[..];
        // There is no time without a text: each lies in the years 0 to 9999 where it was written.
        if let Ok(local) = self.local() {
            let _ = local.format_into(&mut rest, &Rfc3339);
        }
        let left = rest.len();
        let length = buffer.len() - left;
        std::str::from_utf8(&buffer[..length]).unwrap_or_default()
    }

    /// The date and the time of day where it was written.
    fn local(self) -> std::result::Result<OffsetDateTime, time::Error> {
        let offset = self.offset.seconds();
        // By the local second, since the instant itself may lie in the year before or after.
        let local = OffsetDateTime::from_unix_timestamp(self.seconds + i64::from(offset))?
            .replace_nanosecond(self.nanos)?;
        Ok(local.replace_offset(UtcOffset::from_whole_seconds(offset)?))
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.seconds, self.nanos).cmp(&(other.seconds, other.nanos))
    }
}

impl Hash for Timestamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.seconds, self.nanos).hash(state);
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self> {
        OffsetDateTime::parse(text, &Rfc3339)
            .map(|time| Self {
                seconds: time.unix_timestamp(),
                nanos: time.nanosecond(),
                offset: Offset::of(time.offset()),
            })
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
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self::from_unix(seconds(after), after.subsec_nanos()),
            Err(before) => match (seconds(before.duration()), before.duration().subsec_nanos()) {
                (whole, 0) => Self::from_unix(-whole, 0),
                (whole, nanos) => Self::from_unix(-whole - 1, 1_000_000_000 - nanos),
            },
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut Self::buffer()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
