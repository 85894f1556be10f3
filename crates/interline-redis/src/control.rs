//! The control of a member.

use interline_transport::lease;

/// What a member tells the server; see [`interline_core::Control`]. Cheap to clone.
///
/// Checkpoints of one topic are stored in one step, each only under the fence of its owner.
pub type Control = lease::Control;
