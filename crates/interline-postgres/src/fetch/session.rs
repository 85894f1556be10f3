//! What a reading asks the server.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use interline_core::{BoxFuture, Partition, Position, Result, planted};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{RowStream, Statement};

use super::part::Part;
use crate::error::{late, missing_topic, postgres};
use crate::link::Link;
use crate::places::position_lost;
use crate::session::{Purpose, Session};
use crate::topics::Facts;

/// The rows of many partitions, each after its cursor. First come partitions that retention has
/// passed, with their number below zero; in the same snapshot as the rows. A reading that has begun
/// at the earliest and had nothing yet begins behind what is gone by now.
const READ: &str = "with c as materialized (
    select c.*, r.id gone from unnest($1::int4[], $2::int2[], $3::int8[], $4::int8[])
        with ordinality c (t, p, f, h, o)
    left join {s}.retained r on r.topic = c.t and r.part = c.p
)
select -c.o, c.gone, null::timestamptz, null::bytea, null::bytea, null::bytea
    from c where c.f > 0 and c.f < c.gone
union all
select c.o, l.* from c cross join lateral (
    select x.id, x.created_at, x.key, x.headers, x.payload from {s}.log x
    where x.topic = c.t and x.part = c.p and x.id > greatest(c.f, c.gone) and x.id <= c.h
    order by x.id limit $5) l";

/// The readings whose last event is not there any more, and was not dropped by retention. A
/// server that crashed may have lost what was not written to disk, and give its id again.
const GONE: &str = "select c.o
    from unnest($1::int4[], $2::int2[], $3::int8[], $4::timestamptz[])
        with ordinality c (t, p, id, at, o)
    where not exists (
        select from {s}.log x
        where x.topic = c.t and x.part = c.p and x.id = c.id and x.created_at = c.at)
    and not exists (
        select from {s}.retained r where r.topic = c.t and r.part = c.p and r.id >= c.id)";

/// Gives up leases, so that their partitions are taken again from the stored checkpoint.
const FREE: &str = "update {s}.owners o set member = null, free_since = clock_timestamp()
    from unnest($2::int4[], $3::int2[], $4::int8[]) g (t, p, fence)
    where o.grp = $1 and o.topic = g.t and o.part = g.p and o.fence = g.fence";

/// The last ids and what retention has dropped, for partitions that are opened.
const BOUNDS: &str = "select c.o, coalesce(r.id, 0),
    (select {s}.last_id())
    from unnest($1::int4[], $2::int2[]) with ordinality c (t, p, o)
    left join {s}.retained r on r.topic = c.t and r.part = c.p";

/// A connection that reads.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) session: Arc<Session>,
    read: Statement,
}

/// Where a reading stood, for the server to look whether that is still there.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) serial: u64,
    topic: i32,
    part: i16,
    fence: i64,
    cursor: i64,
    stored: Micros,
}

/// A connection, and which readings' last events the server has lost.
pub(super) type Connected = (Line, Vec<Found>);

/// Where a reading begins: serial, topic and cursor.
pub(super) type Placed = (u64, Facts, i64);

/// Where the readings stand that have handed something out.
pub(super) fn places(parts: &[Part]) -> Vec<Found> {
    let found = parts.iter().filter_map(|part| {
        let place = part.place?;
        Some(Found {
            serial: part.serial,
            topic: place.facts.id,
            part: part.partition.index as i16,
            fence: part.fence.cast_signed(),
            cursor: place.cursor,
            stored: Micros(place.stored?),
        })
    });
    found.collect()
}

/// Connects. Gives back those of `places` that the server has lost, with their leases given up.
pub(super) async fn connect(
    link: Arc<Link>,
    places: Vec<Found>,
    group: Option<Arc<str>>,
) -> Result<Connected> {
    let failed = |error| postgres("read", error);
    let session = link.resolved.session("read", Purpose::Read, None).await?;
    let schema = &link.resolved.schema;
    let asking = async {
        let read = session.client.prepare(&schema.sql(READ)).await;
        let read = read.map_err(failed)?;
        let column = |value: fn(&Found) -> i64| places.iter().map(value).collect::<Vec<_>>();
        let topics: Vec<i32> = places.iter().map(|place| place.topic).collect();
        let parts: Vec<i16> = places.iter().map(|place| place.part).collect();
        let stored: Vec<Micros> = places.iter().map(|place| place.stored).collect();
        let cursors = column(|place| place.cursor);
        let gone = session
            .client
            .query(&schema.sql(GONE), &[&topics, &parts, &cursors, &stored])
            .await
            .map_err(failed)?;
        let at = |row: &tokio_postgres::Row| (row.get::<_, i64>(0) - 1).unsigned_abs() as usize;
        let gone = gone
            .iter()
            .filter(|_| !planted::is("cursor-kept-after-crash"));
        let gone: Vec<Found> = gone.map(|row| places[at(row)].clone()).collect();
        if let Some(group) = group.filter(|_| !gone.is_empty()) {
            let topics: Vec<i32> = gone.iter().map(|place| place.topic).collect();
            let parts: Vec<i16> = gone.iter().map(|place| place.part).collect();
            let fences: Vec<i64> = gone.iter().map(|place| place.fence).collect();
            session
                .client
                .execute(&schema.sql(FREE), &[&&*group, &topics, &parts, &fences])
                .await
                .map_err(failed)?;
        }
        Ok::<_, interline_core::Error>((read, gone))
    };
    let (read, gone) = tokio::time::timeout(link.timeout(), asking)
        .await
        .map_err(|_| late("read"))??;
    let session = Arc::new(session);
    Ok((Line { session, read }, gone))
}

