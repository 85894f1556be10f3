#![doc = include_str!("../README.md")]

mod dead_letter;
mod dead_letters;
mod failure;
mod inbox;
mod policy;
mod retry;
mod returned;

pub use crate::dead_letter::{Cause, DeadLetter, Origin, without_marks};
pub use crate::dead_letters::{DeadLetters, Filter, Redrive, RedriveReport};
pub use crate::failure::{Fail, Failure, FailureKind};
pub use crate::inbox::MemoryInbox;
pub use crate::policy::{AfterDeadLetter, DeadLetterPolicy, Policy, Timeouts, Unhandled};
pub use crate::retry::Retry;
pub use crate::returned::{Returned, return_topic};
pub use interline_core::{Claim, Inbox};
