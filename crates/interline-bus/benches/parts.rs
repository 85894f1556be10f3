//! What the pure parts cost: nanoseconds by criterion, and allocations.
#![expect(clippy::unwrap_used, reason = "a bench")]
#![expect(
    clippy::print_stdout,
    reason = "criterion knows nothing of allocations"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use interline_bus::parts::{Frontier, Routes, settles};
use interline_bus::{Bus, GroupBuilder, Handled, State, Workers};
use interline_core::{
    Bytes, Codec, Envelope, EventId, HeaderName, Key, Kind, Pattern, Position, Progress, Timestamp,
    Topic,
};
use interline_json::Json;
use interline_reliability::{Fail, Policy};
use interline_transport::checkpoint;
use interline_transport::wire::{Style, for_each_header};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

/// Calls whose allocations are counted, after as many that are not: buffers have grown by then.
const CALLS: u64 = 10_000;

/// Measures one call.
fn bench<T>(criterion: &mut Criterion, name: &str, mut call: impl FnMut() -> T) {
    (0..CALLS).for_each(|_| drop(black_box(call())));
    let counted = allocation_counter::measure(|| {
        (0..CALLS).for_each(|_| drop(black_box(call())));
    });
    let each = counted.count_total as f64 / CALLS as f64;
    println!("{name}: {each:.3} allocations");
    criterion.bench_function(name, |bencher| bencher.iter(&mut call));
}

fn kind(ty: impl Into<String>) -> Arc<Kind> {
    let kind = Kind::new("/bench", ty.into()).unwrap();
    Arc::new(kind.content_type("application/json"))
}

fn envelope(kind: &Arc<Kind>, payload: &Bytes) -> Envelope {
    let key = Some(Key::copy_from_slice(b"customer-000001"));
    let (id, now) = (EventId::new(), Some(Timestamp::now()));
    Envelope::from_parts(id, Arc::clone(kind), now, key, Some(payload.clone()))
}

fn envelopes(criterion: &mut Criterion) {
    let (kind, payload) = (kind("bench.sent"), Bytes::from(vec![b'x'; 128]));
    bench(criterion, "envelope/id", EventId::new);
    bench(criterion, "envelope/build", || envelope(&kind, &payload));
    let plain = envelope(&kind, &payload);
    bench(criterion, "envelope/clone", || plain.clone());
    let headers = |mut envelope: Envelope| {
        for name in ["x-one", "x-two", "x-three"] {
            let value = Bytes::from_static(b"value");
            envelope
                .headers_mut()
                .push(HeaderName::from_static(name), value);
        }
        envelope
    };
    bench(criterion, "envelope/build with 3 headers", || {
        headers(envelope(&kind, &payload))
    });
    let rich = headers(plain.clone());
    bench(criterion, "envelope/clone with 3 headers", || rich.clone());
    bench(criterion, "envelope/attributes as headers", || {
        let mut size = 0;
        for_each_header(&plain, Style::Underscore, |name, value| {
            size += name.len() + value.len();
        });
        size
    });
}

#[derive(Serialize, Deserialize)]
struct Order {
    customer: String,
    note: String,
    number: u64,
}

fn codec(criterion: &mut Criterion) {
    let order = Order {
        customer: "customer-000001".to_owned(),
        note: "x".repeat(60),
        number: 1 << 40,
    };
    let mut buffer = BytesMut::new();
    bench(criterion, "json/encode", || {
        buffer.clear();
        Json.encode(&order, &mut buffer).unwrap();
        buffer.len()
    });
    let payload = buffer.freeze();
    bench(criterion, "json/decode", || -> Order {
        Json.decode(None, &payload).unwrap()
    });
}

fn router(criterion: &mut Criterion) {
    for handlers in [1, 10, 100, 1_000] {
        let ty = |number| format!("bench.sent-{number}");
        let patterns = (0..handlers).map(|number| Pattern::exact(&ty(number)));
        let mut routes = Routes::new(patterns).unwrap();
        let kinds: Vec<_> = (0..handlers).map(|number| kind(ty(number))).collect();
        let mut turn = kinds.iter().cycle();
        bench(
            criterion,
            &format!("router/each of {handlers} types in turn"),
            || routes.find(turn.next().unwrap()),
        );
    }
    let globs = ["a.*.c", "b.**", "*.sent"].map(|glob| Pattern::new(glob).unwrap());
    let (mut routes, kind) = (Routes::new(globs).unwrap(), kind("bench.sent"));
    bench(criterion, "router/one type, globs", || routes.find(&kind));
}

