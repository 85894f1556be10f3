//! Kafka: rdkafka as somebody who knows it well writes it, with the settings of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use interline_core::{Group, PublisherOptions};
use interline_kafka::Config;
use interline_transport::wire::Style;
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

use crate::Result;
use crate::broker::{Broker, Events, Goals, Job};
use crate::latency::{DEFAULTS, Paced};
use crate::measure::{Round, Watch};
use crate::ours::PATIENCE;
use crate::sample::{Sample, new_id, touch};

/// How long to wait when the queue is full: far less than it takes to send what it holds.
const FULL: Duration = Duration::from_millis(1);

/// How long one call waits for an event.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Kafka;

impl Broker for Kafka {
    const NAME: &'static str = interline_kafka::SCHEME;
    const STYLE: Style = Style::Underscore;
    const PARTITIONS: u32 = 4;
    const GOALS: Goals = Goals {
        publish_us: 0.3,
        consume_us: 0.4,
    };
    const EVENTS: Events = Events {
        published: [600_000, 400_000],
        consumed: [1_500_000, 500_000],
        awaited: 3_000,
    };
    /// Without lingering a request carries two events at this rate, which costs broker and client
    /// far more than the events do.
    const PACED: &[Paced] = &[
        DEFAULTS,
        Paced {
            settings: "linger=5ms",
            paths: [
                "publish at 10,000/s, linger=5ms, p99 in us",
                "handled at 10,000/s, linger=5ms, p99 in us",
            ],
        },
    ];

    async fn publish(job: Job<'_>, is_bare: bool) -> Result<Round> {
        let deliveries = Deliveries::default();
        let counts = Arc::clone(&deliveries.0);
        let producer: ThreadedProducer<Deliveries> =
            producer(job.url)?.create_with_context(deliveries)?;
        let send = |sample: &Sample| -> Result<()> {
            let mut record = BaseRecord::to(job.topic.as_str())
                .key(&*sample.key)
                .payload(&*sample.payload);
            if !is_bare {
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
        job.samples.iter().take(1).try_for_each(send)?;
        producer.flush(PATIENCE)?;
        let watch = Watch::on(job.machine);
        job.source().try_for_each(send)?;
        producer.flush(PATIENCE)?;
        let round = watch.stop(job.events);
        let (stored, failed) = (&counts.stored, &counts.failed);
        if stored.load(Ordering::Relaxed) != job.events + 1 || failed.load(Ordering::Relaxed) > 0 {
            return Err("not every event was stored by the raw producer".into());
        }
        Ok(round)
    }

    async fn awaited(job: Job<'_>) -> Result<Round> {
        let producer: FutureProducer = producer(job.url)?.create()?;
        let send = async |sample: &Sample| {
            let record = FutureRecord::to(job.topic.as_str())
                .key(&*sample.key)
                .payload(&*sample.payload)
                .headers(headers(sample));
            let sent = producer.send(record, Timeout::Never).await;
            sent.map_err(|(error, _)| error)?;
            Ok(())
        };
        job.one_by_one(send).await
    }

    async fn consume(job: Job<'_>, group: &Group) -> Result<Round> {
        let consumer: BaseConsumer = client(job.url)?
            .set("group.id", group.as_str())
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("check.crcs", "true")
            .set("fetch.queue.backoff.ms", "2")
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "100")
            .create()?;
        consumer.subscribe(&[job.topic.as_str()])?;
        let mut count = job.count();
        let began = Instant::now();
        while !count.is_over() {
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
            count.one();
        }
        count.round()
    }
}

fn client(url: &str) -> Result<ClientConfig> {
    // Settings may follow, for our side alone; the raw side knows neither logins nor TLS.
    let brokers = url
        .strip_prefix("kafka://")
        .filter(|rest| !rest.contains('@'));
    let brokers = brokers.and_then(|rest| rest.split('?').next());
    let brokers = brokers.ok_or("INTERLINE_KAFKA_URL has to be kafka://host:port")?;
    let mut config = ClientConfig::new();
    config
        .set_log_level(RDKafkaLogLevel::Warning)
        .set("bootstrap.servers", brokers);
    Ok(config)
}

fn producer(url: &str) -> Result<ClientConfig> {
    let ours = Config::default();
    let mut config = client(url)?;
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
    Ok(config)
}

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

fn headers(sample: &Sample) -> OwnedHeaders {
    let mut text = [0; 36];
    let id = new_id().hyphenated().encode_lower(&mut text);
    let headers = OwnedHeaders::new_with_capacity(sample.headers.len());
    sample
        .headers_with(id)
        .fold(headers, |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
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
