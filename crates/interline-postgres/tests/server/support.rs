//! What the tests share.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, SystemTime};

use interline_core::{
    Admin as _, Budget, Checkpoint, Committed, Control as _, Envelope, Feed as _, Fence, Group,
    Kind, Outcome, Outgoing, Partition, Pattern, Progress, Publisher as _, PublisherOptions,
    ReadSpec, Reader as _, Recorded, Signal, Start, SubscribeSpec, Topic, TopicSpec,
    Transport as _, Until,
};
use interline_postgres::Transport;
use interline_postgres::native::{Control, Feed, Publisher};
use interline_transport::settings::Address;
use tokio::sync::OnceCell;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::{Client, NoTls};

/// The longest that anything may take; far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The server under test. Without one the test fails: a skipped test proves nothing.
pub(crate) fn url() -> String {
    variable("INTERLINE_POSTGRES_URL")
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by `cargo xtask it postgres`"))
}

/// `url` with more settings.
pub(crate) fn with(url: &str, settings: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{settings}")
}

/// The server by its name and port, as a driver wants it.
pub(crate) fn driver(url: &str) -> tokio_postgres::Config {
    let address = Address::parse(url).unwrap();
    let mut config = tokio_postgres::Config::new();
    config
        .host(&address.endpoints[0].host)
        .port(address.endpoints[0].port.unwrap_or(5_432))
        .user(address.user.unwrap())
        .dbname(address.path.unwrap());
    if let Some(password) = address.password {
        config.password(password.reveal());
    }
    config
}

/// A connection that knows nothing of interline.
pub(crate) async fn bare() -> Client {
    let (client, connection) = within(driver(&url()).connect(NoTls)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The schema is made by its owner, whoever connects first.
static MIGRATED: OnceCell<()> = OnceCell::const_new();

pub(crate) async fn migrate() {
    let owner = || async {
        let owner = interline_postgres::connect(variable("INTERLINE_POSTGRES_OWNER_URL"));
        let owner = within(owner).await.unwrap();
        owner.close(PATIENCE).await.unwrap();
    };
    MIGRATED.get_or_init(owner).await;
}

pub(crate) async fn connect() -> Transport {
    migrate().await;
    within(interline_postgres::connect(url())).await.unwrap()
}

pub(crate) async fn connect_with(settings: &str) -> Transport {
    let url = with(&url(), settings);
    within(interline_postgres::connect(url)).await.unwrap()
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
    timeout(PATIENCE, what).await.expect("no progress")
}

/// Asks again and again until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut look: impl FnMut() -> F) {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    within(async {
        while !look().await {
            ticks.tick().await;
        }
    })
    .await;
}

pub(crate) async fn make(transport: &Transport, topic: &Topic, partitions: u32) {
    let spec = TopicSpec::new(topic.clone()).partitions(partitions);
    within(transport.admin().ensure(vec![spec])).await.unwrap();
}

pub(crate) async fn publisher(transport: &Transport) -> Publisher {
    let options = PublisherOptions::default();
    transport.publisher(options).await.unwrap()
}

pub(crate) fn event(key: &str, number: usize) -> Envelope {
    let kind = Kind::new("/test", "test.happened").unwrap();
    Envelope::builder(kind)
        .key(key.to_owned())
        .payload(number.to_string())
        .build()
        .unwrap()
}

pub(crate) fn outgoing(topic: &Topic, envelopes: Vec<Envelope>) -> Vec<Outgoing> {
    let outgoing = |envelope| Outgoing::new(topic.clone(), envelope);
    envelopes.into_iter().map(outgoing).collect()
}

/// Publishes; the outcomes.
pub(crate) async fn publish(
    publisher: &Publisher,
    topic: &Topic,
    envelopes: Vec<Envelope>,
) -> Vec<Outcome> {
    let batch = outgoing(topic, envelopes);
    let receipt = within(publisher.enqueue(batch)).await.unwrap();
    within(receipt).await
}

