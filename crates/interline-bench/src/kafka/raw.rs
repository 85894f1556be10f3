//! The raw side: rdkafka as somebody who knows it well writes it, with the settings of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use interline_core::{Group, PublisherOptions, Topic};
use interline_kafka::Config;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, FutureProducer, FutureRecord, Producer, ProducerContext,
    ThreadedProducer,
};
use rdkafka::util::Timeout;

use super::{PATIENCE, Sample, touch};
use crate::Result;
use crate::measure::{Round, Watch};

/// How long to wait when the queue is full: far less than it takes to send what it holds.
const FULL: Duration = Duration::from_millis(1);

/// How long one call waits for an event.
const LOOK: Duration = Duration::from_millis(100);

/// Counts deliveries.
#[derive(Clone, Default)]
struct Deliveries(Arc<Counts>);

#[derive(Default)]
struct Counts {
    stored: AtomicUsize,
    failed: AtomicUsize,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = match result {
            Ok(_) => &self.0.stored,
            Err(_) => &self.0.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set_log_level(RDKafkaLogLevel::Warning)
        .set("bootstrap.servers", brokers);
    config
}

fn producer(brokers: &str) -> ClientConfig {
    let ours = Config::default();
    let mut config = client(brokers);
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("max.in.flight", ours.max_in_flight.to_string())
        .set("linger.ms", ours.linger.as_millis().to_string())
        .set(
            "queue.buffering.max.messages",
            PublisherOptions::default().window.to_string(),
        );
    config
}

fn headers(sample: &Sample) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(sample.headers.len());
    sample.headers.iter().fold(headers, |headers, header| {
        headers.insert(Header {
            key: &header.0,
            value: Some(&header.1),
        })
    })
}

pub(super) fn publish(
    brokers: &str,
    topic: &Topic,
    samples: &[Sample],
    events: usize,
    with_headers: bool,
) -> Result<Round> {
    let deliveries = Deliveries::default();
    let counts = Arc::clone(&deliveries.0);
    let producer: ThreadedProducer<Deliveries> =
        producer(brokers).create_with_context(deliveries)?;
    let send = |sample: &Sample| -> Result<()> {
        let mut record = BaseRecord::to(topic.as_str())
            .key(&sample.key)
            .payload(&sample.payload);
        if with_headers {
            record = record.headers(headers(sample));
        }
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    thread::sleep(FULL);
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    };
    samples.iter().take(1).try_for_each(send)?;
    producer.flush(PATIENCE)?;
    let watch = Watch::start();
    samples.iter().cycle().take(events).try_for_each(send)?;
    producer.flush(PATIENCE)?;
    let round = watch.stop(events);
    let (stored, failed) = (&counts.stored, &counts.failed);
    if stored.load(Ordering::Relaxed) != events + 1 || failed.load(Ordering::Relaxed) > 0 {
        return Err("not every event was stored by the raw producer".into());
    }
    Ok(round)
}

pub(super) async fn awaited(
    brokers: &str,
    topic: &Topic,
    samples: &[Sample],
    count: usize,
) -> Result<Round> {
    let producer: FutureProducer = producer(brokers).create()?;
    let send = async |sample: &Sample| {
        let record = FutureRecord::to(topic.as_str())
            .key(&sample.key)
            .payload(&sample.payload)
            .headers(headers(sample));
        let sent = producer.send(record, Timeout::Never).await;
        sent.map_err(|(error, _)| error)
    };
    let first = samples.first().ok_or("no samples")?;
    send(first).await?;
    let mut waits = Vec::with_capacity(count);
    let watch = Watch::start();
    for sample in samples.iter().cycle().take(count) {
        let began = Instant::now();
        send(sample).await?;
        waits.push(began.elapsed());
    }
    Ok(watch.stop(count).with_waits(waits))
}

pub(super) fn consume(brokers: &str, topic: &Topic, group: &Group, events: usize) -> Result<Round> {
    let consumer: BaseConsumer = client(brokers)
        .set("group.id", group.as_str())
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("check.crcs", "true")
        .set("fetch.queue.backoff.ms", "2")
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "100")
        .create()?;
    consumer.subscribe(&[topic.as_str()])?;
    let first = events / 10;
    let mut watch = None;
    let began = Instant::now();
    let mut seen = 0;
    while seen < events {
        // Nothing comes too when the group hands partitions over.
        let Some(message) = consumer.poll(LOOK) else {
            if began.elapsed() > PATIENCE {
                return Err("the raw consumer did not get every event".into());
            }
            continue;
        };
        let message = message?;
        look_at(&message);
        consumer.store_offset_from_message(&message)?;
        seen += 1;
        if seen == first {
            watch = Some(Watch::start());
        }
    }
    let watch = watch.ok_or("too few events")?;
    Ok(watch.stop(events - first))
}

/// Looks at everything that a user would look at.
fn look_at(message: &impl Message) {
    touch(message.key().unwrap_or_default());
    touch(message.payload().unwrap_or_default());
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        touch(header.key.as_bytes());
        touch(header.value.unwrap_or_default());
    }
}
