//! The stage of a scenario that goes through the bus.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use interline_bus::{Bus, Context, DrainReport, GroupBuilder, Handled, Workers};
use interline_core::{
    Admin, AnyPublisher, AnyTransport, Budget, Envelope, Group, Kind, Outcome, Outgoing, Pattern,
    Publisher, PublisherOptions, ReadSpec, Reader, Recorded, Start, Topic, TopicSpec, Transport,
    Until,
};
use interline_reliability::{DeadLetter, DeadLetters, Filter};
use tokio::time::Instant;

use crate::{Breach, Gate, Harness, Journal, Verdict, check, check_eq};

static KIND: LazyLock<Result<Arc<Kind>, String>> = LazyLock::new(|| {
    let kind = Kind::new("/conformance", "conformance.noted");
    kind.map(Arc::new).map_err(|error| error.to_string())
});

/// The kind of the suite's events.
pub(crate) fn kind() -> Verdict<Arc<Kind>> {
    KIND.clone().map_err(Breach::new)
}

/// Event `number` of `key`.
pub(crate) fn event(key: &str, number: u64) -> Verdict<Envelope> {
    let envelope = Envelope::builder(kind()?)
        .key(key.to_owned())
        .payload(number.to_string())
        .build()?;
    Ok(envelope)
}

/// The number of an event of [`event`].
pub(crate) fn number_of(envelope: &Envelope) -> Verdict<u64> {
    let text = std::str::from_utf8(envelope.payload().map_or(&[], |payload| payload));
    let number = text.ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Breach::new("a payload is not what was published"))
}

/// The key of an event of [`event`].
pub(crate) fn key_of(envelope: &Envelope) -> String {
    let key = envelope.key().map(|key| String::from_utf8_lossy(key));
    key.unwrap_or_default().into_owned()
}

/// `numbers` of each of `keys`, interleaved.
pub(crate) fn interleaved(keys: usize, numbers: u64) -> Vec<(String, u64)> {
    let each = move |number| (0..keys).map(move |key| (format!("key-{key}"), number));
    (0..numbers).flat_map(each).collect()
}

/// A run of a handler: its beginning or its end.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) member: usize,
    pub(crate) key: String,
    pub(crate) number: u64,
    pub(crate) attempt: u32,
    pub(crate) at: Instant,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Began,
    Succeeded,
    Failed,
    /// Its future was dropped where it stood.
    Dropped,
}

/// The runs of a scenario.
pub(crate) type Runs = Arc<Journal<Run>>;

/// Notes the end of a run, also of one that is dropped.
struct Noting {
    runs: Runs,
    run: Run,
}

impl Noting {
    fn ends(mut self, what: What) {
        self.run.what = what;
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        let mut run = self.run.clone();
        run.at = Instant::now();
        if run.what == What::Began {
            run.what = What::Dropped;
        }
        self.runs.note(run);
    }
}

/// A handler that notes its runs in `runs` as those of `member`, and does `act` in between.
pub(crate) fn noting<F, Fut>(
    runs: &Runs,
    member: usize,
    act: F,
) -> impl Fn(Context) -> Pin<Box<dyn Future<Output = Handled> + Send>> + Send + Sync + 'static
where
    F: Fn(Run) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Handled> + Send + 'static,
{
    let runs = Arc::clone(runs);
    move |context: Context| {
        let run = Run {
            member,
            key: key_of(context.envelope()),
            number: number_of(context.envelope()).unwrap_or(u64::MAX),
            attempt: context.attempt(),
            at: Instant::now(),
            what: What::Began,
        };
        runs.note(run.clone());
        let noting = Noting {
            runs: Arc::clone(&runs),
            run: run.clone(),
        };
        let acting = act(run);
        Box::pin(async move {
            let handled = acting.await;
            noting.ends(match handled {
                Ok(()) => What::Succeeded,
                Err(_) => What::Failed,
            });
            handled
        })
    }
}

