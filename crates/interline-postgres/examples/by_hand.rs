//! Our paths beside the best loops by hand with the same driver, on the server that
//! `INTERLINE_POSTGRES_URL` names: the same rows, the same dedupe, the same reading, checkpoints in
//! the same table, in rounds that alternate.
//!
//! `cargo run --release -p interline-postgres --example by_hand -- [events] [rounds]`
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesOrdered, StreamExt, TryStreamExt};
use interline_core::{
    Admin as _, Budget, Checkpoint, Control as _, Envelope, EventId, Feed as _, Group, Kind,
    Outcome, Outgoing, Pattern, Progress, Publisher as _, PublisherOptions, Signal, SubscribeSpec,
    Topic, TopicSpec, Transport as _,
};
use interline_postgres::Transport;
use interline_transport::settings::Address;
use interline_transport::wire::{Style, for_each_header};
use rustix::time::{ClockId, clock_gettime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PARTITIONS: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(60);

/// Events a second, and microseconds of this process's processor for each.
type Round = (f64, f64);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut argument = |default| arguments.next().and_then(|n| n.ok()).unwrap_or(default);
    let (events, rounds) = (argument(100_000), argument(5));
    let url = std::env::var("INTERLINE_POSTGRES_URL")?;
    let transport = interline_postgres::connect(&url).await?;
    for payload in [128, 1_024] {
        let place = Place::new(&transport, &url, payload).await?;
        let (mut published, mut raw) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..rounds {
            published.push(place.publish(events).await?);
            raw[0].push(place.raw_publish(events, 100).await?);
            raw[1].push(place.raw_publish(events, 500).await?);
        }
        show(
            payload,
            "publish",
            &mut published,
            "UNNEST of 100",
            &mut raw[0],
        );
        show(
            payload,
            "publish",
            &mut published,
            "UNNEST of 500",
            &mut raw[1],
        );
        let (mut consumed, mut raw) = (Vec::new(), Vec::new());
        let stored = events * rounds * 3;
        for _ in 0..rounds {
            consumed.push(place.consume(stored).await?);
            raw.push(place.raw_consume(stored).await?);
        }
        show(
            payload,
            "consume",
            &mut consumed,
            "lateral by hand",
            &mut raw,
        );
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.extend(place.awaited(300).await?);
            raw.extend(place.raw_awaited(300).await?);
        }
        show_waits(payload, &mut ours, &mut raw);
        transport.admin().delete_topic(&place.topic).await?;
    }
    Ok(())
}

fn median(rounds: &mut [Round]) -> Round {
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    rounds[rounds.len() / 2]
}

fn show(payload: usize, what: &str, ours: &mut [Round], beside: &str, raw: &mut [Round]) {
    let ((rate, cpu), (raw_rate, raw_cpu)) = (median(ours), median(raw));
    println!(
        "{payload:5} B {what}: {:.1}k events/s, {cpu:.2} us; {beside} {:.1}k, {raw_cpu:.2} us; \
         ratio {:.2}, {:+.2} us",
        rate / 1e3,
        raw_rate / 1e3,
        rate / raw_rate,
        cpu - raw_cpu
    );
}

fn show_waits(payload: usize, ours: &mut [Duration], raw: &mut [Duration]) {
    ours.sort_unstable();
    raw.sort_unstable();
    let at = |waits: &[Duration], percent: usize| {
        waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1e6
    };
    for percent in [50, 99] {
        let (ours, raw) = (at(ours, percent), at(raw, percent));
        println!(
            "{payload:5} B awaited p{percent}: {ours:.0} us; by hand {raw:.0} us; ratio {:.2}",
            ours / raw
        );
    }
}

struct Place<'t> {
    transport: &'t Transport,
    url: &'t str,
    topic: Topic,
    id: i32,
    payload: usize,
    kind: Arc<Kind>,
}

