//! Memory: the transport with the engine beside a channel, and the typed bus by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use interline_bus::{Bus, Delivery, Extract, GroupBuilder, Handled, Setup, State, Workers};
use interline_core::{Envelope, EventId, Outgoing, Publisher, PublisherOptions, Topic, Transport};
use interline_reliability::Failure;
use tokio::sync::{Notify, mpsc};

use crate::Result;
use crate::measure::{Plan, Round, Watch, alternate, one_core};
use crate::report::{Row, Target};
use crate::sample::{Order, Prepared, envelopes};

const EVENTS: usize = 2_000_000;
const BATCH: usize = 256;
const KEYS: usize = 10_000;

pub(crate) fn rows(plan: Plan, path: &str) -> Result<Vec<Row>> {
    let events = EVENTS / plan.divide;
    let mut rows = Vec::new();
    let name = "engine, raw handler, prebuilt envelope";
    for payload in [128, 1_024] {
        if !name.contains(path) {
            continue;
        }
        let prebuilt = envelopes(KEYS, payload)?;
        let [raw, ours] = alternate(
            plan,
            [
                &mut || one_core()?.block_on(channel(&prebuilt, events)),
                &mut || one_core()?.block_on(engine(&prebuilt, events, at_once)),
            ],
        )?;
        let target = Target::Beside {
            ratio: 0.75,
            cpu_us: 0.1,
        };
        rows.push(Row::beside(("memory", name, payload), &ours, &raw, target));
    }
    for (name, batch, rate) in [
        ("typed publish to handler, in batches", BATCH, 2.5e6),
        ("typed publish to handler, one by one", 1, 2.0e6),
    ] {
        if !name.contains(path) {
            continue;
        }
        let round = || one_core()?.block_on(typed(events, batch));
        let rounds = (0..plan.rounds)
            .map(|_| round())
            .collect::<Result<Vec<_>>>()?;
        rows.push(Row::alone(
            ("memory", name, 128),
            &rounds,
            Target::Rate(rate),
        ));
    }
    Ok(rows)
}

/// Counts handled events and tells when the last one came.
#[derive(Clone)]
pub(crate) struct Count(Arc<(AtomicUsize, usize, Notify)>);

impl Count {
    fn to(events: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(0), events, Notify::new())))
    }

    pub(crate) fn one(&self) {
        let (count, events, done) = &*self.0;
        // One member counts, as the loop beside it counts in a variable.
        let counted = count.load(Ordering::Relaxed) + 1;
        count.store(counted, Ordering::Relaxed);
        if counted == *events {
            done.notify_one();
        }
    }

    async fn wait(&self) {
        self.0.2.notified().await;
    }
}

async fn drained(workers: Workers) -> Result<()> {
    workers
        .drain(Duration::from_secs(10))
        .await?
        .into_result()?;
    Ok(())
}

/// The bound of the channel: what a reader and a writer of one task need to go on.
async fn channel(prebuilt: &[Envelope], events: usize) -> Result<Round> {
    let (sender, mut receiver) = mpsc::channel::<Envelope>(1_024);
    let source = prebuilt.to_vec();
    let watch = Watch::start();
    let writer = tokio::spawn(async move {
        for envelope in source.iter().cycle().take(events) {
            if sender.send(fresh(envelope)).await.is_err() {
                return;
            }
        }
    });
    let mut batch = Vec::with_capacity(BATCH);
    let mut seen = 0;
    while seen < events {
        seen += receiver.recv_many(&mut batch, BATCH).await;
        batch.clear();
    }
    writer.await?;
    Ok(watch.stop(events))
}

/// The same envelope as another event: an id of its own, as a publisher gives it.
fn fresh(envelope: &Envelope) -> Envelope {
    envelope.clone().with_id(EventId::new())
}

/// A delivery that was counted where it lies; a handle to the count for each would be a cost that
/// the loop beside it does not have.
struct Counted;

impl Extract for Counted {
    type Source = Count;

    fn source(setup: &Setup) -> interline_core::Result<Count> {
        State::source(setup)
    }

    fn extract(count: &Count, _: &Delivery<'_>) -> std::result::Result<Self, Failure> {
        count.one();
        Ok(Self)
    }
}

/// A handler of every type that is done at once.
pub(crate) fn at_once(group: GroupBuilder) -> GroupBuilder {
    group.on_raw("*", |_: Counted| std::future::ready(Handled::Ok(())))
}

/// Publishes `events` in batches while a group handles them, on one thread.
pub(crate) async fn engine(
    prebuilt: &[Envelope],
    events: usize,
    handlers: impl FnOnce(GroupBuilder) -> GroupBuilder,
) -> Result<Round> {
    let transport = crate::site::connect("memory://").await?;
    let count = Count::to(events);
    let bus = Bus::new(transport.clone());
    let group = bus.group("bench").topics("bench").state(count.clone());
    let workers = handlers(group).start().await?;
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let topic = Topic::new("bench")?;
    let source = prebuilt.to_vec();
    let watch = Watch::start();
    let writer = tokio::spawn(async move {
        let mut events = source.iter().cycle().take(events);
        loop {
            // Collecting would move each event twice more than pushing it does.
            let mut batch = Vec::with_capacity(BATCH);
            for envelope in events.by_ref().take(BATCH) {
                batch.push(Outgoing::new(topic.clone(), fresh(envelope)));
            }
            if batch.is_empty() {
                return interline_core::Result::<()>::Ok(());
            }
            let outcomes = publisher.enqueue(batch).await?.await;
            outcomes
                .into_iter()
                .try_for_each(|outcome| outcome.into_result().map(|_| ()))?;
        }
    });
    count.wait().await;
    writer
        .await?
        .map_err(|error: interline_core::Error| error)?;
    let round = watch.stop(events);
    drained(workers).await?;
    Ok(round)
}

async fn typed(events: usize, batch: usize) -> Result<Round> {
    let bus = Bus::new(crate::site::connect("memory://").await?).source("/bench");
    let count = Count::to(events);
    let counted = count.clone();
    let workers = bus
        .group("bench")
        .on(move |order: Order| {
            std::hint::black_box(&order);
            counted.one();
            std::future::ready(Handled::Ok(()))
        })
        .start()
        .await?;
    let orders = Prepared::all().take(events);
    let watch = Watch::start();
    let writer = tokio::spawn(async move {
        if batch == 1 {
            for order in orders {
                bus.publish(order).await?;
            }
            return interline_core::Result::<()>::Ok(());
        }
        let mut orders = orders.peekable();
        while orders.peek().is_some() {
            bus.publish_all(orders.by_ref().take(batch)).await?;
        }
        Ok(())
    });
    count.wait().await;
    writer.await??;
    let round = watch.stop(events);
    drained(workers).await?;
    Ok(round)
}
