//! One file per command.

pub(crate) mod bridge;
pub(crate) mod completions;
pub(crate) mod consume;
pub(crate) mod dead_letters;
pub(crate) mod groups;
pub(crate) mod publish;
pub(crate) mod topics;