fn watch() -> (Instant, Duration) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(cpu.tv_nsec).unwrap_or(0);
    (
        Instant::now(),
        Duration::new(cpu.tv_sec.unsigned_abs(), nanos),
    )
}

fn round(events: usize, (wall, cpu): (Instant, Duration)) -> Round {
    let events = events as f64;
    let took = watch().1.saturating_sub(cpu).as_secs_f64();
    (events / wall.elapsed().as_secs_f64(), took * 1e6 / events)
}

impl<'t> Place<'t> {
    async fn new(transport: &'t Transport, url: &'t str, payload: usize) -> Result<Self> {
        let topic = Topic::new(format!("rate-{}", EventId::new()))?;
        let spec = TopicSpec::new(topic.clone()).partitions(PARTITIONS);
        transport.admin().ensure(vec![spec]).await?;
        let sql = "select id from interline.topics where name = $1";
        let row = client(url)
            .await?
            .query_one(sql, &[&topic.as_str()])
            .await?;
        Ok(Self {
            transport,
            url,
            topic,
            id: row.get(0),
            payload,
            kind: Arc::new(Kind::new("/rate", "rate.measured")?.content_type("text/plain")),
        })
    }

    fn event(&self, number: usize) -> Result<Envelope> {
        let event = Envelope::builder(Arc::clone(&self.kind))
            .key(format!("key-{}", number % 1_000))
            .payload(vec![b'x'; self.payload]);
        Ok(event.build()?)
    }

    async fn publish(&self, events: usize) -> Result<Round> {
        let publisher = self
            .transport
            .publisher(PublisherOptions::default())
            .await?;
        let batches: Result<Vec<Vec<Outgoing>>> = (0..events / 1_000)
            .map(|batch| {
                let event = |n| Ok(Outgoing::new(self.topic.clone(), self.event(batch + n)?));
                (0..1_000).map(event).collect()
            })
            .collect();
        let (batches, mut receipts) = (batches?, VecDeque::new());
        let watch = watch();
        for batch in batches {
            receipts.push_back(publisher.enqueue(batch).await?);
        }
        for receipt in receipts {
            for outcome in receipt.await {
                let Outcome::Stored { .. } = outcome else {
                    return Err(format!("{outcome:?}").into());
                };
            }
        }
        Ok(round(events, watch))
    }

    async fn awaited(&self, events: usize) -> Result<Vec<Duration>> {
        let publisher = self
            .transport
            .publisher(PublisherOptions::default())
            .await?;
        let mut waits = Vec::new();
        for number in 0..events + 20 {
            let event = Outgoing::new(self.topic.clone(), self.event(number)?);
            let began = Instant::now();
            let outcomes = publisher.enqueue(vec![event]).await?.await;
            waits.push(began.elapsed());
            drop(outcomes);
        }
        // The first ones connect and prepare.
        Ok(waits.split_off(20))
    }

    async fn raw_awaited(&self, events: usize) -> Result<Vec<Duration>> {
        let client = client(self.url).await?;
        let statement = client.prepare(RAW_PUBLISH).await?;
        let mut waits = Vec::new();
        for number in 0..events + 20 {
            let columns = Columns::new(self.id, &[self.event(number)?]);
            let began = Instant::now();
            columns.insert(&client, &statement).await?;
            waits.push(began.elapsed());
        }
        Ok(waits.split_off(20))
    }

    /// Two statements on their way on one connection.
    async fn raw_publish(&self, events: usize, batch: usize) -> Result<Round> {
        let client = client(self.url).await?;
        let statement = client.prepare(RAW_PUBLISH).await?;
        let envelopes: Result<Vec<Envelope>> = (0..events).map(|n| self.event(n)).collect();
        let envelopes = envelopes?;
        let mut flights = FuturesOrdered::new();
        let watch = watch();
        for events in envelopes.chunks(batch) {
            let columns = Columns::new(self.id, events);
            let (client, statement) = (&client, &statement);
            flights.push_back(async move { columns.insert(client, statement).await });
            if flights.len() == 2 {
                flights.next().await.transpose()?;
            }
        }
        while flights.next().await.transpose()?.is_some() {}
        Ok(round(events, watch))
    }

