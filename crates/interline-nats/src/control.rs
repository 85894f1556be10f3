//! The control of a member.

use interline_transport::lease;

/// What a member tells the server; see [`interline_core::Control`]. Cheap to clone.
///
/// A checkpoint is stored only if the row of its partition still has the revision that its owner
/// knows.
pub type Control = lease::Control;
