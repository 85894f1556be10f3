//! What the tests on a real server share.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, SystemTime};

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value};
use interline_core::{
    Admin, AnyPublisher, AnyTransport, Budget, Checkpoint, Committed, Control, Envelope, Feed,
    Fence, Group, Kind, Outcome, Outgoing, Partition, Pattern, Position, Progress, Publisher,
    PublisherOptions, ReadSpec, Reader, Receipt, Result, Signal, Start, SubscribeSpec, Topic,
    TopicSpec, Transport as _, Until,
};
use interline_redis::{Transport, native};

/// The longest that anything may take; far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The server under test. Without one the test fails: a skipped test proves nothing.
pub(crate) fn url() -> String {
    std::env::var("INTERLINE_REDIS_URL")
        .expect("INTERLINE_REDIS_URL names the server to test with, as in redis://127.0.0.1:6379")
}

/// The URL with more settings.
pub(crate) fn url_with(settings: &str) -> String {
    let url = url();
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{settings}")
}

pub(crate) async fn connect() -> Transport {
    connect_to(&url()).await
}

pub(crate) async fn connect_to(url: &str) -> Transport {
    within(interline_redis::connect(url)).await.unwrap()
}

/// What a connection is refused with.
pub(crate) async fn refusal(url: &str) -> interline_core::Error {
    within(interline_redis::connect(url)).await.unwrap_err()
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

/// The key of a partition.
pub(crate) fn stream(topic: &Topic, index: u32) -> String {
    format!("interline:{{{topic}}}:{index}")
}

/// Ends a test that makes no progress.
pub(crate) async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("no progress")
}

pub(crate) async fn make(transport: &Transport, topic: &Topic, partitions: u32) {
    let spec = TopicSpec::new(topic.clone()).partitions(partitions);
    within(transport.admin().ensure(vec![spec])).await.unwrap();
}

pub(crate) async fn publisher(transport: &Transport) -> native::Publisher {
    let options = PublisherOptions::default();
    within(transport.publisher(options)).await.unwrap()
}

/// An event with a number for payload and one of `keys` keys.
pub(crate) fn event(number: usize, keys: usize) -> Envelope {
    let kind = Kind::new("/test", "test.happened").unwrap();
    let key = format!("key-{}", number % keys);
    let event = Envelope::builder(kind).key(key).payload(number.to_string());
    event.build().unwrap()
}

pub(crate) fn batch(topic: &Topic, numbers: std::ops::Range<usize>) -> Vec<Outgoing> {
    numbers
        .map(|number| Outgoing::new(topic.clone(), event(number, 20)))
        .collect()
}

/// Events on their way.
pub(crate) async fn enqueued(publisher: &impl Publisher, batch: Vec<Outgoing>) -> Receipt {
    within(publisher.enqueue(batch)).await.unwrap()
}

pub(crate) async fn outcomes(publisher: &impl Publisher, batch: Vec<Outgoing>) -> Vec<Outcome> {
    within(enqueued(publisher, batch).await).await
}

/// Publishes events with these numbers and expects each to be stored.
pub(crate) async fn publish(transport: &Transport, topic: &Topic, numbers: std::ops::Range<usize>) {
    let publisher = publisher(transport).await;
    for outcome in outcomes(&publisher, batch(topic, numbers)).await {
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }
}

pub(crate) fn number_of(envelope: &Envelope) -> usize {
    let payload = envelope.payload().unwrap().to_vec();
    String::from_utf8(payload).unwrap().parse().unwrap()
}

/// The numbers of all events of a topic with their partitions, in order per partition.
pub(crate) async fn content(transport: &Transport, topic: &Topic) -> Result<Vec<(u32, usize)>> {
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until: Until::End,
    };
    let mut reader = within(transport.read(spec)).await?;
    let mut found = Vec::new();
    while let Some(batch) = within(reader.next(Budget::default())).await? {
        let numbers = batch.records.iter().map(|r| number_of(&r.envelope));
        found.extend(numbers.map(|number| (batch.partition.index, number)));
    }
    Ok(found)
}