    async fn consume(&self, events: usize) -> Result<Round> {
        let group = Group::new(EventId::new().to_string())?;
        let topics = vec![Pattern::exact(self.topic.as_str())];
        let spec = SubscribeSpec::new(group.clone(), topics);
        let (mut feed, control) = self.transport.subscribe(spec).await?;
        let (mut owned, mut read, mut stored) = (Vec::new(), 0, Instant::now());
        let mut started = None;
        while read < events {
            match feed.next(Budget::default()).await? {
                Signal::Assigned(all) => owned.extend(all),
                Signal::Batch(batch) => {
                    let started = started.get_or_insert_with(watch);
                    read += batch.records.len();
                    for record in &batch.records {
                        touch(&record.envelope);
                    }
                    let of = |c: &&mut Checkpoint| c.partition == batch.partition;
                    if let Some(checkpoint) = owned.iter_mut().find(of) {
                        checkpoint.progress = Progress {
                            frontier: batch.records.last().map(|record| record.position),
                            ..Progress::default()
                        };
                    }
                    let _ = started;
                }
                other => return Err(format!("{other:?}").into()),
            }
            if stored.elapsed() > Duration::from_millis(100) {
                control.commit(owned.clone()).await?;
                stored = Instant::now();
            }
        }
        let round = round(read, started.ok_or("nothing was read")?);
        control.close(PATIENCE).await?;
        self.transport.admin().delete_group(&group).await?;
        Ok(round)
    }

    /// The same statement over all partitions, with the frontiers stored on another connection.
    async fn raw_consume(&self, events: usize) -> Result<Round> {
        let (client, other) = (client(self.url).await?, client(self.url).await?);
        let read = client.prepare(RAW_READ).await?;
        let (topics, parts) = (vec![self.id; 12], (0..12_i16).collect::<Vec<_>>());
        let mut cursors = vec![0_i64; 12];
        let limit = (4_i64 << 20) / ((self.payload as i64 + 250) * 12);
        let limit = limit.min(400);
        let (mut seen, mut stored) = (0, Instant::now());
        let watch = watch();
        while seen < events {
            let parameters: [&(dyn ToSql + Sync); 4] = [&topics, &parts, &cursors, &limit];
            let rows = client.query_raw(&read, parameters).await?;
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = rows.try_next().await? {
                let at: i64 = row.get(0);
                cursors[at as usize - 1] = row.get(1);
                for column in 3..6 {
                    let bytes: Option<&[u8]> = row.get(column);
                    std::hint::black_box(bytes.map(|b| b.iter().fold(0, |a, b| a ^ b)));
                }
                seen += 1;
            }
            if stored.elapsed() > Duration::from_millis(100) {
                other.execute(RAW_COMMIT, &[&parts, &cursors]).await?;
                stored = Instant::now();
            }
        }
        Ok(round(seen, watch))
    }
}

fn touch(envelope: &Envelope) {
    let sum = |bytes: &[u8]| bytes.iter().fold(0, |a, b| a ^ b);
    let key = envelope.key().map(|key| sum(key));
    let payload = envelope.payload().map(|payload| sum(payload));
    std::hint::black_box((key, payload, envelope.id()));
}

