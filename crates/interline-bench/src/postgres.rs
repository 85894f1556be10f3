//! PostgreSQL: tokio-postgres as somebody who knows it well writes it, on the tables of ours. Two
//! statements are on their way at a time; one statement reads all partitions up to where every
//! transaction has ended, and checkpoints go over a connection of their own.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use interline_core::{Group, Topic};
use interline_transport::wire::Style;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Row, Statement};
use uuid::Uuid;

use crate::Result;
use crate::broker::{Broker, Events, Goals, Job};
use crate::measure::{Round, Watch};
use crate::sample::{Sample, new_id, touch};

/// Rows of one statement, and statements on their way.
const ROWS: usize = 500;
const OVERLAP: usize = 2;

/// Rows of one partition that one statement brings.
const LIMIT: i64 = 400;

/// How often the end of what may be read is looked for, and checkpoints are stored.
const LOOK: Duration = Duration::from_millis(50);
const EVERY: Duration = Duration::from_millis(100);

const INSERT: &str = "with u as materialized (
    select * from unnest($2::int2[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[])
        with ordinality u (part, event, key, headers, payload, o)
), n as (
    insert into interline.copies_new (topic, event)
    select $1, u.event from u
    where not exists (
        select from interline.copies_old c where c.topic = $1 and c.event = u.event)
    order by u.event on conflict do nothing returning event
), i as (
    insert into interline.log (topic, part, key, headers, payload)
    select $1, u.part, u.key, u.headers, u.payload from u join n using (event) order by u.o
    returning id
) select array_agg(id order by id) from i";

const BARE: &str = "with i as (
    insert into interline.log (topic, part, key, headers, payload)
    select $1, u.* from unnest($2::int2[], $3::bytea[], $4::bytea[], $5::bytea[]) u
    returning id
) select array_agg(id order by id) from i";

const READ: &str = "select c.o, l.* from unnest($2::int2[], $3::int8[])
    with ordinality c (part, after, o) cross join lateral (
        select x.id, x.created_at, x.key, x.headers, x.payload from interline.log x
        where x.topic = $1 and x.part = c.part and x.id > c.after and x.id <= $4
        order by x.id limit $5) l";

/// The last id that was given, a transaction behind it, and before which all have ended.
const HORIZON: &str = "select l.last, pg_current_xact_id()::text::int8,
    pg_snapshot_xmin(pg_current_snapshot())::text::int8
    from (select interline.last_id() as last offset 0) l";

const TABLE: &str = "create schema if not exists interline_bench;
    create table if not exists interline_bench.checkpoints (
        grp text, part smallint, fence int8, position int8, primary key (grp, part)
    ) with (fillfactor = 50)";

const TAKE: &str = "insert into interline_bench.checkpoints
    select $1, p, 1, 0 from generate_series(0, $2::int - 1) p";

const COMMIT: &str = "update interline_bench.checkpoints c set position = n.position
    from unnest($2::int2[], $3::int8[]) n (part, position)
    where c.grp = $1 and c.part = n.part and c.fence = 1";

pub(crate) struct Postgres;

impl Broker for Postgres {
    const NAME: &'static str = interline_postgres::SCHEME;
    const STYLE: Style = Style::Underscore;
    const PARTITIONS: u32 = 12;
    const GOALS: Goals = Goals {
        publish_us: 0.4,
        consume_us: 0.4,
    };
    const EVENTS: Events = Events {
        published: [60_000, 40_000],
        consumed: [200_000, 100_000],
        awaited: 1_500,
    };

    async fn publish(job: Job<'_>, is_bare: bool) -> Result<Round> {
        let line = Line::open(connect(job.url).await?, job.topic, is_bare).await?;
        line.send(job.samples.iter().take(1).collect()).await?;
        let mut on_the_way: VecDeque<Flight<'_>> = VecDeque::new();
        let watch = Watch::on(job.machine);
        let mut source = job.source().peekable();
        while source.peek().is_some() {
            on_the_way.push_back(begun(line.send(source.by_ref().take(ROWS).collect())).await?);
            if on_the_way.len() == OVERLAP
                && let Some(oldest) = on_the_way.pop_front()
            {
                oldest.await?;
            }
        }
        for flight in on_the_way {
            flight.await?;
        }
        Ok(watch.stop(job.events))
    }

    async fn awaited(job: Job<'_>) -> Result<Round> {
        let line = Line::open(connect(job.url).await?, job.topic, false).await?;
        job.one_by_one(async |sample| line.send(vec![sample]).await)
            .await
    }

