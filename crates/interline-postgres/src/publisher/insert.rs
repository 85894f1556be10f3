//! The statement that stores a batch.

use interline_core::Outcome;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement, Transaction};

use super::call::Row;
use super::columns::{Batch, Column, columns};
use crate::link::Link;
use crate::schema::Schema;

/// A batch of which nothing is stored yet and whose topics are all there, as almost every one. It is
/// stored as a whole or not at all: a copy among those of late fails it by their primary key, which
/// is much cheaper than to make room for one. Identities are stored in one order, so that no two
/// batches wait for each other.
const FRESH: &str = "with g as materialized (
    select t.turn, t.turn and not exists (
        select from unnest($1::int4[], $3::uuid[]) u (topic, event)
        join {s}.copies_old c on c.topic = u.topic and c.event = u.event
    ) and not exists (
        select from (select distinct u.topic from unnest($1::int4[]) u (topic)) d
        where not exists (select from {s}.topics t where t.id = d.topic)
    ) as stores
    from (select {turn} as turn) t
), n as (
    insert into {s}.copies_new (topic, event)
    select u.topic, u.event from unnest($1::int4[], $3::uuid[]) u (topic, event)
    where (select g.stores from g) order by u.topic, u.event
), i as (
    insert into {s}.log (topic, part, key, headers, payload)
    select u.topic, u.part, u.key, u.headers, u.payload
    from unnest($1::int4[], $2::int2[], $4::bytea[], $5::bytea[], $6::bytea[])
        with ordinality u (topic, part, key, headers, payload, o)
    where (select g.stores from g) order by u.o
    returning id
)
select r.ids, r.stored, r.absent, r.turn, case when r.stores then {done} end from (select
    (select array_agg(i.id order by i.id) from i) as ids,
    null::int8[] as stored, null::int8[] as absent,
    (select g.turn from g) as turn,
    (select g.stores from g) as stores
    offset 0) r";

/// Any batch. What a topic has already, by event, is left out; a topic that is gone takes nothing.
const CAREFUL: &str = "with u as materialized (
    select u.* from unnest($1::int4[], $2::int2[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[])
        with ordinality u (topic, part, event, key, headers, payload, o) where {turn}
), k as (
    select u.topic, u.event, u.o from u
    where exists (select from {s}.topics t where t.id = u.topic)
), n as (
    insert into {s}.copies_new (topic, event)
    select k.topic, k.event from k
    where not exists (
        select from {s}.copies_old c where c.topic = k.topic and c.event = k.event)
    order by k.topic, k.event
    on conflict do nothing
    returning topic, event
), f as materialized (
    select u.* from u join n on n.topic = u.topic and n.event = u.event
), i as (
    insert into {s}.log (topic, part, key, headers, payload)
    select f.topic, f.part, f.key, f.headers, f.payload from f order by f.o
    returning id
)
select r.ids, r.stored, r.absent, r.turn, case when r.turn then {done} end from (select
    (select array_agg(i.id order by i.id) from i) as ids,
    (select coalesce(array_agg(f.o order by f.o), '{}') from f) as stored,
    (select array_agg(u.o) from u where not exists (select from k where k.o = u.o)) as absent,
    (select count(*) > 0 from u) as turn
    offset 0) r";

/// Statements on one connection run one after the other but are committed one by one: by these two
/// none runs unless the one before it did, so that nothing that has to be sent again is overtaken.
const TURN: &str = "current_setting('interline.batch') = $7::text";
const DONE: &str = "set_config('interline.batch', $8::text, false)";

/// What became of a batch.
pub(super) enum Answer {
    /// It did not run, since the batch before it was not stored.
    Behind,
    /// Nothing was stored, since it has copies or a topic that is gone: it is to be sent with care.
    Refused,
    Told(Told),
}

