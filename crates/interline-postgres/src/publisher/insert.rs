//! The statement that stores a batch.

use interline_core::Outcome;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement, Transaction};

use super::call::Row;
use super::columns::{Batch, Column, columns};
use crate::link::Link;

/// One batch. What a topic has already, by event, is left out; a topic that is gone takes nothing.
/// Identities are stored in one order, so that no two batches wait for each other.
const INSERT: &str = "with u as materialized (
    select u.* from unnest($1::int4[], $2::int2[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[])
        with ordinality u (topic, part, event, key, headers, payload, o) {if}
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
select r.*{then} from (select
    (select array_agg(i.id order by i.id) from i) as ids,
    (select array_agg(f.o order by f.o) from f) as stored,
    (select array_agg(u.o) from u where not exists (select from k where k.o = u.o)) as absent,
    (select count(*) from u) as ran
    offset 0) r";

/// Statements on one connection run one after the other but are committed one by one: by these two
/// none runs unless the one before it did, so that nothing that has to be sent again is overtaken.
const IF: &str = "where current_setting('interline.batch') = $7::text";
const THEN: &str = ", case when r.ran > 0 then set_config('interline.batch', $8::text, false) end";

/// What became of a batch.
pub(super) struct Answer {
    /// The ids of what was stored and its places in the batch from 1, both ascending.
    pub(super) ids: Vec<i64>,
    pub(super) stored: Vec<i64>,
    /// The places of events whose topic is gone.
    pub(super) absent: Vec<i64>,
    /// Whether it ran at all.
    pub(super) ran: bool,
}

impl Answer {
    /// What became of the event at `place`, if its topic is there.
    pub(super) fn outcome(&self, link: &Link, row: &Row, place: i64) -> Outcome {
        match self.stored.binary_search(&place) {
            Ok(at) => Outcome::Stored {
                partition: row.part.unsigned_abs().into(),
                position: link.places.position(self.ids.get(at).copied().unwrap_or(0)),
                durability: link.capabilities.durability,
            },
            Err(_) => Outcome::Duplicate { position: None },
        }
    }
}

/// The statement of batches that follow each other on one connection.
pub(super) fn in_line_sql() -> String {
    INSERT.replace("{if}", IF).replace("{then}", THEN)
}

/// Stores a batch if the one with the number `before` is the last that was stored there.
pub(super) async fn in_line(
    client: &Client,
    insert: &Statement,
    batch: &Batch,
    before: u64,
) -> Result<Answer, tokio_postgres::Error> {
    let columns = columns(batch);
    let (before, number) = (before.to_string(), (before + 1).to_string());
    let [topic, part, event, key, headers, payload] = &columns;
    let parameters: [&(dyn ToSql + Sync); 8] =
        [topic, part, event, key, headers, payload, &before, &number];
    answer(&client.query_one(insert, &parameters).await?)
}

/// The statement of a batch in a transaction of its own.
pub(super) fn alone_sql() -> String {
    INSERT.replace("{if}", "").replace("{then}", "")
}

/// Stores a batch in a transaction of somebody else.
pub(super) async fn within(
    transaction: &Transaction<'_>,
    sql: &str,
    batch: &Batch,
) -> Result<Answer, tokio_postgres::Error> {
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
    match rows.first() {
        Some(row) => answer(row),
        None => Ok(Answer {
            ids: Vec::new(),
            stored: Vec::new(),
            absent: Vec::new(),
            ran: false,
        }),
    }
}

fn answer(row: &tokio_postgres::Row) -> Result<Answer, tokio_postgres::Error> {
    let list = |at: usize| row.try_get::<_, Option<Vec<i64>>>(at);
    Ok(Answer {
        ids: list(0)?.unwrap_or_default(),
        stored: list(1)?.unwrap_or_default(),
        absent: list(2)?.unwrap_or_default(),
        ran: row.try_get::<_, i64>(3)? > 0,
    })
}
