//! Reading without a group.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use interline_core::{
    Batch, Budget, Error, ErrorKind, Partition, Pattern, ReadSpec, Result, Signal, Topic, Until,
};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::cluster::{Cluster, missing};
use crate::error::{closed, kafka, kind};
use crate::fetch::{Fetched, Fetcher};
use crate::member::{Command, Handle, Shut};
use crate::monitor::Watch;
use crate::offsets;
use crate::outbox::{End, Failure, Outbox};
use crate::wake::Wake;

/// The longest wait of the thread.
const TICK: Duration = Duration::from_millis(100);

/// How often a finite reading compares itself with the cluster: what was compacted away or
/// belongs to no event never comes.
const COMPARE: Duration = Duration::from_secs(1);

/// A reading without a group; see [`interline_core::Reader`].
///
/// It takes no part in any group: Kafka does not know that it reads.
#[derive(Debug)]
pub struct Reader(Arc<Handle>);

impl interline_core::Reader for Reader {
    async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        let outbox = &self.0.outbox;
        loop {
            match poll_fn(|cx| outbox.poll_next(cx, budget)).await {
                Ok(Signal::Batch(batch)) => return Ok(Some(batch)),
                // A reading has no assignments.
                Ok(_) => {}
                Err(End::Complete) => return Ok(None),
                Err(End::Closed) => return Err(closed("read")),
                Err(End::Failed(failure)) => return Err(failure.error("read")),
            }
        }
    }
}

/// A partition that is still read.
#[derive(Clone, Copy)]
struct Part {
    start: i64,
    /// The offset before which the reading ends, if it ends.
    stop: Option<i64>,
}

struct Reading {
    consumer: Arc<BaseConsumer<Watch>>,
    fetcher: Fetcher,
    outbox: Arc<Outbox>,
    parts: BTreeMap<Partition, Part>,
    compared: Instant,
}

impl Reader {
    pub(crate) async fn open(cluster: &Arc<Cluster>, spec: ReadSpec) -> Result<Self> {
        let handle = Arc::new(Handle::new());
        let shared = handle.parts();
        let (consumer, parts) = cluster
            .blocking("read", move |cluster| {
                let config = cluster.resolved.reader();
                let consumer: BaseConsumer<Watch> = config
                    .create_with_context(cluster.watch.clone())
                    .map_err(|error| kafka("read", &error))?;
                let parts = parts(cluster, &consumer, &spec)?;
                Ok((consumer, parts))
            })
            .await?;
        let names = cluster.resolved.names.clone();
        thread::Builder::new()
            .name("interline-kafka-read".to_owned())
            .spawn(move || {
                let (outbox, inbox) = shared;
                let _shut = Shut(Arc::clone(&inbox));
                let wake = Wake::current();
                inbox.woken_by_commands(wake.clone());
                outbox.woken_by_room(wake.clone());
                let consumer = Arc::new(consumer);
                let fetcher = Fetcher::new(Arc::<BaseConsumer<_>>::clone(&consumer), wake.clone());
                let mut reading = Reading {
                    consumer,
                    fetcher,
                    outbox,
                    parts,
                    compared: Instant::now(),
                };
                reading.assign(|topic| names.topic(topic));
                let mut waiting = Vec::new();
                while waiting.is_empty() {
                    if !reading.step() {
                        wake.wait(TICK);
                    }
                    let closes = |command| match command {
                        Command::Close { reply } => Some(reply),
                        _ => None,
                    };
                    waiting = inbox.take().into_iter().filter_map(closes).collect();
                }
                reading.outbox.end(End::Closed);
                drop(reading);
                for reply in waiting.into_iter().flatten() {
                    // Who gave up waiting does not want to know.
                    let _ = reply.send(());
                }
            })
            .map_err(|cause| {
                Error::new(ErrorKind::Unavailable, "read", "no thread could be started")
                    .because(cause)
            })?;
        Ok(Self(handle))
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.0
    }
}

/// Where every partition of the reading starts and stops. Blocks.
fn parts(
    cluster: &Cluster,
    consumer: &BaseConsumer<Watch>,
    spec: &ReadSpec,
) -> Result<BTreeMap<Partition, Part>> {
    let timeout = cluster.resolved.config.request_timeout;
    let failed = |error: KafkaError| kafka("read", &error);
    let mut parts = BTreeMap::new();
    for (topic, count) in topics(cluster, &spec.topics)? {
        let name = cluster.resolved.names.topic(&topic);
        for index in 0..count {
            let partition = Partition::new(topic.clone(), index);
            let (first, end) = offsets::ends(consumer, &name, index, timeout).map_err(failed)?;
            let start = offsets::start(consumer, &name, &partition, &spec.start, timeout);
            let start = start.map_err(failed)?;
            if start < first || start > end {
                return Err(Failure {
                    kind: ErrorKind::PositionLost,
                    message: format!("{partition} holds {first} to {}, not {start}", end - 1),
                    remedy: "start at a place that is kept",
                }
                .error("read"));
            }
            let stop = match spec.until {
                Until::Forever => None,
                Until::End => Some(end),
                Until::Time(time) => {
                    let millis = time.unix_millis();
                    let found = offsets::at_time(consumer, &name, index, millis, timeout);
                    found.map_err(failed)?
                }
            };
            if stop.is_none_or(|stop| start < stop) {
                parts.insert(partition, Part { start, stop });
            }
        }
    }
    Ok(parts)
}

