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
