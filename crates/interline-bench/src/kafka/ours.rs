//! Our side: publisher and engine with their defaults.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use interline_bus::{Bus, Handled, State};
use interline_core::{
    AnyPublisher, AnyTransport, Envelope, Group, Outcome, Outgoing, Publisher, PublisherOptions,
    Topic, Transport,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{PATIENCE, Sample, touch};
use crate::Result;
use crate::measure::{Round, Watch};

/// Events handed over at once.
const BATCH: usize = 1_000;

/// Batches without outcome before the oldest is awaited: more events than the window holds, so
/// that it is the window that bounds.
const RECEIPTS: usize = 100;

pub(super) async fn publish(
    url: &str,
    topic: &Topic,
    samples: &[Sample],
    events: usize,
) -> Result<Round> {
    let (transport, publisher) = publisher(url, topic, samples).await?;
    let watch = Watch::start();
    let mut source = samples.iter().cycle().take(events);
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
    let round = watch.stop(events);
    transport.close(PATIENCE).await?;
    Ok(round)
}

pub(super) async fn awaited(
    url: &str,
    topic: &Topic,
    samples: &[Sample],
    count: usize,
) -> Result<Round> {
    let (transport, publisher) = publisher(url, topic, samples).await?;
    let mut waits = Vec::with_capacity(count);
    let watch = Watch::start();
    for sample in samples.iter().cycle().take(count) {
        let began = Instant::now();
        let receipt = publisher.enqueue(vec![outgoing(topic, sample)]).await?;
        all_stored(receipt.await)?;
        waits.push(began.elapsed());
    }
    let round = watch.stop(count).with_waits(waits);
    transport.close(PATIENCE).await?;
    Ok(round)
}

/// A publisher that has published once, so that it knows the topic and the broker knows it.
async fn publisher(
    url: &str,
    topic: &Topic,
    samples: &[Sample],
) -> Result<(AnyTransport, AnyPublisher)> {
    let transport = AnyTransport::new(interline_kafka::connect(url).await?);
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let first = samples.iter().take(1).map(|sample| outgoing(topic, sample));
    all_stored(publisher.enqueue(first.collect()).await?.await)?;
    Ok((transport, publisher))
}

fn outgoing(topic: &Topic, sample: &Sample) -> Outgoing {
    Outgoing::new(topic.clone(), sample.envelope.clone())
}

fn all_stored(outcomes: Vec<Outcome>) -> Result<()> {
    for outcome in outcomes {
        outcome.into_result()?;
    }
    Ok(())
}

/// Counts handled events and times those after the first tenth: joining the group and filling
/// the buffers is no part of the rate.
struct Meter {
    handled: AtomicUsize,
    from: usize,
    to: usize,
    times: Mutex<(Option<Watch>, Option<Round>)>,
    done: Notify,
}

impl Meter {
    fn one(&self) {
        let handled = self.handled.fetch_add(1, Ordering::Relaxed) + 1;
        if handled == self.from || handled == self.to {
            self.mark(handled);
        }
    }

    fn mark(&self, handled: usize) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if handled == self.from {
            times.0 = Some(Watch::start());
        } else {
            times.1 = times.0.take().map(|watch| watch.stop(self.to - self.from));
            self.done.notify_one();
        }
    }

    fn round(&self) -> Option<Round> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.1.take()
    }
}

pub(super) async fn consume(
    url: &str,
    topic: &Topic,
    group: &Group,
    events: usize,
) -> Result<Round> {
    let bus = Bus::new(interline_kafka::connect(url).await?);
    let meter = Arc::new(Meter {
        handled: AtomicUsize::new(0),
        from: events / 10,
        to: events,
        times: Mutex::default(),
        done: Notify::new(),
    });
    let workers = bus
        .group(group)
        .topics(topic)
        .state(Arc::clone(&meter))
        .on_raw("*", handle)
        .start()
        .await?;
    timeout(PATIENCE, meter.done.notified()).await?;
    let round = meter.round().ok_or("the events were not counted")?;
    workers.drain(PATIENCE).await?.into_result()?;
    bus.close(PATIENCE).await?;
    Ok(round)
}

fn handle(envelope: Envelope, State(meter): State<Arc<Meter>>) -> std::future::Ready<Handled> {
    touch(envelope.key().map_or(&[], |key| key));
    touch(envelope.payload().map_or(&[], |payload| payload));
    std::hint::black_box((envelope.id(), envelope.ty(), envelope.time()));
    meter.one();
    std::future::ready(Ok(()))
}
