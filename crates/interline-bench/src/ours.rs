//! Our side: publisher and engine with their defaults, over any transport.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use interline_bus::{Bus, Handled, State};
use interline_core::{
    AnyPublisher, AnyTransport, Envelope, Group, Outcome, Outgoing, Publisher, PublisherOptions,
    Topic, Transport,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::Result;
use crate::broker::Job;
use crate::clock::{Clock, Machine};
use crate::measure::{Round, Watch};
use crate::sample::{Sample, touch};

/// How long anything that should happen at once may take before the run fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How much longer for each event, where there are many.
const EACH: Duration = Duration::from_micros(50);

/// Events handed over at once.
const BATCH: usize = 1_000;

/// Batches without outcome before the oldest is awaited: more events than the window holds, so
/// that it is the window that bounds.
const RECEIPTS: usize = 100;

pub(crate) async fn publish(transport: AnyTransport, job: Job<'_>) -> Result<Round> {
    let Job { topic, samples, .. } = job;
    let publisher = publisher(&transport, topic, samples).await?;
    let watch = Watch::on(job.machine);
    let mut source = job.source();
    let mut receipts = VecDeque::new();
    loop {
        let batch = source.by_ref().take(BATCH);
        let batch: Vec<Outgoing> = batch.map(|sample| outgoing(topic, sample)).collect();
        if batch.is_empty() {
            break;
        }
        receipts.push_back(publisher.enqueue(batch).await?);
        if receipts.len() > RECEIPTS
            && let Some(oldest) = receipts.pop_front()
        {
            all_stored(oldest.await)?;
        }
    }
    for receipt in receipts {
        all_stored(receipt.await)?;
    }
    let round = watch.stop(job.events);
    transport.close(PATIENCE).await?;
    Ok(round)
}

pub(crate) async fn awaited(transport: AnyTransport, job: Job<'_>) -> Result<Round> {
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let send = async |sample: &Sample| {
        let receipt = publisher.enqueue(vec![outgoing(job.topic, sample)]).await?;
        all_stored(receipt.await)
    };
    let round = job.one_by_one(send).await?;
    transport.close(PATIENCE).await?;
    Ok(round)
}

/// A publisher that has published once, so that it knows the topic and the broker knows it.
async fn publisher(
    transport: &AnyTransport,
    topic: &Topic,
    samples: &[Sample],
) -> Result<AnyPublisher> {
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let first = samples.iter().take(1).map(|sample| outgoing(topic, sample));
    all_stored(publisher.enqueue(first.collect()).await?.await)?;
    Ok(publisher)
}

fn outgoing(topic: &Topic, sample: &Sample) -> Outgoing {
    Outgoing::new(topic.clone(), sample.fresh())
}

fn all_stored(outcomes: Vec<Outcome>) -> Result<()> {
    for outcome in outcomes {
        match outcome {
            Outcome::Stored { .. } => {}
            other => return Err(format!("an event was not stored: {other:?}").into()),
        }
    }
    Ok(())
}

/// Counts handled events and times them.
pub(crate) struct Meter<C> {
    clock: C,
    handled: AtomicUsize,
    from: usize,
    to: usize,
    times: Mutex<(Option<Watch<C>>, Option<Round>)>,
    done: Notify,
}

impl<C: Clock + Clone> Meter<C> {
    /// Times those after the first tenth: joining the group and filling the buffers is no part of
    /// a rate.
    pub(crate) fn late(clock: C, events: usize) -> Arc<Self> {
        Self::new(clock, events / 10, events, None)
    }

    /// Times everything from now on.
    pub(crate) fn whole(clock: C, events: usize) -> Arc<Self> {
        let watch = Watch::on(clock.clone());
        Self::new(clock, 0, events, Some(watch))
    }

    fn new(clock: C, from: usize, to: usize, watch: Option<Watch<C>>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            handled: AtomicUsize::new(0),
            from,
            to,
            times: Mutex::new((watch, None)),
            done: Notify::new(),
        })
    }

    pub(crate) fn one(&self) {
        let handled = self.handled.fetch_add(1, Ordering::Relaxed) + 1;
        if handled == self.from || handled == self.to {
            self.mark(handled);
        }
    }

    fn mark(&self, handled: usize) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if handled == self.from {
            times.0 = Some(Watch::on(self.clock.clone()));
        } else {
            times.1 = times.0.take().map(|watch| watch.stop(self.to - self.from));
            self.done.notify_one();
        }
    }

    /// Waits until all are handled.
    pub(crate) async fn round(&self) -> Result<Round> {
        let patience = PATIENCE + EACH * u32::try_from(self.to).unwrap_or(u32::MAX);
        timeout(patience, self.done.notified()).await?;
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(times.1.take().ok_or("the events were not counted")?)
    }
}

pub(crate) async fn consume(
    transport: AnyTransport,
    meter: Arc<Meter<Machine>>,
    topic: &Topic,
    group: &Group,
) -> Result<Round> {
    let bus = Bus::new(transport);
    let workers = bus
        .group(group)
        .topics(topic)
        .state(Arc::clone(&meter))
        .on_raw("*", handle)
        .start()
        .await?;
    let round = meter.round().await?;
    workers.drain(PATIENCE).await?.into_result()?;
    bus.close(PATIENCE).await?;
    Ok(round)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a handler")]
fn handle(
    envelope: Envelope,
    State(meter): State<Arc<Meter<Machine>>>,
) -> std::future::Ready<Handled> {
    touch(envelope.key().map_or(&[], |key| key));
    touch(envelope.payload().map_or(&[], |payload| payload));
    std::hint::black_box((envelope.id(), envelope.ty(), envelope.time()));
    meter.one();
    std::future::ready(Ok(()))
}
