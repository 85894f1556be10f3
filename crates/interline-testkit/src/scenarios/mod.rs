//! The scenarios, by subject.

mod admin;
mod blocking;
mod crash;
mod dead_letters;
mod drain;
mod flow;
mod limits;
mod order;
mod outage;
mod ownership;
mod publish;
mod reading;
mod retry;

use interline_core::{Capabilities, Dedupe};

use crate::{Harness, Scenario};

/// A row of the table: a scenario's function, what it needs, and whether it runs alone.
macro_rules! scenario {
    ($name:ident) => {
        scenario!($name, $crate::scenarios::nothing)
    };
    ($name:ident, $needs:expr) => {
        $crate::Scenario {
            name: stringify!($name),
            run: |harness| Box::pin($name(harness)),
            needs: $needs,
            alone: false,
        }
    };
    (alone $name:ident, $needs:expr) => {
        $crate::Scenario {
            alone: true,
            ..scenario!($name, $needs)
        }
    };
}
pub(crate) use scenario;

/// Every scenario, by subject.
pub const SCENARIOS: &[&[Scenario]] = &[
    publish::ALL,
    limits::ALL,
    reading::ALL,
    ownership::ALL,
    order::ALL,
    retry::ALL,
    dead_letters::ALL,
    crash::ALL,
    drain::ALL,
    blocking::ALL,
    flow::ALL,
    admin::ALL,
    outage::ALL,
];

/// The scenarios of [`Suite::smoke`](crate::Suite::smoke): each kind of connection, each kind of
/// message, and a server that goes away and comes back.
pub const SMOKE: &[&str] = &[
    "exact_bytes_and_headers",
    "batch_outcomes_in_order",
    "many_publishers_lose_nothing",
    "payload_limit",
    "starts_at_a_position",
    "reader_ends_where_it_should",
    "patterns_choose_topics",
    "two_members_share",
    "ownership_passes_on_leave",
    "a_former_owner_is_stale",
    "a_checkpoint_comes_back_whole",
    "key_order_in_16_lanes",
    "attempts_are_counted_and_never_early",
    "poison_is_kept_once_with_its_cause",
    "redrive_returns_to_the_group_alone",
    "what_is_committed_does_not_run_again",
    "a_drain_stores_everything_settled",
    "closing_twice_is_fine",
    "topics_are_listed",
    "a_restart_within_10_000_events",
];

type Supported = Result<(), &'static str>;

fn supported(is: bool, why: &'static str) -> Supported {
    if is { Ok(()) } else { Err(why) }
}

pub(crate) fn nothing(_: &Harness, _: &Capabilities) -> Supported {
    Ok(())
}

pub(crate) fn two_members(harness: &Harness, _: &Capabilities) -> Supported {
    supported(harness.most_members() > 1, "a group has one member")
}

pub(crate) fn dedupe(_: &Harness, can: &Capabilities) -> Supported {
    supported(
        can.dedupe != Dedupe::Session,
        "copies are recognised within a session only",
    )
}

pub(crate) fn foreign_writers(_: &Harness, can: &Capabilities) -> Supported {
    supported(can.foreign_writers, "no other clients can write")
}

pub(crate) fn start_at_time(_: &Harness, can: &Capabilities) -> Supported {
    supported(can.start_at_time, "no reading starts at a time")
}

pub(crate) fn no_start_at_time(_: &Harness, can: &Capabilities) -> Supported {
    supported(!can.start_at_time, "a reading can start at a time")
}

pub(crate) fn manage_topics(_: &Harness, can: &Capabilities) -> Supported {
    supported(can.manage_topics, "topics are managed elsewhere")
}

pub(crate) fn server(_: &Harness, can: &Capabilities) -> Supported {
    supported(
        can.persistent,
        "there is no server that outlives this process",
    )
}

pub(crate) fn lapsing(harness: &Harness, can: &Capabilities) -> Supported {
    two_members(harness, can)?;
    supported(
        harness.lapses(),
        "the lease of a silent member is renewed by its connection",
    )
}
