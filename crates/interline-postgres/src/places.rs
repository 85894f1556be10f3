//! Positions: an id of the log, and the incarnation of the database that gave it.

use std::sync::{PoisonError, RwLock};

use interline_core::{ErrorKind, Partition, Position, Progress, Result, Start};
use interline_transport::checkpoint;
use tokio_postgres::{Client, Row};

use crate::error::{error, postgres};
use crate::schema::Schema;
use crate::topics::Facts;

/// Which incarnation gave which ids: a promoted standby or a restored copy may give an id again
/// that was given before, to another event.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Ascending: from which id on (exclusive), and the incarnation's number.
    incarnations: RwLock<Vec<(i64, u64)>>,
}

impl Places {
    /// Learns the incarnations, and notes a new one if the server is another than before. The
    /// restored tables of a database are refused while its sequence stands below them.
    pub(crate) async fn learn(&self, schema: &Schema, client: &Client) -> Result<()> {
        let failed = |error| postgres("connect", error);
        let row = client
            .query_one(&schema.sql(BEHIND), &[])
            .await
            .map_err(failed)?;
        if row.get(1) {
            let last: i64 = row.get(0);
            return Err(error(
                ErrorKind::Config,
                "connect",
                format!(
                    "events are stored above {last}, where the sequence of {schema} stands: they \
                     were restored without it, and new ones would be put below them"
                ),
                schema.sql(
                    "run `select setval('{s}.log_id', (select max(id) from {s}.log))` before \
                     anybody publishes",
                ),
            ));
        }
        let sql = schema.sql("select after_id, number from {s}.incarnation()");
        let rows = client.query(&sql, &[]).await.map_err(failed)?;
        let known = rows
            .iter()
            .map(|row| (row.get(0), row.get::<_, i32>(1).unsigned_abs().into()))
            .collect();
        *self
            .incarnations
            .write()
            .unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// The position of the event with this id.
    pub(crate) fn position(&self, id: i64) -> Position {
        let known = self
            .incarnations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().rev().find(|(after, _)| *after < id);
        let number = found.or(known.first()).map_or(0, |(_, number)| *number);
        Position(number, id.unsigned_abs())
    }

    /// The id at `position`, unless it was given by another incarnation than the one that the
    /// position names.
    pub(crate) fn id(&self, position: Position) -> Option<i64> {
        let id = i64::try_from(position.1).ok()?;
        (self.position(id) == position).then_some(id)
    }
}

/// The last id given, and whether any event has a higher one. The lookups go by the primary key:
/// there is no index on the id alone.
const BEHIND: &str = "select l.last, exists (
    select from {s}.topics t, generate_series(0, t.parts - 1) p, lateral (
        select from {s}.log x where x.topic = t.id and x.part = p and x.id > l.last limit 1) y)
    from (select {s}.last_id() as last offset 0) l";

/// Per partition: the last id that is beyond retention, and the id before the first event that is
/// kept and was stored at a time or later, if there is one.
const BOUNDS: &str = "select c.p, coalesce(r.id, 0), case when $2::float8 is not null then (
        select min(x.id) - 1 from {s}.log x where x.topic = $1 and x.part = c.p
            and x.id > coalesce(r.id, 0) and x.created_at >= to_timestamp($2::float8)) end
    from generate_series(0, $3::int4 - 1) c (p)
    left join {s}.retained r on r.topic = $1 and r.part = c.p";

/// The last id that was given; everything stored from now on has a higher one.
pub(crate) const LAST: &str = "select {s}.last_id()";

/// What is known of the ends of a topic.
pub(crate) struct Bounds {
    /// The last id that was given.
    pub(crate) last: i64,
    parts: Vec<Bound>,
}

struct Bound {
    dropped: i64,
    at_time: Option<i64>,
}