pub(crate) fn number(envelope: &Envelope) -> usize {
    let text = envelope.payload().unwrap();
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

pub(crate) fn key(envelope: &Envelope) -> String {
    String::from_utf8(envelope.key().unwrap().to_vec()).unwrap()
}

/// Everything in a topic from `start` on, partition by partition in order.
pub(crate) async fn content(
    transport: &Transport,
    topic: &Topic,
    start: Start,
) -> interline_core::Result<Vec<(Partition, Recorded)>> {
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start,
        until: Until::End,
    };
    let mut reader = within(transport.read(spec)).await?;
    let mut found = Vec::new();
    while let Some(batch) = within(reader.next(Budget::default())).await? {
        let partition = batch.partition;
        found.extend(batch.records.into_iter().map(|r| (partition.clone(), r)));
    }
    Ok(found)
}

pub(crate) async fn numbers(transport: &Transport, topic: &Topic) -> Vec<usize> {
    let found = content(transport, topic, Start::Earliest).await.unwrap();
    let mut numbers: Vec<_> = found.iter().map(|(_, r)| number(&r.envelope)).collect();
    numbers.sort_unstable();
    numbers
}

/// A member that settles whatever it reads.
pub(crate) struct Member {
    pub(crate) feed: Feed,
    pub(crate) control: Control,
    pub(crate) owned: BTreeMap<Partition, (Fence, Progress)>,
    /// Key and number of every event read, in order.
    pub(crate) read: Vec<(String, usize)>,
    pub(crate) lost: usize,
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
            lost: 0,
        }
    }

    /// Takes one signal and obeys it.
    pub(crate) async fn step(&mut self) {
        let signal = within(self.feed.next(Budget::default())).await;
        self.obey(signal.unwrap()).await;
    }

    pub(crate) async fn obey(&mut self, signal: Signal) {
        match signal {
            Signal::Assigned(checkpoints) => {
                for checkpoint in checkpoints {
                    let owned = (checkpoint.fence, checkpoint.progress);
                    self.owned.insert(checkpoint.partition, owned);
                }
            }
            Signal::Batch(batch) => {
                let (fence, progress) = self.owned.get_mut(&batch.partition).unwrap();
                assert_eq!(*fence, batch.fence);
                for record in batch.records {
                    assert!(progress.frontier < Some(record.position), "order of positions");
                    progress.frontier = Some(record.position);
                    self.read
                        .push((key(&record.envelope), number(&record.envelope)));
                }
            }
            Signal::Revoking { partitions, .. } => {
                let last = self.checkpoints(&partitions);
                let answers = within(self.control.release(last)).await.unwrap();
                assert!(answers.iter().all(|answer| *answer == Committed::Applied));
                self.owned.retain(|partition, _| !partitions.contains(partition));
            }
            Signal::Lost { partitions } => {
                self.lost += partitions.len();
                self.owned.retain(|partition, _| !partitions.contains(partition));
            }
        }
    }

    fn checkpoints(&self, partitions: &[Partition]) -> Vec<Checkpoint> {
        let checkpoint = |partition: &Partition| {
            let (fence, progress) = self.owned.get(partition)?;
            Some(Checkpoint {
                partition: partition.clone(),
                fence: *fence,
                progress: progress.clone(),
            })
        };
        partitions.iter().filter_map(checkpoint).collect()
    }

    pub(crate) async fn commit(&mut self) -> Vec<Committed> {
        let all: Vec<Partition> = self.owned.keys().cloned().collect();
        within(self.control.commit(self.checkpoints(&all))).await.unwrap()
    }

    pub(crate) async fn own(&mut self, count: usize) {
        while self.owned.len() != count {
            self.step().await;
        }
    }

    pub(crate) async fn read_to(&mut self, count: usize) {
        while self.read.len() < count {
            self.step().await;
        }
    }

    /// Settles everything and leaves.
    pub(crate) async fn drain(self) {
        self.control.leave();
        let all: Vec<Partition> = self.owned.keys().cloned().collect();
        within(self.control.release(self.checkpoints(&all))).await.unwrap();
        within(self.control.close(PATIENCE)).await.unwrap();
    }
}
