//! What a scenario says about a transport.

use std::fmt;

use interline_core::Error;
use interline_reliability::Failure;

/// How a scenario ends: in silence, or with what was broken.
pub type Verdict<T = ()> = Result<T, Breach>;

/// A promise of the contract that was not kept, in one line.
#[derive(Clone, PartialEq, Eq)]
pub struct Breach(String);

impl Breach {
    /// A breach with this description; line breaks become spaces.
    pub fn new(what: impl Into<String>) -> Self {
        let what: String = what.into();
        Self(what.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Breach {
    fn from(error: Error) -> Self {
        Self::new(format!("unexpected error: {error:?}"))
    }
}

impl From<Failure> for Breach {
    fn from(failure: Failure) -> Self {
        Self::new(format!("unexpected failure: {failure}"))
    }
}

/// Ends the scenario with a [`Breach`] unless the condition holds.
///
/// ```
/// use interline_testkit::{Verdict, check};
///
/// fn scenario(events: usize) -> Verdict {
///     check!(events == 3, "{events} events instead of 3");
///     Ok(())
/// }
/// assert!(scenario(3).is_ok());
/// assert_eq!(scenario(2).unwrap_err().to_string(), "2 events instead of 3");
/// ```
#[macro_export]
macro_rules! check {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return ::std::result::Result::Err($crate::Breach::new(::std::format!($($what)+)));
        }
    };
}

/// Ends the scenario with a [`Breach`] unless both sides are equal.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr, $($what:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if *left != *right {
                    return ::std::result::Result::Err($crate::Breach::new(::std::format!(
                        "{}: {:?} instead of {:?}", ::std::format!($($what)+), left, right
                    )));
                }
            }
        }
    };
}
