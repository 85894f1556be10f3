//! How many events a second go through the memory transport: published in batches, read
//! in batches, checkpoints stored in between.
//!
//! `cargo run --release -p interline-memory --example rate -- [events] [batch] [partitions] [threads]`

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::sync::Arc;
use std::time::Instant;

use interline_core::{
    AnyControl, AnyFeed, AnyPublisher, AnyTransport, Budget, Bytes, Checkpoint, Control as _,
    Envelope, EventId, Feed as _, Group, Kind, Outgoing, Pattern, Publisher as _, PublisherOptions,
    Result, Signal, SubscribeSpec, Topic, Transport as _,
};
use uuid::Uuid;

const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut argument = |default| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (events, batch) = (argument(2_000_000), argument(256));
    let (partitions, threads) = (argument(12), argument(1));
    let runtime = if threads > 1 {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_time()
            .build()
    } else {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
    };
    let runtime = runtime.map_err(|cause| {
        interline_core::Error::new(interline_core::ErrorKind::Config, "start", "no runtime")
            .because(cause)
    })?;
    for payload in [128, 1_024] {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(runtime.block_on(round(events, batch, partitions, payload))?);
            raw.push(runtime.block_on(channel(events, batch, payload))?);
        }
        let (ours, raw) = (best(ours), best(raw));
        println!(
            "{payload:5} B, batches of {batch}, {partitions} partitions, {threads} threads: {:.2} M events/s, {:.0} ns; \
             tokio mpsc {:.2} M, {:.0} ns; ratio {:.2}",
            ours / 1e6,
            1e9 / ours,
            raw / 1e6,
            1e9 / raw,
            ours / raw,
        );
    }
    Ok(())
}

/// The best round: what disturbs a round only makes it slower.
fn best(rates: Vec<f64>) -> f64 {
    rates.into_iter().fold(0.0, f64::max)
}

/// The same events through a channel, in the same batches.
async fn channel(events: usize, batch: usize, payload: usize) -> Result<f64> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4_096);
    let (mut source, batches) = (Source::new(payload, batch)?, events / batch);
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..batches {
            let batch = source.batch();
            let Ok(permits) = sender.reserve_many(batch.len()).await else {
                return;
            };
            for (permit, event) in permits.zip(batch) {
                permit.send(event.envelope);
            }
        }
    });
    let (mut read, mut buffer) = (0, Vec::with_capacity(1_024));
    while read < batches * batch {
        read += receiver.recv_many(&mut buffer, 1_024).await;
        buffer.clear();
    }
    let rate = read as f64 / start.elapsed().as_secs_f64();
    sending.await.ok();
    Ok(rate)
}

async fn round(events: usize, batch: usize, partitions: usize, payload: usize) -> Result<f64> {
    let more = std::env::var("RATE_QUERY").unwrap_or_default();
    let url = format!("memory://?partitions={partitions}&{more}");
    let transport = AnyTransport::new(interline_memory::connect(url).await?);
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let spec = SubscribeSpec::new(Group::new("rate")?, vec![Pattern::new("rate")?]);
    let (feed, control) = transport.subscribe(spec).await?;
    let (source, batches) = (Source::new(payload, batch)?, events / batch);
    let events = batches * batch;
    let start = Instant::now();
    let publishing = tokio::spawn(publish(publisher, source, batches));
    read(feed, control, events).await?;
    let rate = events as f64 / start.elapsed().as_secs_f64();
    publishing.await.ok();
    Ok(rate)
}

/// Makes batches of events that share topic, kind and payload; only the ids are new.
struct Source {
    topic: Topic,
    kind: Arc<Kind>,
    payload: Bytes,
    keys: Vec<Bytes>,
    size: usize,
    made: u64,
}

impl Source {
    fn new(payload: usize, size: usize) -> Result<Self> {
        Ok(Self {
            topic: Topic::new("rate")?,
            kind: Arc::new(Kind::new("/rate", "rate.tick")?),
            payload: Bytes::from(vec![7; payload]),
            keys: (0..10_000).map(|n| Bytes::from(n.to_string())).collect(),
            size,
            made: 0,
        })
    }

    fn batch(&mut self) -> Vec<Outgoing> {
        (0..self.size).map(|_| self.event()).collect()
    }

    fn event(&mut self) -> Outgoing {
        self.made += 1;
        // Spread like random ids, and cheap to make.
        let id = u128::from(self.made).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let key = self.keys[self.made as usize % self.keys.len()].clone();
        let envelope = Envelope::from_parts(
            EventId::from(Uuid::from_u128(id)),
            Arc::clone(&self.kind),
            None,
            Some(key.into()),
            Some(self.payload.clone()),
        );
        Outgoing::new(self.topic.clone(), envelope)
    }
}

async fn publish(publisher: AnyPublisher, mut source: Source, batches: usize) -> Result<()> {
    for _ in 0..batches {
        let outcomes = publisher.enqueue(source.batch()).await?.await;
        for outcome in outcomes {
            let _ = outcome.into_result()?;
        }
    }
    Ok(())
}

/// Reads to the end and stores a checkpoint of every partition once in 1,000 events, as the
/// transport asks for.
async fn read(mut feed: AnyFeed, control: AnyControl, events: usize) -> Result<()> {
    let (mut read, mut unstored) = (0, 0);
    let mut owned: Vec<(bool, Checkpoint)> = Vec::new();
    while read < events {
        let batch = match feed.next(Budget::default()).await? {
            Signal::Assigned(all) => {
                owned.extend(all.into_iter().map(|checkpoint| (false, checkpoint)));
                owned.sort_by_key(|(_, checkpoint)| checkpoint.partition.index);
                continue;
            }
            Signal::Batch(batch) => batch,
            Signal::Revoking { .. } | Signal::Lost { .. } => continue,
        };
        let (changed, checkpoint) = &mut owned[batch.partition.index as usize];
        checkpoint.progress.frontier = batch.records.last().map(|record| record.position);
        *changed = true;
        read += batch.records.len();
        unstored += batch.records.len();
        if unstored >= 1_000 {
            unstored = 0;
            let changed = owned.iter_mut().filter(|(changed, _)| *changed);
            let checkpoints = changed.map(|(changed, checkpoint)| {
                *changed = false;
                checkpoint.clone()
            });
            control.commit(checkpoints.collect()).await?;
        }
    }
    Ok(())
}