/// What became of each event of a batch.
pub(super) struct Told {
    /// The ids of what was stored, ascending.
    pub(super) ids: Vec<i64>,
    /// Its places in the batch from 1, ascending; nothing for all of them.
    stored: Option<Vec<i64>>,
    /// The places of events whose topic is gone.
    pub(super) absent: Vec<i64>,
}

impl Told {
    /// What became of the event at `place`, if its topic is there.
    pub(super) fn outcome(&self, link: &Link, row: &Row, place: i64) -> Outcome {
        let at = match &self.stored {
            Some(stored) => stored.binary_search(&place).ok(),
            None => usize::try_from(place - 1).ok(),
        };
        match at.and_then(|at| self.ids.get(at)) {
            Some(id) => Outcome::Stored {
                partition: row.part.unsigned_abs().into(),
                position: link.places.position(*id),
                durability: link.capabilities.durability,
            },
            None => Outcome::Duplicate { position: None },
        }
    }
}

/// The statements of batches that follow each other on one connection.
#[derive(Clone)]
pub(super) struct Statements {
    fresh: Statement,
    careful: Statement,
}

impl Statements {
    pub(super) async fn prepare(
        schema: &Schema,
        client: &Client,
    ) -> Result<Self, tokio_postgres::Error> {
        let in_line = |sql: &str| schema.sql(&sql.replace("{turn}", TURN).replace("{done}", DONE));
        Ok(Self {
            fresh: client.prepare(&in_line(FRESH)).await?,
            careful: client.prepare(&in_line(CAREFUL)).await?,
        })
    }

    /// Stores a batch if the one with the number `before` is the last that was stored there. With
    /// care, it may have copies; else it is refused as a whole if it has.
    pub(super) async fn run(
        &self,
        client: &Client,
        is_careful: bool,
        batch: &Batch,
        before: u64,
    ) -> Result<Answer, tokio_postgres::Error> {
        let columns = columns(batch);
        let (before, number) = (before.to_string(), (before + 1).to_string());
        let [topic, part, event, key, headers, payload] = &columns;
        let parameters: [&(dyn ToSql + Sync); 8] =
            [topic, part, event, key, headers, payload, &before, &number];
        if is_careful {
            return answer(&client.query_one(&self.careful, &parameters).await?);
        }
        match client.query_one(&self.fresh, &parameters).await {
            Err(cause) if cause.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(Answer::Refused),
            row => answer(&row?),
        }
    }
}

/// The statement of a batch in a transaction of somebody else, which a copy must not fail.
pub(super) fn alone_sql() -> String {
    CAREFUL.replace("{turn}", "true").replace("{done}", "null")
}

/// Stores a batch in a transaction of somebody else; nothing if the server has not answered with
/// the one row of the statement.
pub(super) async fn within(
    transaction: &Transaction<'_>,
    sql: &str,
    batch: &Batch,
) -> Result<Option<Told>, tokio_postgres::Error> {
    let columns = columns(batch);
    let typed = |column: &Column<'_>| column.array();
    let types = columns.each_ref().map(typed);
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> = columns
        .iter()
        .map(|column| column as &(dyn ToSql + Sync))
        .zip(types)
        .collect();
    // Typed, it needs no statement prepared in a session that is not ours.
    let rows = transaction.query_typed(sql, &parameters).await?;
    rows.first().map(told).transpose()
}

fn answer(row: &tokio_postgres::Row) -> Result<Answer, tokio_postgres::Error> {
    if !row.try_get::<_, bool>(3)? {
        return Ok(Answer::Behind);
    }
    let told = told(row)?;
    let is_refused = told.stored.is_none() && told.ids.is_empty();
    Ok(if is_refused {
        Answer::Refused
    } else {
        Answer::Told(told)
    })
}

fn told(row: &tokio_postgres::Row) -> Result<Told, tokio_postgres::Error> {
    let list = |at: usize| row.try_get::<_, Option<Vec<i64>>>(at);
    Ok(Told {
        ids: list(0)?.unwrap_or_default(),
        stored: list(1)?,
        absent: list(2)?.unwrap_or_default(),
    })
}
