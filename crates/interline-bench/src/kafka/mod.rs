//! Kafka: the transport with the engine beside rdkafka used by hand.

mod ours;
mod raw;

use std::time::{Duration, Instant};

use interline_core::{
    Admin, Envelope, ErrorKind, EventId, Group, Topic, TopicSpec, Transport as _,
};
use interline_kafka::Transport;
use interline_transport::wire::{Style, for_each_header};
use tokio::runtime::Runtime;

use crate::Result;
use crate::measure::{Plan, alternate, one_core};
use crate::report::{Row, Target};
use crate::sample::envelopes;

const PARTITIONS: u32 = 4;
const KEYS: usize = 10_000;

/// Awaited one at a time, of each side and round.
const AWAITED: usize = 4_000;

/// How long anything that should happen at once may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);

const PUBLISH: &str = "publish in batches";
const BARE: &str = "publish in batches, raw without attributes";
const CONSUME: &str = "consume with lanes and checkpoints";
const P50: &str = "one awaited publish, p50 in us";
const P99: &str = "one awaited publish, p99 in us";

/// One event as each side holds it: everything is ready, so that a round costs the sending alone.
struct Sample {
    envelope: Envelope,
    key: Vec<u8>,
    payload: Vec<u8>,
    /// The headers that the transport writes for the envelope.
    headers: Vec<(String, Vec<u8>)>,
}

/// The broker, and what was made there for this run.
struct Place {
    url: String,
    brokers: String,
    transport: Transport,
    runtime: Runtime,
}

pub(crate) fn rows(plan: Plan, path: &str) -> Result<Vec<Row>> {
    let place = Place::new()?;
    let mut rows = Vec::new();
    for (payload, published, consumed) in [(128, 1_000_000, 2_000_000), (1_024, 400_000, 800_000)] {
        let samples = samples(payload)?;
        if [PUBLISH, BARE].iter().any(|name| name.contains(path)) {
            rows.extend(place.publish(plan, &samples, published / plan.divide, payload)?);
        }
        if CONSUME.contains(path) {
            rows.push(place.consume(plan, &samples, consumed / plan.divide, payload)?);
        }
        if [P50, P99].iter().any(|name| name.contains(path)) {
            rows.extend(place.awaited(plan, &samples, payload)?);
        }
    }
    rows.retain(|row| row.path().contains(path));
    Ok(rows)
}

fn samples(payload: usize) -> Result<Vec<Sample>> {
    let sample = |envelope: Envelope| {
        let mut headers = Vec::new();
        for_each_header(&envelope, Style::Underscore, |name, value| {
            headers.push((name.to_owned(), value.to_vec()));
        });
        Sample {
            key: envelope.key().map_or_else(Vec::new, |key| key.to_vec()),
            payload: envelope.payload().map_or_else(Vec::new, |p| p.to_vec()),
            headers,
            envelope,
        }
    };
    Ok(envelopes(KEYS, payload)?.into_iter().map(sample).collect())
}

impl Place {
    fn new() -> Result<Self> {
        let url = std::env::var("INTERLINE_KAFKA_URL").map_err(
            |_| "INTERLINE_KAFKA_URL names no broker: `cargo xtask bench kafka` starts one",
        )?;
        // Settings may follow, for our side alone; the raw side knows neither logins nor TLS.
        let brokers = url
            .strip_prefix("kafka://")
            .filter(|rest| !rest.contains('@'));
        let brokers = brokers.and_then(|rest| rest.split('?').next());
        let brokers = brokers.ok_or("INTERLINE_KAFKA_URL has to be kafka://host:port")?;
        let runtime = one_core()?;
        let transport = runtime.block_on(interline_kafka::connect(&*url))?;
        Ok(Self {
            brokers: brokers.to_owned(),
            url,
            transport,
            runtime,
        })
    }

