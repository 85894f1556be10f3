use std::sync::Arc;
use std::task::Waker;

use interline_core::{Envelope, Kind, Position, Recorded, Topic};

use super::*;

fn partition(index: u32) -> Partition {
    Partition::new(Topic::new("orders").unwrap(), index)
}

/// A batch of one record.
fn batch(index: u32, fence: Fence, offset: u64) -> Signal {
    let kind = Arc::new(Kind::new("/test", "test.noted").unwrap());
    Signal::Batch(Batch {
        partition: partition(index),
        fence,
        records: vec![Recorded {
            position: Position::from(offset),
            stored_at: 0,
            envelope: Envelope::builder(kind).build().unwrap(),
        }]
        .into(),
    })
}

/// Partitions and offsets of all that is handed over now.
fn handed_over(outbox: &Outbox) -> Vec<(u32, u64)> {
    let cx = Context::from_waker(Waker::noop());
    let mut places = Vec::new();
    while let Poll::Ready(Ok(signal)) = outbox.poll_next(&cx, Budget::default()) {
        if let Signal::Batch(batch) = signal {
            places.push((batch.partition.index, batch.records[0].position.1));
        }
    }
    places
}

#[test]
fn a_stop_holds_what_was_read_ahead_and_an_open_flow_gives_it_in_order() {
    let outbox = Outbox::new();
    for offset in 0..4 {
        outbox.push(batch(0, 1, offset));
        outbox.push(batch(1, 2, offset));
    }
    assert!(outbox.room().is_none());
    outbox.flow(&partition(0), 1, Flow::Stopped);
    // What is held takes no room from the others, also what came while the thread did not know.
    assert!(outbox.room().is_some());
    outbox.push(batch(0, 1, 4));
    assert_eq!(handed_over(&outbox), [(1, 0), (1, 1), (1, 2), (1, 3)]);
    outbox.flow(&partition(0), 1, Flow::Open);
    outbox.push(batch(0, 1, 5));
    let in_order: Vec<_> = (0..6).map(|offset| (0, offset)).collect();
    assert_eq!(handed_over(&outbox), in_order);
}

#[test]
fn only_the_owner_stops_and_opens() {
    let outbox = Outbox::new();
    outbox.push(batch(0, 2, 0));
    outbox.flow(&partition(0), 1, Flow::Stopped);
    assert_eq!(handed_over(&outbox), [(0, 0)]);
    outbox.push(batch(0, 2, 1));
    outbox.flow(&partition(0), 2, Flow::Stopped);
    outbox.flow(&partition(0), 1, Flow::Stopped);
    outbox.flow(&partition(0), 1, Flow::Open);
    assert_eq!(handed_over(&outbox), []);
    outbox.flow(&partition(0), 2, Flow::Open);
    assert_eq!(handed_over(&outbox), [(0, 1)]);
}

#[test]
fn what_was_held_ends_with_the_ownership() {
    let outbox = Outbox::new();
    outbox.push(batch(0, 1, 0));
    outbox.flow(&partition(0), 1, Flow::Stopped);
    outbox.retract(&[partition(0)]);
    outbox.flow(&partition(0), 1, Flow::Open);
    outbox.push(batch(0, 2, 7));
    assert_eq!(handed_over(&outbox), [(0, 7)]);
}