/// A group over memory, to which a thousand events at a time are published.
struct Group {
    runtime: Runtime,
    bus: Bus,
    topic: Topic,
    handled: Count,
    kind: Arc<Kind>,
    _workers: Workers,
}

const EVENTS: usize = 1_000;

/// How many were handled, and who waits for each thousand.
type Count = Arc<(AtomicUsize, Notify)>;

impl Group {
    fn new(handler: impl FnOnce(GroupBuilder) -> GroupBuilder) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handled = Count::default();
        let (bus, workers) = runtime.block_on(async {
            let bus = Bus::new(interline_memory::connect("memory://").await.unwrap());
            let group = bus
                .group("bench")
                .topics("bench")
                .state(Arc::clone(&handled));
            let workers = handler(group).start().await.unwrap();
            (bus, workers)
        });
        Self {
            runtime,
            bus,
            topic: Topic::new("bench").unwrap(),
            handled,
            kind: kind("bench.sent"),
            _workers: workers,
        }
    }

    fn round(&self) {
        let payload = Bytes::from_static(b"payload");
        let batch = (0..EVENTS).map(|number| {
            let key = Some(Key::copy_from_slice(format!("{number}").as_bytes()));
            let envelope = envelope(&self.kind, &payload).with_key(key);
            (self.topic.clone(), envelope)
        });
        self.runtime.block_on(async {
            self.bus.publish_raw(batch.collect()).await.unwrap();
            self.handled.1.notified().await;
        });
    }
}

fn count(handled: &Count) {
    if (handled.0.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(EVENTS) {
        handled.1.notify_one();
    }
}

fn lanes(criterion: &mut Criterion) {
    let at_once = Group::new(|group| {
        group.on_raw("*", |State(handled): State<Count>| {
            count(&handled);
            std::future::ready(Handled::Ok(()))
        })
    });
    let waits = Group::new(|group| {
        group.on_raw("*", async |State(handled): State<Count>| {
            tokio::task::yield_now().await;
            count(&handled);
            Handled::Ok(())
        })
    });
    let mut lanes = criterion.benchmark_group("lanes");
    lanes.throughput(Throughput::Elements(EVENTS as u64));
    lanes.bench_function("1,000 events done at once", |b| b.iter(|| at_once.round()));
    lanes.bench_function("1,000 events that wait once", |b| b.iter(|| waits.round()));
    lanes.finish();
}

fn settlement(criterion: &mut Criterion) {
    let policy = Policy::default();
    bench(criterion, "settlement/after success", || {
        settles(&policy, Ok(()))
    });
    bench(criterion, "settlement/after failure", || {
        settles(&policy, Err("busy".transient()))
    });
    let mut frontier = Frontier::default();
    let mut at = 0;
    let mut push = move |frontier: &mut Frontier| {
        at += 1;
        frontier.push(Position::from(at))
    };
    bench(criterion, "frontier/settled in order", || {
        let number = push(&mut frontier);
        frontier.settle(number);
    });
    // One event is open until 4,096 lie beyond it.
    let mut held = push(&mut frontier);
    bench(
        criterion,
        "frontier/settled beyond one that is open",
        || {
            let number = push(&mut frontier);
            if number - held == 4_096 {
                frontier.settle(std::mem::replace(&mut held, number));
            } else {
                frontier.settle(number);
            }
        },
    );
    let mut ragged = Frontier::default();
    let numbers: Vec<u64> = (0..400).map(|at| ragged.push(Position::from(at))).collect();
    numbers
        .iter()
        .skip(1)
        .step_by(2)
        .for_each(|number| ragged.settle(*number));
    let done = ragged.done();
    bench(criterion, "checkpoint/of 200 ranges", || {
        let progress = Progress {
            frontier: Some(Position::from(7)),
            done: ragged.done(),
            ..Progress::default()
        };
        checkpoint::encode(&progress, 4_096)
    });
    criterion.bench_function("checkpoint/read 200 ranges", |bencher| {
        let progress = Progress {
            done: done.clone(),
            ..Progress::default()
        };
        let text = checkpoint::encode(&progress, 4_096);
        bencher.iter_batched(
            || &text,
            |text| checkpoint::decode(text).unwrap(),
            BatchSize::SmallInput,
        );
    });
}

criterion_group! {
    name = parts;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = envelopes, codec, router, lanes, settlement
}
criterion_main!(parts);
