//! What the tests on a real broker share.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, SystemTime};

use interline_core::{
    AnyControl, AnyFeed, AnyPublisher, AnyReader, AnyTransport, Batch, Budget, Checkpoint,
    Committed, Control, Envelope, Feed, Fence, Group, Kind, Outcome, Outgoing, Partition, Pattern,
    Position, Progress, Publisher, PublisherOptions, Reader, Signal, Start, SubscribeSpec, Topic,
    TopicSpec, Transport,
};
use interline_kafka::Config;

/// The longest that anything may take; far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The broker under test. Without one the test fails: a skipped test proves nothing.
pub(crate) fn url() -> String {
    std::env::var("INTERLINE_KAFKA_URL")
        .expect("INTERLINE_KAFKA_URL names the broker to test with, as in kafka://127.0.0.1:9092")
}

/// The URL with more settings.
pub(crate) fn url_with(settings: &str) -> String {
    let url = url();
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{settings}")
}

pub(crate) async fn connect() -> AnyTransport {
    connect_to(&url()).await
}

pub(crate) async fn connect_to(url: &str) -> AnyTransport {
    let config = Config::try_from(url).unwrap();
    AnyTransport::new(within(interline_kafka::connect(config)).await.unwrap())
}

/// A name that no other run has used.
pub(crate) fn fresh(what: &str) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("{what}-{now:x}")
}

pub(crate) fn topic(what: &str) -> Topic {
    Topic::new(fresh(what)).unwrap()
}

pub(crate) fn group(what: &str) -> Group {
    Group::new(fresh(what)).unwrap()
}

/// Ends a test that makes no progress.
pub(crate) async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("no progress")
}

pub(crate) async fn make(transport: &AnyTransport, topic: &Topic, partitions: u32) {
    use interline_core::Admin;
    let spec = TopicSpec::new(topic.clone()).partitions(partitions);
    within(transport.admin().ensure(vec![spec])).await.unwrap();
}

pub(crate) async fn publisher(transport: &AnyTransport) -> AnyPublisher {
    transport
        .publisher(PublisherOptions::default())
        .await
        .unwrap()
}

pub(crate) fn event(key: Option<&str>, payload: &str) -> Envelope {
    let kind = Kind::new("/test", "test.happened").unwrap();
    let mut builder = Envelope::builder(kind).payload(payload.to_owned());
    if let Some(key) = key {
        builder = builder.key(key.to_owned());
    }
    builder.build().unwrap()
}

/// Publishes and expects every event to be stored; partition and offset of each.
pub(crate) async fn publish(
    publisher: &AnyPublisher,
    topic: &Topic,
    events: Vec<Envelope>,
) -> Vec<(u32, u64)> {
    let batch = events
        .into_iter()
        .map(|envelope| Outgoing::new(topic.clone(), envelope))
        .collect();
    let receipt = within(publisher.enqueue(batch)).await.unwrap();
    within(receipt)
        .await
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Stored {
                partition,
                position,
                ..
            } => (partition, position.1),
            other => panic!("not stored: {other:?}"),
        })
        .collect()
}

pub(crate) fn numbered(from: usize, to: usize, keys: usize) -> Vec<Envelope> {
    (from..to)
        .map(|n| event(Some(&format!("key-{}", n % keys)), &n.to_string()))
        .collect()
}

/// The numbers in a topic, in order, with copies.
pub(crate) async fn content(transport: &AnyTransport, topic: &Topic) -> Vec<usize> {
    use interline_core::{ReadSpec, Until};
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until: Until::End,
    };
    read_all(within(transport.read(spec)).await.unwrap()).await
}

/// The numbers that a reading brings until it ends, in order, with copies.
pub(crate) async fn read_all(mut reader: AnyReader) -> Vec<usize> {
    let mut numbers = Vec::new();
    while let Some(batch) = within(reader.next(Budget::default())).await.unwrap() {
        for record in batch.records {
            let text = record.envelope.payload().unwrap().to_vec();
            numbers.push(String::from_utf8(text).unwrap().parse().unwrap());
        }
    }
    numbers.sort_unstable();
    numbers
}

/// A member that settles whatever it reads.
pub(crate) struct Member {
    pub(crate) feed: AnyFeed,
    pub(crate) control: AnyControl,
    pub(crate) owned: BTreeMap<Partition, (Fence, Progress)>,
    /// Key and number of every event read, in order.
    pub(crate) read: Vec<(String, usize)>,
    pub(crate) revoked: usize,
    pub(crate) lost: usize,
}