impl Bounds {
    /// Looks at a topic, and for the time of `start` if it is one.
    pub(crate) async fn look(
        operation: &'static str,
        schema: &Schema,
        client: &Client,
        facts: Facts,
        start: &Start,
    ) -> Result<Self> {
        let failed = |error| postgres(operation, error);
        let last = client.query_one(&schema.sql(LAST), &[]).await;
        let time = match start {
            Start::Time(time) => Some(time.unix_millis() as f64 / 1_000.0),
            _ => None,
        };
        let parts = facts.partitions.cast_signed();
        let rows = client
            .query(&schema.sql(BOUNDS), &[&facts.id, &time, &parts])
            .await
            .map_err(failed)?;
        let bound = |row: &Row| Bound {
            dropped: row.get(1),
            at_time: row.get(2),
        };
        let mut parts: Vec<(i32, Bound)> = rows.iter().map(|r| (r.get(0), bound(r))).collect();
        parts.sort_by_key(|(index, _)| *index);
        Ok(Self {
            last: last.map_err(failed)?.get(0),
            parts: parts.into_iter().map(|(_, bound)| bound).collect(),
        })
    }

    /// The id after which a reading of `partition` begins.
    pub(crate) fn after(
        &self,
        operation: &'static str,
        places: &Places,
        partition: &Partition,
        start: &Start,
    ) -> Result<i64> {
        let bound = self.parts.get(partition.index as usize);
        match start {
            Start::Earliest => Ok(0),
            Start::Latest => Ok(self.last),
            Start::Time(_) => Ok(bound.and_then(|b| b.at_time).unwrap_or(self.last)),
            Start::At(named) => match named.iter().find(|(named, _)| named == partition) {
                Some((_, position)) => self.at(operation, places, partition, *position),
                None => Ok(0),
            },
        }
    }

    /// The id of a position after which everything is still there.
    pub(crate) fn at(
        &self,
        operation: &'static str,
        places: &Places,
        partition: &Partition,
        position: Position,
    ) -> Result<i64> {
        let dropped = self
            .parts
            .get(partition.index as usize)
            .map_or(0, |bound| bound.dropped);
        let lost = |to| Err(position_lost(operation, partition, position, to));
        match places.id(position) {
            Some(id) if id > self.last => lost(places.position(self.last)),
            Some(id) if id < dropped => lost(places.position(dropped)),
            Some(id) => Ok(id),
            None => lost(places.position(self.last)),
        }
    }
}

/// The longest text of a progress: whatever the capabilities allow fits.
pub(crate) const MAX_PROGRESS: usize = 1 << 20;

/// The frontier and the progress of a group that begins after the id `after`.
pub(crate) fn beginning(places: &Places, after: i64) -> (Option<i64>, String) {
    let after = (after > 0).then_some(after);
    let progress = Progress {
        frontier: after.map(|id| places.position(id)),
        ..Progress::default()
    };
    (after, checkpoint::encode(&progress, MAX_PROGRESS))
}

/// `from` is where the reading stands, `to` the nearest place that it could go on from.
pub(crate) fn position_lost(
    operation: &'static str,
    partition: &Partition,
    from: Position,
    to: Position,
) -> interline_core::Error {
    error(
        ErrorKind::PositionLost,
        operation,
        format!("position {from} of {partition} is not kept, the nearest is {to}"),
        "reset the group to a place that is kept, or keep events for longer",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_names_the_incarnation_that_gave_its_id() {
        let places = Places::default();
        *places.incarnations.write().unwrap() = vec![(0, 1), (490, 2)];
        assert_eq!(places.position(490), Position(1, 490));
        assert_eq!(places.position(491), Position(2, 491));
        assert_eq!(places.id(Position(1, 490)), Some(490));
        // Given before the change and lost in it: another event may have it now.
        assert_eq!(places.id(Position(1, 532)), None);
        assert_eq!(places.id(Position(2, u64::MAX)), None);
        assert!(places.position(490) < places.position(491));
    }
}
