//! How often and when a failed delivery is tried again.

use std::fmt;
use std::time::Duration;

/// Attempts and the delays between them: plain data.
///
/// The delay before attempt n + 1 is drawn evenly from zero to `base * factor^(n - 1)`, at most
/// `cap` ("full jitter": the spread keeps clients that failed together from coming back
/// together). A delay that the handler asked for is kept as it is.
///
/// ```
/// use std::time::Duration;
/// use interline_reliability::Retry;
///
/// let retry = Retry::exponential().max(3).base(Duration::from_millis(100)).jitter(false);
/// assert_eq!(retry.delay(1, 0.5), Duration::from_millis(100));
/// assert_eq!(retry.delay(2, 0.5), Duration::from_millis(200));
/// assert_eq!(retry.delay(40, 0.5), Duration::from_secs(30));
/// assert!(retry.may_retry(2) && !retry.may_retry(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Retry {
    /// How many attempts an event gets in all, at least 1.
    pub attempts: u32,
    /// The longest delay after the first attempt.
    pub base: Duration,
    /// By how much the delay grows with each attempt.
    pub factor: f64,
    /// The longest delay.
    pub cap: Duration,
    /// Whether delays are drawn from zero to their length.
    pub jitter: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self::exponential()
    }
}

impl Retry {
    /// 5 attempts, 100 ms doubling up to 30 s, full jitter.
    #[must_use]
    pub const fn exponential() -> Self {
        Self {
            attempts: 5,
            base: Duration::from_millis(100),
            factor: 2.0,
            cap: Duration::from_secs(30),
            jitter: true,
        }
    }

    /// One attempt only.
    #[must_use]
    pub const fn never() -> Self {
        Self::exponential().max(1)
    }

    /// The same delay each time, without jitter.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self {
            attempts: 5,
            base: delay,
            factor: 1.0,
            cap: delay,
            jitter: false,
        }
    }

    /// Sets how many attempts an event gets in all; 0 counts as 1.
    #[must_use]
    pub const fn max(mut self, attempts: u32) -> Self {
        self.attempts = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// Sets the longest delay after the first attempt.
    #[must_use]
    pub const fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// Sets by how much the delay grows with each attempt.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the longest delay.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Turns jitter on or off.
    #[must_use]
    pub const fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// Whether another attempt follows after `made` attempts.
    #[must_use]
    pub fn may_retry(&self, made: u32) -> bool {
        made < self.attempts
    }

    /// The delay after `made` attempts; `random` is drawn evenly from 0 to 1.
    #[must_use]
    pub fn delay(&self, made: u32, random: f64) -> Duration {
        let exponent = i32::try_from(made.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.base.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let longest = grown.min(self.cap.as_secs_f64());
        let share = if self.jitter { random } else { 1.0 };
        Duration::try_from_secs_f64(longest * share).unwrap_or(self.cap)
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} attempts, {:?} x {} up to {:?}, {} jitter",
            self.attempts,
            self.base,
            self.factor,
            self.cap,
            if self.jitter { "full" } else { "no" }
        )
    }
}