impl Member {
    pub(crate) async fn join(transport: &AnyTransport, topic: &Topic, group: &Group) -> Self {
        Self::start(transport, topic, group, Start::Earliest).await
    }

    pub(crate) async fn start(
        transport: &AnyTransport,
        topic: &Topic,
        group: &Group,
        start: Start,
    ) -> Self {
        let mut spec = SubscribeSpec::new(group.clone(), vec![Pattern::exact(topic.as_str())]);
        spec.start = start;
        let (feed, control) = within(transport.subscribe(spec)).await.unwrap();
        Self::of(feed, control)
    }

    pub(crate) fn of(feed: AnyFeed, control: AnyControl) -> Self {
        Self {
            feed,
            control,
            owned: BTreeMap::new(),
            read: Vec::new(),
            revoked: 0,
            lost: 0,
        }
    }

    /// Takes one signal and obeys it; releases at once what is revoked.
    pub(crate) async fn step(&mut self) {
        match within(self.feed.next(Budget::default())).await.unwrap() {
            Signal::Assigned(checkpoints) => self.assigned(checkpoints),
            Signal::Batch(batch) => self.take(&batch),
            Signal::Revoking { partitions, .. } => {
                self.revoked += partitions.len();
                let last = self.checkpoints(&partitions);
                let answers = within(self.control.release(last)).await.unwrap();
                assert!(
                    answers.iter().all(|answer| *answer != Committed::Stale),
                    "{answers:?}"
                );
                for partition in &partitions {
                    self.owned.remove(partition);
                }
            }
            Signal::Lost { partitions } => {
                self.lost += partitions.len();
                for partition in &partitions {
                    self.owned.remove(partition);
                }
            }
        }
    }

    pub(crate) fn assigned(&mut self, checkpoints: Vec<Checkpoint>) {
        for Checkpoint {
            partition,
            fence,
            progress,
        } in checkpoints
        {
            self.owned.insert(partition, (fence, progress));
        }
    }

    pub(crate) fn take(&mut self, batch: &Batch) {
        let (fence, progress) = self
            .owned
            .get_mut(&batch.partition)
            .expect("records of a partition that is not owned");
        assert_eq!(*fence, batch.fence);
        for record in &batch.records {
            if progress.is_done(record.position) {
                continue;
            }
            assert!(progress.frontier < Some(record.position), "order");
            progress.frontier = Some(record.position);
            progress.done.retain(|range| range.last > record.position);
            let key = record.envelope.key().map(|key| key.to_vec());
            let number = record.envelope.payload().map(|bytes| bytes.to_vec());
            self.read.push((
                String::from_utf8(key.unwrap_or_default()).unwrap(),
                String::from_utf8(number.unwrap_or_default())
                    .unwrap()
                    .parse()
                    .unwrap_or(usize::MAX),
            ));
        }
    }

    pub(crate) fn checkpoints(&self, partitions: &[Partition]) -> Vec<Checkpoint> {
        partitions
            .iter()
            .filter_map(|partition| {
                let (fence, progress) = self.owned.get(partition)?;
                Some(Checkpoint {
                    partition: partition.clone(),
                    fence: *fence,
                    progress: progress.clone(),
                })
            })
            .collect()
    }

    pub(crate) fn all(&self) -> Vec<Checkpoint> {
        let partitions: Vec<Partition> = self.owned.keys().cloned().collect();
        self.checkpoints(&partitions)
    }

    /// Reads until this many events have come.
    pub(crate) async fn read_to(&mut self, count: usize) {
        while self.read.len() < count {
            self.step().await;
        }
    }

    pub(crate) async fn own_to(&mut self, count: usize) {
        while self.owned.len() < count {
            self.step().await;
        }
    }

    pub(crate) async fn commit(&mut self) -> Vec<Committed> {
        within(self.control.commit(self.all())).await.unwrap()
    }

    pub(crate) async fn close(self) {
        within(self.control.close(PATIENCE)).await.unwrap();
    }

    /// Commits, leaves and closes, as a drain does.
    pub(crate) async fn drain(self) {
        self.control.leave();
        within(self.control.release(self.all())).await.unwrap();
        self.close().await;
    }
}

/// The one partition that a checkpoint of these members is about.
pub(crate) fn at(position: u64) -> Option<Position> {
    Some(Position::from(position))
}