    /// Runs `measure` with a topic of its own.
    fn with_topic<T>(&self, measure: impl FnOnce(&Topic) -> Result<T>) -> Result<T> {
        let topic = Topic::new(fresh("bench"))?;
        let admin = self.transport.admin();
        let spec = TopicSpec::new(topic.clone()).partitions(PARTITIONS);
        self.runtime.block_on(admin.ensure(vec![spec]))?;
        let measured = measure(&topic);
        let deleted = self.runtime.block_on(admin.delete_topic(&topic));
        let measured = measured?;
        deleted?;
        Ok(measured)
    }

    /// Both sides into one topic, so that its settings cannot differ.
    fn publish(
        &self,
        plan: Plan,
        samples: &[Sample],
        events: usize,
        payload: usize,
    ) -> Result<[Row; 2]> {
        let [raw, ours, bare] = self.with_topic(|topic| {
            alternate(
                plan,
                [
                    &mut || raw::publish(&self.brokers, topic, samples, events, true),
                    &mut || {
                        let publish = ours::publish(&self.url, topic, samples, events);
                        self.runtime.block_on(publish)
                    },
                    &mut || raw::publish(&self.brokers, topic, samples, events, false),
                ],
            )
        })?;
        let target = Target::Beside {
            ratio: 0.95,
            cpu_us: 0.3,
        };
        Ok([
            Row::beside(("kafka", PUBLISH, payload), &ours, &raw, target),
            Row::beside(("kafka", BARE, payload), &ours, &bare, Target::None),
        ])
    }

    fn consume(
        &self,
        plan: Plan,
        samples: &[Sample],
        events: usize,
        payload: usize,
    ) -> Result<Row> {
        let [raw, ours] = self.with_topic(|topic| {
            let prefill = ours::publish(&self.url, topic, samples, events);
            self.runtime.block_on(prefill)?;
            alternate(
                plan,
                [
                    &mut || {
                        self.with_group(|group| raw::consume(&self.brokers, topic, group, events))
                    },
                    &mut || {
                        self.with_group(|group| {
                            let consume = ours::consume(&self.url, topic, group, events);
                            self.runtime.block_on(consume)
                        })
                    },
                ],
            )
        })?;
        let target = Target::Beside {
            ratio: 0.95,
            cpu_us: 0.4,
        };
        Ok(Row::beside(
            ("kafka", CONSUME, payload),
            &ours,
            &raw,
            target,
        ))
    }

    /// Runs `measure` with a group of its own.
    fn with_group<T>(&self, measure: impl FnOnce(&Group) -> Result<T>) -> Result<T> {
        let group = Group::new(fresh("bench"))?;
        let measured = measure(&group)?;
        self.runtime.block_on(self.delete_group(&group))?;
        Ok(measured)
    }

    /// A consumer that was dropped may still be on its way out of its group.
    async fn delete_group(&self, group: &Group) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.transport.admin().delete_group(group).await {
                Err(error) if error.kind() == ErrorKind::Invalid && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                deleted => return Ok(deleted?),
            }
        }
    }

    fn awaited(&self, plan: Plan, samples: &[Sample], payload: usize) -> Result<[Row; 2]> {
        let count = (AWAITED / plan.divide).max(100);
        let [raw, ours] = self.with_topic(|topic| {
            alternate(
                plan,
                [
                    &mut || {
                        let awaited = raw::awaited(&self.brokers, topic, samples, count);
                        self.runtime.block_on(awaited)
                    },
                    &mut || {
                        let awaited = ours::awaited(&self.url, topic, samples, count);
                        self.runtime.block_on(awaited)
                    },
                ],
            )
        })?;
        let row = |path, percent, ratio| {
            let target = Target::Latency { ratio, cpu_us: 2.0 };
            Row::latency(("kafka", path, payload), percent, &ours, &raw, target)
        };
        Ok([row(P50, 50, 1.10), row(P99, 99, 1.25)])
    }
}

/// A name that nobody else uses.
fn fresh(name: &str) -> String {
    format!("{name}-{}", EventId::new())
}

/// Reads every byte, as whoever consumes an event does.
fn touch(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().fold(0, |sum, byte| sum ^ byte));
}
