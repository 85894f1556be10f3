//! The feed of a member.

use interline_transport::lease;

/// One member's feed of signals; see [`interline_core::Feed`].
///
/// Leases are renewed as long as it is asked for the next signal.
pub type Feed = lease::Feed;