/// The topics of a reading with the number of their partitions.
fn topics(cluster: &Cluster, patterns: &[Pattern]) -> Result<BTreeMap<Topic, u32>> {
    let metadata = cluster.metadata("read", None)?;
    let all = crate::member::listed(&metadata, &cluster.resolved.names);
    for pattern in patterns {
        if let Some(name) = pattern.as_exact() {
            let topic = Topic::system(name)?;
            if !all.contains_key(&topic) {
                return Err(missing(cluster, "read", &topic));
            }
        }
    }
    let wanted = |topic: &Topic| {
        patterns.iter().any(|pattern| match pattern.as_exact() {
            Some(name) => name == topic.as_str(),
            None => !topic.is_system() && pattern.matches(topic.as_str()),
        })
    };
    Ok(all.into_iter().filter(|(topic, _)| wanted(topic)).collect())
}

impl Reading {
    fn assign(&mut self, name: impl Fn(&Topic) -> String) {
        let mut list = TopicPartitionList::with_capacity(self.parts.len());
        for (partition, part) in &self.parts {
            let name = name(&partition.topic);
            self.fetcher.open(partition.clone(), &name, 0, part.start);
            let index = i32::try_from(partition.index).unwrap_or(i32::MAX);
            // An offset is a number of the log, which librdkafka takes as it is.
            let _ = list.add_partition_offset(&name, index, Offset::Offset(part.start));
        }
        if let Err(error) = self.consumer.assign(&list) {
            self.fail(&error, "the consumer refused its partitions");
        }
        self.finish_if_done();
    }

    /// One round; whether something came.
    fn step(&mut self) -> bool {
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO)
            && let Some(code) = error.rdkafka_error_code()
        {
            self.judge(code, &error.to_string());
        }
        if self.compared.elapsed() >= COMPARE {
            self.compared = Instant::now();
            self.fetcher.ring_all();
            self.compare();
        }
        let Some(budget) = self.outbox.room() else {
            return false;
        };
        match self.fetcher.fetch(budget) {
            None => false,
            Some(Fetched::Batch(batch)) => {
                self.take(batch);
                true
            }
            Some(Fetched::Error {
                partition,
                code,
                text,
            }) => {
                let text = format!("{partition}: {text}");
                self.judge(code, &text);
                true
            }
        }
    }

    fn take(&mut self, mut batch: Batch) {
        let stop = self.parts.get(&batch.partition).and_then(|part| part.stop);
        let mut is_done = false;
        if let Some(stop) = stop {
            let before = |offset: u64| offset.cast_signed() < stop;
            is_done = batch
                .records
                .last()
                .is_some_and(|r| !before(r.position.1 + 1));
            let inside = batch.records.partition_point(|r| before(r.position.1));
            batch.records.truncate(inside);
        }
        let partition = batch.partition.clone();
        if !batch.records.is_empty() {
            self.outbox.push(Signal::Batch(batch));
        }
        if is_done {
            self.part_done(&partition);
        }
    }

    fn part_done(&mut self, partition: &Partition) {
        self.parts.remove(partition);
        self.fetcher.close(partition);
        self.finish_if_done();
    }

    fn finish_if_done(&self) {
        if self.parts.is_empty() {
            self.outbox.end(End::Complete);
        }
    }

    /// Ends partitions whose rest holds no event: the consumer has passed it without one.
    fn compare(&mut self) {
        let Ok(list) = self.consumer.position() else {
            return;
        };
        let mut done = Vec::new();
        for element in list.elements() {
            let Offset::Offset(position) = element.offset() else {
                continue;
            };
            let index = element.partition().cast_unsigned();
            let passed = |(partition, part): (&Partition, &Part)| {
                let is_it =
                    partition.index == index && element.topic().ends_with(partition.topic.as_str());
                let is_read = self.fetcher.next_of(partition) >= position;
                (is_it && is_read && part.stop.is_some_and(|stop| position >= stop))
                    .then(|| partition.clone())
            };
            done.extend(self.parts.iter().find_map(passed));
        }
        for partition in done {
            self.part_done(&partition);
        }
    }

    fn judge(&self, code: RDKafkaErrorCode, text: &str) {
        let (kind, remedy) = kind(code);
        let terminal = matches!(
            kind,
            ErrorKind::PositionLost | ErrorKind::Denied | ErrorKind::NotFound
        );
        if terminal && code != RDKafkaErrorCode::Authentication {
            self.outbox.end(End::Failed(Failure {
                kind,
                message: text.trim().to_owned(),
                remedy,
            }));
        }
    }

    fn fail(&self, error: &KafkaError, what: &str) {
        self.outbox.end(End::Failed(Failure {
            kind: ErrorKind::Protocol,
            message: format!("{what}: {error}"),
            remedy: "read again",
        }));
    }
}
