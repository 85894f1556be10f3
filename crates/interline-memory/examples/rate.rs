//! How many events a second go through the memory transport: published in batches, read
//! in batches, a checkpoint for every batch read.
//!
//! `cargo run --release -p interline-memory --example rate -- [events] [partitions] [threads]`

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::sync::Arc;
use std::time::Instant;

use interline_core::{
    AnyControl, AnyFeed, AnyPublisher, AnyTransport, Budget, Bytes, Checkpoint, Control as _,
    Envelope, EventId, Feed as _, Group, Kind, Outgoing, Pattern, Progress, Publisher as _,
    PublisherOptions, Result, Signal, SubscribeSpec, Topic, Transport as _,
};
use uuid::Uuid;

const BATCH: usize = 256;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut argument = |default| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (events, partitions, threads) = (argument(2_000_000), argument(12), argument(1));
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
        for _ in 0..5 {
            ours.push(runtime.block_on(round(events, partitions, payload))?);
            raw.push(runtime.block_on(channel(events, payload))?);
        }
        let (ours, raw) = (median(ours), median(raw));
        println!(
            "{payload:5} B, {partitions} partitions, {threads} threads: {:.2} M events/s, {:.0} ns; \
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

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The same events through a channel, in the same batches.
async fn channel(events: usize, payload: usize) -> Result<f64> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4_096);
    let (mut source, batches) = (Source::new(payload)?, events / BATCH);
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
    while read < batches * BATCH {
        read += receiver.recv_many(&mut buffer, 1_024).await;
        buffer.clear();
    }
    let rate = read as f64 / start.elapsed().as_secs_f64();
    sending.await.ok();
    Ok(rate)
}

async fn round(events: usize, partitions: usize, payload: usize) -> Result<f64> {
    let more = std::env::var("RATE_QUERY").unwrap_or_default();
    let url = format!("memory://?partitions={partitions}&{more}");
    let transport = AnyTransport::new(interline_memory::connect(url).await?);
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let spec = SubscribeSpec::new(Group::new("rate")?, vec![Pattern::new("rate")?]);
    let (feed, control) = transport.subscribe(spec).await?;
    let (source, batches) = (Source::new(payload)?, events / BATCH);
    let events = batches * BATCH;
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
    made: u64,
}

impl Source {
    fn new(payload: usize) -> Result<Self> {
        Ok(Self {
            topic: Topic::new("rate")?,
            kind: Arc::new(Kind::new("/rate", "rate.tick")?),
            payload: Bytes::from(vec![7; payload]),
            keys: (0..10_000).map(|n| Bytes::from(n.to_string())).collect(),
            made: 0,
        })
    }

    fn batch(&mut self) -> Vec<Outgoing> {
        (0..BATCH).map(|_| self.event()).collect()
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
            Some(key),
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

async fn read(mut feed: AnyFeed, control: AnyControl, events: usize) -> Result<()> {
    let mut read = 0;
    while read < events {
        let Signal::Batch(batch) = feed.next(Budget::default()).await? else {
            continue;
        };
        read += batch.records.len();
        let checkpoint = Checkpoint {
            partition: batch.partition,
            fence: batch.fence,
            progress: Progress {
                frontier: batch.records.last().map(|record| record.position),
                ..Progress::default()
            },
        };
        control.commit(vec![checkpoint]).await?;
    }
    Ok(())
}
