//! What an event allocates on its way through memory.
//!
//! Batches share what they allocate: an envelope is moved, and the payloads of a batch lie in one
//! buffer.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use interline_bus::{Bus, GroupBuilder, Handled, State, Workers};
use interline_core::{
    Codec, Envelope, Event, EventId, Key, Kind, Result, Timestamp, Topic, undecodable,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

const BATCH: u32 = 256;

/// How many were handled, and how many are waited for.
#[derive(Default)]
struct Count(AtomicUsize, AtomicUsize, Notify);

impl Count {
    fn one(&self) {
        let handled = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        if handled == self.1.load(Ordering::Relaxed) {
            self.2.notify_one();
        }
    }
}

/// An event whose payload is 128 bytes and whose decoding allocates nothing.
struct Tick(u32);

#[derive(Debug, Default)]
struct Plain;

impl Codec<Tick> for Plain {
    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn encode(&self, tick: &Tick, buffer: &mut BytesMut) -> Result<()> {
        buffer.put_u32(tick.0);
        buffer.put_bytes(0, 124);
        Ok(())
    }

    fn decode(&self, _: Option<&str>, payload: &Bytes) -> Result<Tick> {
        let number = payload.first_chunk().ok_or_else(|| undecodable("short"))?;
        Ok(Tick(u32::from_be_bytes(*number)))
    }
}

impl Event for Tick {
    const TYPE: &'static str = "clock.tick";
    const TOPIC: &'static str = "ticks";
    type Codec = Plain;

    fn key(&self) -> Option<Cow<'_, [u8]>> {
        const KEYS: [&[u8]; 4] = [b"spring", b"summer", b"autumn", b"winter"];
        Some(Cow::Borrowed(KEYS[self.0 as usize % KEYS.len()]))
    }
}

/// One group over memory, on this thread.
struct Group {
    runtime: Runtime,
    bus: Bus,
    count: Arc<Count>,
    _workers: Workers,
}

impl Group {
    fn new(handlers: impl FnOnce(GroupBuilder) -> GroupBuilder) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let count = Arc::<Count>::default();
        let (bus, workers) = runtime.block_on(async {
            let bus = Bus::new(interline_memory::connect("memory://").await.unwrap());
            let group = bus.group("g").topics(Tick::TOPIC).state(Arc::clone(&count));
            let workers = handlers(group).start().await.unwrap();
            (bus, workers)
        });
        Self {
            runtime,
            bus,
            count,
            _workers: workers,
        }
    }

    /// Allocations of an event more, once everything has grown to its size.
    fn each(&self, publish: &impl AsyncFn(&Bus, u32)) -> f64 {
        let events = 100 * BATCH;
        let round = || {
            let now = self.count.0.load(Ordering::Relaxed);
            self.count.1.store(now + events as usize, Ordering::Relaxed);
            self.runtime.block_on(async {
                publish(&self.bus, events).await;
                self.count.2.notified().await;
            });
        };
        round();
        let counted = allocation_counter::measure(round);
        counted.count_total as f64 / f64::from(events)
    }
}

/// A handler that is done at once.
fn raw(group: GroupBuilder) -> GroupBuilder {
    group.on_raw(
        "*",
        |envelope: Envelope, State(count): State<Arc<Count>>| {
            assert!(envelope.payload().is_some());
            count.one();
            std::future::ready(Handled::Ok(()))
        },
    )
}

fn typed(group: GroupBuilder) -> GroupBuilder {
    group.on(|_: Tick, State(count): State<Arc<Count>>| {
        count.one();
        std::future::ready(Handled::Ok(()))
    })
}

#[test]
fn a_raw_event_in_a_batch_allocates_nothing() {
    let kind = Arc::new(Kind::new("/clock", Tick::TYPE).unwrap());
    let payload = Bytes::from(vec![0; 128]);
    let topic = Topic::new(Tick::TOPIC).unwrap();
    let envelope = |number| {
        let (id, now) = (EventId::new(), Some(Timestamp::now()));
        let key = Tick(number).key().map(|key| Key::copy_from_slice(&key));
        Envelope::from_parts(id, Arc::clone(&kind), now, key, Some(payload.clone()))
    };
    let each = Group::new(raw).each(&async |bus, events| {
        for _ in 0..events / BATCH {
            let batch = (0..BATCH).map(|number| (topic.clone(), envelope(number)));
            bus.publish_raw(batch.collect()).await.unwrap();
        }
    });
    println!("raw, in batches: {each:.3} allocations for each event");
    assert!(each < 0.1, "{each}");
}

#[test]
fn a_typed_event_in_a_batch_allocates_nothing() {
    let each = Group::new(typed).each(&async |bus, events| {
        for _ in 0..events / BATCH {
            bus.publish_all((0..BATCH).map(Tick)).await.unwrap();
        }
    });
    println!("typed, in batches: {each:.3} allocations for each event");
    assert!(each < 0.1, "{each}");
}

#[test]
fn a_typed_event_by_itself_allocates_nothing() {
    let each = Group::new(typed).each(&async |bus, events| {
        for number in 0..events {
            bus.publish(Tick(number)).await.unwrap();
        }
    });
    println!("typed, one by one: {each:.3} allocations for each event");
    assert!(each < 0.2, "{each}");
}

#[test]
fn an_event_that_waits_in_a_lane_allocates_nothing() {
    let waiting = |group: GroupBuilder| {
        group.on(async |_: Tick, State(count): State<Arc<Count>>| {
            tokio::task::yield_now().await;
            count.one();
            Handled::Ok(())
        })
    };
    let each = Group::new(waiting).each(&async |bus, events| {
        for _ in 0..events / BATCH {
            bus.publish_all((0..BATCH).map(Tick)).await.unwrap();
        }
    });
    println!("typed, in lanes: {each:.3} allocations for each event");
    assert!(each < 0.1, "{each}");
}
