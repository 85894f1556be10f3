//! The errors of this transport.

use interline_core::{Error, ErrorKind, Topic};

use crate::SCHEME;

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::closed(operation).on(SCHEME)
}

pub(crate) fn replaced() -> Error {
    Error::new(
        ErrorKind::Closed,
        "read",
        "another member joined under the same instance and took this membership over",
    )
    .on(SCHEME)
    .remedy("give every running member an instance of its own")
}

pub(crate) fn missing_topic(operation: &'static str, topic: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        operation,
        format!("topic `{topic}` does not exist"),
    )
    .on(SCHEME)
    .remedy(format!(
        "create it with `interline topics create {topic}` or use `profile=development`"
    ))
}

pub(crate) fn deleted_topic(operation: &'static str, topic: &Topic) -> Error {
    Error::new(
        ErrorKind::NotFound,
        operation,
        format!("topic `{topic}` was deleted"),
    )
    .on(SCHEME)
    .remedy("create it again and subscribe anew")
}

/// `from` is where the reading stands, `to` the first or last place that it could go on from.
pub(crate) fn position_lost(topic: &Topic, partition: u32, from: u64, to: u64) -> Error {
    Error::new(
        ErrorKind::PositionLost,
        "read",
        format!("position {from} of {topic}/{partition} is not kept, the nearest is {to}"),
    )
    .on(SCHEME)
    .remedy("reset the group, or raise `history` and `retention`")
}

pub(crate) fn no_room(topic: &Topic, unread: u64, slowest: Option<&str>) -> Error {
    let group = slowest.unwrap_or("its slowest group");
    Error::new(
        ErrorKind::Timeout,
        "publish",
        format!("topic `{topic}` is full: {unread} events wait for `{group}`"),
    )
    .on(SCHEME)
    .remedy("start members of the group, delete it, or raise `capacity`")
}

pub(crate) fn live_members(operation: &'static str, group: &str, members: usize) -> Error {
    Error::new(
        ErrorKind::Invalid,
        operation,
        format!("group `{group}` has {members} live members"),
    )
    .on(SCHEME)
    .remedy("stop them first, and wait 15 s after a crash")
}