/// A client without interline.
pub(crate) struct Raw {
    client: Client,
    driver: ConnectHandle,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Raw {
    pub(crate) async fn connect() -> Self {
        let url = url();
        let place = url.split('?').next().unwrap();
        let config = fred::types::config::Config::from_url(place).unwrap();
        let client = Client::new(config, None, None, None);
        let driver = within(client.init()).await.unwrap();
        Self { client, driver }
    }

    /// Runs a command; words are split at spaces.
    pub(crate) async fn run(&self, command: &'static str, words: &str) -> Value {
        let args: Vec<Value> = words.split_whitespace().map(Value::from).collect();
        self.call(command, args).await
    }

    pub(crate) async fn call(&self, command: &'static str, args: Vec<Value>) -> Value {
        let custom = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        let called = self.client.custom(custom, args);
        within(called)
            .await
            .unwrap_or_else(|cause| panic!("{command}: {cause}"))
    }
}

/// A member that settles whatever it reads.
pub(crate) struct Member {
    pub(crate) feed: native::Feed,
    pub(crate) control: native::Control,
    pub(crate) owned: BTreeMap<Partition, (Fence, Progress)>,
    pub(crate) read: Vec<usize>,
}

impl Member {
    pub(crate) async fn join(transport: &Transport, topic: &Topic, group: &Group) -> Self {
        let topics = vec![Pattern::exact(topic.as_str())];
        let spec = SubscribeSpec::new(group.clone(), topics);
        let (feed, control) = within(transport.subscribe(spec)).await.unwrap();
        Self {
            feed,
            control,
            owned: BTreeMap::new(),
            read: Vec::new(),
        }
    }

    /// Takes one signal.
    pub(crate) async fn step(&mut self) -> Result<()> {
        match within(self.feed.next(Budget::default())).await? {
            Signal::Assigned(all) => {
                for Checkpoint {
                    partition,
                    fence,
                    progress,
                } in all
                {
                    self.owned.insert(partition, (fence, progress));
                }
            }
            Signal::Batch(batch) => {
                let (_, progress) = self.owned.get_mut(&batch.partition).unwrap();
                for record in &batch.records {
                    assert!(progress.frontier < Some(record.position), "order");
                    progress.frontier = Some(record.position);
                    self.read.push(number_of(&record.envelope));
                }
            }
            Signal::Revoking { partitions, .. } | Signal::Lost { partitions } => {
                self.owned
                    .retain(|partition, _| !partitions.contains(partition));
            }
        }
        Ok(())
    }

    pub(crate) async fn read_to(&mut self, count: usize) {
        while self.read.len() < count {
            self.step().await.unwrap();
        }
    }

    /// What the feed ends with.
    pub(crate) async fn end(&mut self) -> interline_core::Error {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    pub(crate) async fn commit(&self) -> Vec<Committed> {
        let all = self
            .owned
            .iter()
            .map(|(partition, (fence, progress))| Checkpoint {
                partition: partition.clone(),
                fence: *fence,
                progress: progress.clone(),
            });
        within(self.control.commit(all.collect())).await.unwrap()
    }

    /// Commits until everything is applied.
    pub(crate) async fn settle(&self) {
        let applied = |answer: &Committed| *answer == Committed::Applied;
        while !self.commit().await.iter().all(applied) {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn close(self) {
        within(self.control.close(PATIENCE)).await.unwrap();
    }
}

/// The frontier of each partition as the administration shows it, with the lag.
pub(crate) async fn lags(
    transport: &Transport,
    topic: &Topic,
    group: &Group,
) -> Vec<(Option<Position>, Option<u64>)> {
    let groups = within(transport.admin().groups(Some(topic))).await.unwrap();
    let info = groups
        .into_iter()
        .find(|info| info.group == *group)
        .unwrap();
    let lag = |lag: interline_core::PartitionLag| (lag.frontier, lag.lag);
    info.partitions.into_iter().map(lag).collect()
}

/// A publisher as users hold it.
pub(crate) async fn any_publisher(transport: &AnyTransport) -> AnyPublisher {
    let options = PublisherOptions::default();
    within(transport.publisher(options)).await.unwrap()
}