    async fn consume(job: Job<'_>, group: &Group) -> Result<Round> {
        let client = connect(job.url).await?;
        let mut keeper = Keeper::open(connect(job.url).await?, group).await?;
        let mut reading = Reading::open(client, job.topic).await?;
        let mut count = job.count();
        let mut next = reading.ask(keeper.horizon);
        while !count.is_over() {
            let rows = next.await??;
            reading.take(&rows)?;
            // The next statement runs while the rows of this one are handled.
            keeper.work(&reading.last).await?;
            next = reading.ask(keeper.horizon);
            for row in &rows {
                look_at(row)?;
                count.one();
            }
            if rows.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        keeper.end(&reading.last).await?;
        let round = count.round()?;
        next.await??;
        Ok(round)
    }
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // It ends with its client, and what goes wrong is told to who asks.
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

/// A statement that was sent, and its answer.
type Flight<'f> = Pin<Box<dyn Future<Output = Result<()>> + 'f>>;

/// Sends a statement without waiting for its answer.
async fn begun<'f>(statement: impl Future<Output = Result<()>> + 'f) -> Result<Flight<'f>> {
    let mut flight: Flight<'f> = Box::pin(statement);
    match (&mut flight).now_or_never() {
        Some(done) => done.map(|()| Box::pin(std::future::ready(Ok(()))) as Flight<'f>),
        None => {
            // The connection is another task of the same thread: let it write.
            tokio::task::yield_now().await;
            Ok(flight)
        }
    }
}

async fn topic_id(client: &Client, topic: &Topic) -> Result<i32> {
    let sql = "select id from interline.topics where name = $1";
    let row = client.query_one(sql, &[&topic.as_str()]).await?;
    Ok(row.try_get(0)?)
}

/// A connection that stores batches.
struct Line {
    client: Client,
    insert: Statement,
    topic: i32,
    is_bare: bool,
}

impl Line {
    async fn open(client: Client, topic: &Topic, is_bare: bool) -> Result<Self> {
        let insert = if is_bare { BARE } else { INSERT };
        Ok(Self {
            insert: client.prepare(insert).await?,
            topic: topic_id(&client, topic).await?,
            client,
            is_bare,
        })
    }

    async fn send(&self, batch: Vec<&Sample>) -> Result<()> {
        let (mut parts, mut events) = (Vec::with_capacity(ROWS), Vec::with_capacity(ROWS));
        let (mut keys, mut payloads) = (Vec::with_capacity(ROWS), Vec::with_capacity(ROWS));
        let (mut packed, mut ends) = (Vec::with_capacity(256 * ROWS), Vec::with_capacity(ROWS));
        for sample in batch {
            let event = new_id();
            parts.push(partition(&sample.key));
            events.push(event);
            keys.push(&*sample.key);
            payloads.push(&*sample.payload);
            if !self.is_bare {
                pack(sample, event, &mut packed);
            }
            ends.push(packed.len());
        }
        let mut from = 0;
        let slice = |end| &packed[std::mem::replace(&mut from, end)..end];
        let headers: Vec<&[u8]> = ends.into_iter().map(slice).collect();
        let (client, insert, topic) = (&self.client, &self.insert, &self.topic);
        let answer = match self.is_bare {
            true => {
                client
                    .query_one(insert, &[topic, &parts, &keys, &headers, &payloads])
                    .await?
            }
            false => {
                let columns: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                    [topic, &parts, &events, &keys, &headers, &payloads];
                client.query_one(insert, &columns).await?
            }
        };
        let ids: Option<Vec<i64>> = answer.try_get(0)?;
        match ids {
            Some(ids) if ids.len() == parts.len() => Ok(()),
            _ => Err("not every event was stored".into()),
        }
    }
}

/// The partition of a key, as every user of the schema computes it.
fn partition(key: &[u8]) -> i16 {
    let hash = Sha256::digest(key);
    let first = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    (first % Postgres::PARTITIONS) as i16
}

/// The headers as our transport stores them.
fn pack(sample: &Sample, event: Uuid, packed: &mut Vec<u8>) {
    let mut id = [0; 36];
    for (name, value) in sample.headers_with(event.hyphenated().encode_lower(&mut id)) {
        packed.extend_from_slice(&(name.len() as u16).to_be_bytes());
        packed.extend_from_slice(name.as_bytes());
        packed.extend_from_slice(&(value.len() as u32).to_be_bytes());
        packed.extend_from_slice(value);
    }
}

/// A reading of all partitions of a topic.
struct Reading {
    client: Arc<Client>,
    read: Statement,
    topic: i32,
    /// The last id of each partition.
    last: Vec<i64>,
}

type Rows = JoinHandle<Result<Vec<Row>, tokio_postgres::Error>>;

impl Reading {
    async fn open(client: Client, topic: &Topic) -> Result<Self> {
        Ok(Self {
            read: client.prepare(READ).await?,
            topic: topic_id(&client, topic).await?,
            client: Arc::new(client),
            last: vec![0; Postgres::PARTITIONS as usize],
        })
    }

