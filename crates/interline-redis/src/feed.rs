//! The feed of a member.

use interline_transport::lease;

/// One member's feed of signals; see [`interline_core::Feed`].
///
/// Leases are renewed as long as it is asked for the next signal. Where a crash of the server cost
/// events that were read, their partition is lost and read again from the stored checkpoint.
pub type Feed = lease::Feed;