/// A partition whose place is not known yet.
#[derive(Debug)]
pub(super) struct Fresh {
    serial: u64,
    partition: Partition,
    after: Option<Position>,
}

impl Fresh {
    pub(super) fn new(part: &Part) -> Self {
        Self {
            serial: part.serial,
            partition: part.partition.clone(),
            after: part.after,
        }
    }
}

/// Where readings begin.
pub(super) async fn resolve(
    link: Arc<Link>,
    session: Arc<Session>,
    fresh: Vec<Fresh>,
) -> Result<Vec<Placed>> {
    let asking = async {
        let mut known = Vec::new();
        for part in &fresh {
            let topic = &part.partition.topic;
            let facts = match link.topics.known(topic) {
                Some(facts) => Some(facts),
                None => {
                    let (resolved, client) = (&link.resolved, &session.client);
                    let listed = link.topics.refresh("read", resolved, client).await?;
                    listed.get(topic).copied()
                }
            };
            known.push(facts.ok_or_else(|| missing_topic("read", topic))?);
        }
        let topics: Vec<i32> = known.iter().map(|facts| facts.id).collect();
        let index = |part: &Fresh| part.partition.index as i16;
        let indexes: Vec<i16> = fresh.iter().map(index).collect();
        let sql = link.resolved.schema.sql(BOUNDS);
        let bounds = session.client.query(&sql, &[&topics, &indexes]).await;
        let mut placed = Vec::with_capacity(fresh.len());
        for row in &bounds.map_err(|error| postgres("read", error))? {
            let at = (row.get::<_, i64>(0) - 1).unsigned_abs() as usize;
            let cursor = cursor(&link, &fresh[at], row.get(1), row.get(2))?;
            placed.push((fresh[at].serial, known[at], cursor));
        }
        Ok(placed)
    };
    tokio::time::timeout(link.timeout(), asking)
        .await
        .map_err(|_| late("read"))?
}

/// The id after which a reading begins, if everything behind it is still there.
fn cursor(link: &Link, part: &Fresh, dropped: i64, last: i64) -> Result<i64> {
    let Some(after) = part.after else {
        return Ok(dropped);
    };
    // What a reading begins with when nothing was stored yet.
    if after.1 == 0 {
        return Ok(dropped);
    }
    let places = &link.places;
    let lost = |to: Position| Err(position_lost("read", &part.partition, after, to));
    match places.id(after) {
        Some(id) if id < dropped => lost(places.position(dropped)),
        Some(id) if id <= last => Ok(id + i64::from(planted::is("cursor-one-too-far"))),
        _ => lost(places.position(last)),
    }
}

impl Line {
    /// Reads what of `parts` is not above `horizon`, at most `limit` rows of each.
    pub(super) fn read(
        &self,
        parts: &[&Part],
        horizon: i64,
        limit: usize,
    ) -> BoxFuture<'static, Result<RowStream, tokio_postgres::Error>> {
        let (mut topics, mut indexes) = (Vec::new(), Vec::new());
        let (mut cursors, mut targets) = (Vec::new(), Vec::new());
        for part in parts {
            let Some(place) = &part.place else { continue };
            topics.push(place.facts.id);
            indexes.push(part.partition.index as i16);
            cursors.push(place.cursor);
            targets.push(part.target(horizon));
        }
        let client = Arc::clone(&self.session.client);
        let (read, limit) = (self.read.clone(), limit as i64);
        Box::pin(async move {
            let parameters: [&(dyn ToSql + Sync); 5] =
                [&topics, &indexes, &cursors, &targets, &limit];
            client.query_raw(&read, parameters).await
        })
    }
}

/// Microseconds since 1970 by the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Micros(pub(crate) i64);

/// PostgreSQL counts from 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;

impl FromSql<'_> for Micros {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(micros.saturating_add(EPOCH)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

impl ToSql for Micros {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_i64(self.0.saturating_sub(EPOCH));
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}