/// What a handler does that waits at `gate` if `who` says so.
pub(crate) fn gated(
    gate: &Arc<Gate>,
    who: impl Fn(&Run) -> bool + Clone + Send + Sync + 'static,
) -> impl Fn(Run) -> Pin<Box<dyn Future<Output = Handled> + Send>> + Clone + Send + Sync + 'static {
    let gate = Arc::clone(gate);
    move |run: Run| {
        let gate = who(&run).then(|| Arc::clone(&gate));
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.pass().await;
            }
            Ok(())
        })
    }
}

/// One topic, one group, one connection.
pub(crate) struct Scene<'a> {
    pub(crate) harness: &'a Harness,
    pub(crate) transport: AnyTransport,
    pub(crate) bus: Bus,
    pub(crate) topic: Topic,
    pub(crate) group: Group,
    publisher: AnyPublisher,
}

impl<'a> Scene<'a> {
    /// A scene whose topic has `partitions` partitions, where topics can be made to order.
    pub(crate) async fn new(harness: &'a Harness, partitions: u32) -> Verdict<Self> {
        let transport = harness.connect().await?;
        Self::over(harness, transport, partitions).await
    }

    /// A scene over a connection that may have been wrapped.
    pub(crate) async fn over(
        harness: &'a Harness,
        transport: AnyTransport,
        partitions: u32,
    ) -> Verdict<Self> {
        let topic = made_topic(harness, &transport, partitions).await?;
        Ok(Self {
            harness,
            bus: Bus::new(transport.clone()).source("/conformance"),
            publisher: transport.publisher(PublisherOptions::default()).await?,
            transport,
            topic,
            group: harness.fresh_group("group")?,
        })
    }

    /// A group of handlers on the scene's topic.
    pub(crate) fn builder(&self) -> GroupBuilder {
        let group = self.bus.group(self.group.as_str());
        group.topics(self.topic.as_str())
    }

    /// The same group over a connection of its own, as another process would be.
    pub(crate) async fn other(&self) -> Verdict<GroupBuilder> {
        let bus = Bus::new(self.harness.connect().await?).source("/conformance");
        let group = bus.group(self.group.as_str());
        Ok(group.topics(self.topic.as_str()))
    }