async fn client(url: &str) -> Result<Client> {
    let address = Address::parse(url)?;
    let mut config = tokio_postgres::Config::new();
    config
        .host(&address.endpoints[0].host)
        .port(address.endpoints[0].port.unwrap_or(5_432))
        .user(address.user.unwrap_or_default())
        .dbname(address.path.unwrap_or_default());
    if let Some(password) = address.password {
        config.password(password.reveal());
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let settings = "set synchronous_commit = on; set plan_cache_mode = force_generic_plan; \
        set jit = off; set enable_seqscan = off; set enable_bitmapscan = off";
    client.batch_execute(settings).await?;
    Ok(client)
}

/// What somebody who knows the driver prepares for a statement.
struct Columns {
    topics: Vec<i32>,
    parts: Vec<i16>,
    events: Vec<Uuid>,
    keys: Vec<Vec<u8>>,
    headers: Vec<Vec<u8>>,
    payloads: Vec<interline_core::Bytes>,
}

impl Columns {
    fn new(topic: i32, envelopes: &[Envelope]) -> Self {
        let mut columns = Self {
            topics: Vec::with_capacity(envelopes.len()),
            parts: Vec::with_capacity(envelopes.len()),
            events: Vec::with_capacity(envelopes.len()),
            keys: Vec::with_capacity(envelopes.len()),
            headers: Vec::with_capacity(envelopes.len()),
            payloads: Vec::with_capacity(envelopes.len()),
        };
        for envelope in envelopes {
            let mut headers = Vec::with_capacity(256);
            for_each_header(envelope, Style::Underscore, |name, value| {
                headers.extend_from_slice(&(name.len() as u16).to_be_bytes());
                headers.extend_from_slice(name.as_bytes());
                headers.extend_from_slice(&(value.len() as u32).to_be_bytes());
                headers.extend_from_slice(value);
            });
            let key = envelope.key().map_or(&[][..], |key| key);
            let hash = <sha2::Sha256 as sha2::Digest>::digest(key);
            let hash = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
            columns.topics.push(topic);
            columns.parts.push((hash % PARTITIONS) as i16);
            columns
                .events
                .push(envelope.id().identity(envelope.source()));
            columns.keys.push(key.to_vec());
            columns.headers.push(headers);
            columns.payloads.extend(envelope.payload().cloned());
        }
        columns
    }

    async fn insert(&self, client: &Client, statement: &tokio_postgres::Statement) -> Result<()> {
        let payloads: Vec<&[u8]> = self.payloads.iter().map(|bytes| &**bytes).collect();
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &self.topics,
            &self.parts,
            &self.events,
            &self.keys,
            &self.headers,
            &payloads,
        ];
        let rows = client.query(statement, &parameters).await?;
        let stored = rows
            .iter()
            .filter(|row| row.get::<_, Option<i64>>(1).is_some());
        match stored.count() == self.topics.len() {
            true => Ok(()),
            false => Err("not every event was stored".into()),
        }
    }
}

/// The ids of what was stored, and its places in the batch.
const RAW_PUBLISH: &str = "with u as materialized (
    select * from unnest($1::int4[], $2::int2[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[])
        with ordinality u (topic, part, event, key, headers, payload, o)
), n as (
    insert into interline.copies_new (topic, event)
    select u.topic, u.event from u where not exists (
        select from interline.copies_old c where c.topic = u.topic and c.event = u.event)
    order by u.topic, u.event on conflict do nothing returning topic, event
), f as materialized (
    select u.* from u join n on n.topic = u.topic and n.event = u.event
), i as (
    insert into interline.log (topic, part, key, headers, payload)
    select f.topic, f.part, f.key, f.headers, f.payload from f order by f.o returning id
)
select (select array_agg(i.id order by i.id) from i), (select array_agg(f.o order by f.o) from f)";

const RAW_READ: &str = "select c.o, l.*
    from unnest($1::int4[], $2::int2[], $3::int8[]) with ordinality c (t, p, f, o)
    cross join lateral (
        select x.id, x.created_at, x.key, x.headers, x.payload from interline.log x
        where x.topic = c.t and x.part = c.p and x.id > c.f order by x.id limit $4) l";

/// As much as a checkpoint writes, in rows that belong to nobody.
const RAW_COMMIT: &str = "insert into interline.owners (grp, topic, part, frontier)
    select 'rate', 0, p, f from unnest($1::int2[], $2::int8[]) c (p, f) order by p
    on conflict (grp, topic, part) do update set frontier = excluded.frontier, touched = now()";
