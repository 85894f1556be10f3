//! What the tests of this crate share.

use std::time::Duration;

use interline_core::{
    Batch, Budget, Checkpoint, Control as _, Envelope, EventId, Feed as _, Group, Kind, Outcome,
    Outgoing, Partition, Pattern, Position, Progress, Publisher as _, PublisherOptions, Signal,
    SubscribeSpec, Topic, Transport as _,
};
use interline_memory::Transport;
use interline_memory::native::{Control, Feed, Publisher};

pub(crate) async fn memory(query: &str) -> Transport {
    interline_memory::connect(format!("memory://?{query}"))
        .await
        .unwrap()
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::system(name).unwrap()
}

pub(crate) fn event(topic: &str, key: &str, id: impl std::fmt::Display) -> Outgoing {
    let envelope = Envelope::builder(Kind::new("/test", "tested").unwrap())
        .id(EventId::parse(id.to_string()).unwrap())
        .key(key.to_owned())
        .payload(id.to_string())
        .build()
        .unwrap();
    Outgoing::new(self::topic(topic), envelope)
}

pub(crate) async fn publisher(transport: &Transport) -> Publisher {
    transport
        .publisher(PublisherOptions::default())
        .await
        .unwrap()
}

/// Publishes `ids` to one topic, all stored.
pub(crate) async fn publish(transport: &Transport, topic: &str, ids: std::ops::Range<u64>) {
    let batch = ids.map(|id| event(topic, &format!("k{}", id % 50), id));
    let publisher = publisher(transport).await;
    let outcomes = publisher.enqueue(batch.collect()).await.unwrap().await;
    for outcome in outcomes {
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }
}

pub(crate) fn spec(group: &str, topics: &[&str]) -> SubscribeSpec {
    let topics = topics.iter().map(|topic| Pattern::new(topic).unwrap());
    SubscribeSpec::new(Group::new(group).unwrap(), topics.collect())
}

/// A member that remembers what it owns.
pub(crate) struct Member {
    pub(crate) feed: Feed,
    pub(crate) control: Control,
    pub(crate) owned: Vec<Checkpoint>,
}

impl Member {
    pub(crate) async fn join(transport: &Transport, spec: SubscribeSpec) -> Self {
        let (feed, control) = transport.subscribe(spec).await.unwrap();
        Self {
            feed,
            control,
            owned: Vec::new(),
        }
    }

    /// The next signal, which has to come within a minute of the test's clock.
    pub(crate) async fn next(&mut self) -> Signal {
        let signal =
            tokio::time::timeout(Duration::from_secs(60), self.feed.next(Budget::default()));
        let signal = signal.await.expect("a signal in time").unwrap();
        match &signal {
            Signal::Assigned(all) => self.owned.extend(all.iter().cloned()),
            Signal::Lost { partitions } => self.forget(partitions),
            Signal::Revoking { .. } | Signal::Batch(_) => {}
        }
        signal
    }

    fn forget(&mut self, partitions: &[Partition]) {
        self.owned
            .retain(|own| !partitions.contains(&own.partition));
    }

    pub(crate) fn checkpoint(
        &self,
        partition: &Partition,
        frontier: Option<Position>,
    ) -> Checkpoint {
        let own = self.owned.iter().find(|own| own.partition == *partition);
        Checkpoint {
            partition: partition.clone(),
            fence: own.expect("an owned partition").fence,
            progress: Progress {
                frontier,
                ..Progress::default()
            },
        }
    }

    pub(crate) async fn release(&mut self, partitions: &[Partition]) {
        let progress = |p: &Partition| self.owned.iter().find(|own| own.partition == *p).cloned();
        let checkpoints: Vec<_> = partitions.iter().filter_map(progress).collect();
        self.control.release(checkpoints).await.unwrap();
        self.forget(partitions);
    }

    /// Reads until a batch comes, releasing what is revoked on the way.
    pub(crate) async fn batch(&mut self) -> Batch {
        loop {
            match self.next().await {
                Signal::Batch(batch) => return batch,
                Signal::Revoking { partitions, .. } => self.release(&partitions).await,
                Signal::Assigned(_) | Signal::Lost { .. } => {}
            }
        }
    }

    /// Reads and settles `count` events; their payloads.
    pub(crate) async fn settle(&mut self, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let batch = self.batch().await;
            let last = batch.records.last().unwrap().position;
            seen.extend(batch.records.iter().map(payload));
            let own = self
                .owned
                .iter_mut()
                .find(|own| own.partition == batch.partition);
            own.unwrap().progress.frontier = Some(last);
            let checkpoint = self.checkpoint(&batch.partition, Some(last));
            self.control.commit(vec![checkpoint]).await.unwrap();
        }
        seen
    }
}

pub(crate) fn payload(record: &interline_core::Recorded) -> String {
    let payload = record.envelope.payload().unwrap();
    String::from_utf8(payload.to_vec()).unwrap()
}