    /// Starts the group with one handler for everything, which does `act` as `member`.
    pub(crate) async fn start<F, Fut>(&self, runs: &Runs, member: usize, act: F) -> Verdict<Workers>
    where
        F: Fn(Run) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        let group = self.builder().on_raw("*", noting(runs, member, act));
        Ok(group.start().await?)
    }

    /// The same over a connection of its own.
    pub(crate) async fn start_other<F, Fut>(
        &self,
        runs: &Runs,
        member: usize,
        act: F,
    ) -> Verdict<Workers>
    where
        F: Fn(Run) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        let group = self.other().await?.on_raw("*", noting(runs, member, act));
        Ok(group.start().await?)
    }

    /// Waits until the group has no lag, then drains it.
    pub(crate) async fn finish(&self, workers: Workers) -> Verdict<DrainReport> {
        self.settled().await?;
        self.drain(workers).await
    }

    /// Publishes events that all have to be stored.
    pub(crate) async fn publish(&self, events: &[(String, u64)]) -> Verdict {
        let batch: Verdict<Vec<_>> = events.iter().map(|(key, n)| event(key, *n)).collect();
        self.publish_all(batch?).await
    }

    pub(crate) async fn publish_all(&self, events: Vec<Envelope>) -> Verdict {
        let outgoing = |envelope| Outgoing::new(self.topic.clone(), envelope);
        let batch = events.into_iter().map(outgoing).collect();
        for outcome in self.outcomes(batch).await? {
            let _stored = outcome.into_result()?;
        }
        Ok(())
    }

    pub(crate) async fn outcomes(&self, batch: Vec<Outgoing>) -> Verdict<Vec<Outcome>> {
        let events = batch.len();
        let receipt = self
            .harness
            .within("room to publish", self.publisher.enqueue(batch));
        let outcomes = self.harness.within("outcomes", receipt.await??).await?;
        check_eq!(outcomes.len(), events, "outcomes of a batch");
        Ok(outcomes)
    }

    /// Every record of the scene's topic as it stands.
    pub(crate) async fn records(&self) -> Verdict<Vec<(u32, Recorded)>> {
        read_all(self.harness, &self.transport, &self.topic).await
    }

    /// The open dead letters of the group.
    pub(crate) async fn dead_letters(&self) -> Verdict<DeadLetters> {
        let topic = self.topic.dlq(&self.group);
        Ok(DeadLetters::open(self.transport.clone(), topic.as_str()).await?)
    }

    /// Waits until the group has `count` open dead letters, and returns them.
    pub(crate) async fn letters(&self, count: usize) -> Verdict<Vec<DeadLetter>> {
        let letters = self.dead_letters().await?;
        self.harness
            .eventually("dead letters", || async {
                Ok(letters.list(&Filter::default()).await?.len() >= count)
            })
            .await?;
        let letters = letters.list(&Filter::default()).await?;
        check_eq!(letters.len(), count, "dead letters");
        Ok(letters)
    }

    /// Waits until the group has no lag.
    pub(crate) async fn settled(&self) -> Verdict {
        let admin = self.transport.admin();
        let (topic, group) = (&self.topic, &self.group);
        self.harness
            .eventually("the group to settle everything", || async {
                let groups = admin.groups(Some(topic)).await?;
                let mine = groups.iter().find(|info| info.group == *group);
                Ok(mine.is_some_and(|info| info.partitions.iter().all(|p| p.lag == Some(0))))
            })
            .await
    }

    /// Drains workers; everything has to finish.
    pub(crate) async fn drain(&self, workers: Workers) -> Verdict<DrainReport> {
        let deadline = self.harness.deadline();
        let report = self
            .harness
            .within("the drain", workers.drain(deadline))
            .await??;
        check!(
            report.unfinished.is_empty() && report.error.is_none(),
            "the drain left {:?} and {:?}",
            report.unfinished,
            report.error
        );
        Ok(report)
    }

    /// Waits for a number of runs that succeeded.
    pub(crate) async fn succeeded(&self, runs: &Runs, count: usize) -> Verdict {
        let wanted = |run: &&Run| run.what == What::Succeeded;
        let enough = |all: &[Run]| (all.iter().filter(wanted).count() >= count).then_some(());
        let what = format!("{count} runs to succeed");
        self.harness.until(&what, runs, enough).await
    }
}

/// A fresh topic with `partitions` partitions, where topics can be made to order.
pub(crate) async fn made_topic(
    harness: &Harness,
    transport: &AnyTransport,
    partitions: u32,
) -> Verdict<Topic> {
    let topic = harness.fresh_topic("conf.orders")?;
    if transport.capabilities().manage_topics {
        let spec = TopicSpec::new(topic.clone()).partitions(partitions);
        transport.admin().ensure(vec![spec]).await?;
    }
    Ok(topic)
}

/// Every record of `topic` as it stands now.
pub(crate) async fn read_all(
    harness: &Harness,
    transport: &AnyTransport,
    topic: &Topic,
) -> Verdict<Vec<(u32, Recorded)>> {
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until: Until::End,
    };
    let mut reader = transport.read(spec).await?;
    let mut records = Vec::new();
    while let Some(batch) = harness
        .within("the end of a reading", reader.next(Budget::default()))
        .await??
    {
        let partition = batch.partition.index;
        records.extend(batch.records.into_iter().map(|record| (partition, record)));
    }
    Ok(records)
}

/// Drops workers as if their process had died, and waits until their runs are over.
pub(crate) async fn crash(
    harness: &Harness,
    workers: Workers,
    runs: &Runs,
    member: usize,
) -> Verdict {
    workers.abort();
    harness
        .until("the dropped runs", runs, |all| {
            let of = |what: fn(What) -> bool| {
                let mine = all.iter().filter(|run| run.member == member);
                mine.filter(|run| what(run.what)).count()
            };
            (of(|what| what == What::Began) == of(|what| what != What::Began)).then_some(())
        })
        .await
}

/// A payload of `size` bytes that no compression makes small.
pub(crate) fn noise(size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes.into()
}

/// A moment that differs from run to run, for handlers.
pub(crate) async fn a_moment() {
    let millis = fastrand::u64(0..8);
    tokio::time::sleep_until(Instant::now() + Duration::from_millis(millis)).await;
}