    fn ask(&self, horizon: i64) -> Rows {
        let (client, read, topic) = (Arc::clone(&self.client), self.read.clone(), self.topic);
        let last = self.last.clone();
        tokio::spawn(async move {
            let parts: Vec<i16> = numbers();
            client
                .query(&read, &[&topic, &parts, &last, &horizon, &LIMIT])
                .await
        })
    }

    /// From now on it goes on behind these rows.
    fn take(&mut self, rows: &[Row]) -> Result<()> {
        for row in rows {
            let at: i64 = row.try_get(0)?;
            self.last[at.unsigned_abs() as usize - 1] = row.try_get(1)?;
        }
        Ok(())
    }
}

fn numbers() -> Vec<i16> {
    (0..Postgres::PARTITIONS as i16).collect()
}

/// Looks at everything that a user would look at.
fn look_at(row: &Row) -> Result<()> {
    std::hint::black_box(row.try_get::<_, SystemTime>(2)?);
    touch(row.try_get::<_, Option<&[u8]>>(3)?.unwrap_or_default());
    let mut headers: &[u8] = row.try_get(4)?;
    while let Some((size, rest)) = headers.split_first_chunk::<2>() {
        let (name, rest) = rest.split_at(u16::from_be_bytes(*size).into());
        let (size, rest) = rest.split_first_chunk::<4>().ok_or("half a header")?;
        let (value, rest) = rest.split_at(u32::from_be_bytes(*size) as usize);
        touch(name);
        touch(value);
        headers = rest;
    }
    touch(row.try_get::<_, Option<&[u8]>>(5)?.unwrap_or_default());
    Ok(())
}

/// The connection for what is done beside reading.
struct Keeper {
    client: Arc<Client>,
    look: Statement,
    commit: Statement,
    group: String,
    /// Every transaction with an id up to this has ended.
    horizon: i64,
    /// Ids with a transaction behind them.
    undecided: VecDeque<(i64, i64)>,
    looked: Instant,
    stored: Instant,
    on_the_way: Option<JoinHandle<Result<u64, tokio_postgres::Error>>>,
}

impl Keeper {
    async fn open(client: Client, group: &Group) -> Result<Self> {
        client.batch_execute(TABLE).await?;
        let partitions = Postgres::PARTITIONS as i32;
        let (look, commit) = (
            client.prepare(HORIZON).await?,
            client.prepare(COMMIT).await?,
        );
        client
            .execute(TAKE, &[&group.as_str(), &partitions])
            .await?;
        let mut keeper = Self {
            client: Arc::new(client),
            look,
            commit,
            group: group.to_string(),
            horizon: 0,
            undecided: VecDeque::new(),
            looked: Instant::now(),
            stored: Instant::now(),
            on_the_way: None,
        };
        while keeper.horizon == 0 {
            keeper.look().await?;
        }
        Ok(keeper)
    }

    async fn look(&mut self) -> Result<()> {
        self.looked = Instant::now();
        let row = self.client.query_one(&self.look, &[]).await?;
        let (last, taken, ended): (i64, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        while let Some((id, _)) = self.undecided.pop_front_if(|(_, taken)| *taken < ended) {
            self.horizon = id;
        }
        self.undecided.push_back((last, taken));
        Ok(())
    }

    /// Looks and stores if it is time to.
    async fn work(&mut self, last: &[i64]) -> Result<()> {
        if self.looked.elapsed() > LOOK {
            self.look().await?;
        }
        if self.stored.elapsed() > EVERY {
            self.store(last).await?;
        }
        Ok(())
    }

    async fn store(&mut self, last: &[i64]) -> Result<()> {
        self.stored = Instant::now();
        self.landed().await?;
        let (client, commit) = (Arc::clone(&self.client), self.commit.clone());
        let (group, last) = (self.group.clone(), last.to_vec());
        self.on_the_way = Some(tokio::spawn(async move {
            let parts = numbers();
            client.execute(&commit, &[&group, &parts, &last]).await
        }));
        Ok(())
    }

    async fn landed(&mut self) -> Result<()> {
        if let Some(last) = self.on_the_way.take() {
            last.await??;
        }
        Ok(())
    }

    async fn end(mut self, last: &[i64]) -> Result<()> {
        self.store(last).await?;
        self.landed().await?;
        let sql = "drop schema interline_bench cascade";
        Ok(self.client.batch_execute(sql).await?)
    }
}
