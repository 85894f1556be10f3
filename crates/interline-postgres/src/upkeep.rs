//! Keeping house: ranges of the log are begun and dropped, old copies are forgotten.
//!
//! All of it takes the rights of the schema's owner. Whoever has them does it under one lock, so
//! that several processes may try.

use std::sync::{Arc, Weak};
use std::time::Duration;

use interline_core::Result;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{Client, Row};

use crate::error::postgres;
use crate::link::Link;
use crate::schema::Schema;
use crate::session::{Purpose, Session};
use crate::transport::Transport;

/// Between looks for something to do.
const PAUSE: Duration = Duration::from_secs(60);

/// How many ranges the longest retention has. The space of events comes back up to one of them later.
const RANGES: i64 = 8;

/// What was done in one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upkeep {
    /// Whether it was this caller's turn: it owns the schema, and nobody else is at it.
    pub ran: bool,
    /// A range of the log was begun.
    pub began: bool,
    /// How many ranges were dropped.
    pub dropped: usize,
    /// Events are kept beyond retention for this group, which lives and has not settled them.
    pub blocked: Option<String>,
}

/// Starts the task. It ends with the link.
pub(crate) fn start(link: &Arc<Link>) {
    if link.resolved.config.maintain {
        tokio::spawn(run(Arc::downgrade(link)));
    }
}

async fn run(link: Weak<Link>) {
    // Not in the same second in every process that was started together.
    let mut next =
        Instant::now() + PAUSE / 4 + Duration::from_millis(std::process::id().into()) / 8;
    loop {
        let closing = match link.upgrade() {
            Some(link) => link.closing(),
            None => return,
        };
        tokio::select! {
            () = sleep_until(next) => {}
            () = closing => return,
        }
        next = Instant::now() + PAUSE;
        let Some(link) = link.upgrade() else { return };
        match pass(&link).await {
            Ok(done) => {
                if let Some(group) = done.blocked {
                    tracing::warn!(
                        target: "interline::postgres", group,
                        "events beyond retention are kept: the group has not settled them"
                    );
                }
            }
            Err(error) => {
                tracing::debug!(target: "interline::postgres", %error, "keeping house later");
            }
        }
    }
}

/// Keeps house once: begins a range of the log if the present one is old enough, lets go of the
/// events that are beyond the retention of their topic and settled by every group that lives, drops
/// the ranges of which no topic keeps anything, and forgets old copies.
///
/// Connections of the schema's owner do this by themselves once a minute (`maintain`). Where all
/// processes run with lesser rights, a job that has them calls this.
///
/// # Errors
/// When the server cannot be reached.
///
/// # Cancellation
/// A dropped call may leave a range half dropped; the next one ends it.
pub async fn keep_house(transport: &Transport) -> Result<Upkeep> {
    transport.link.check_open("keep house")?;
    pass(&transport.link).await
}

async fn pass(link: &Link) -> Result<Upkeep> {
    let resolved = &link.resolved;
    let session = resolved.session("keep house", Purpose::Watch, None).await?;
    let house = House {
        schema: &resolved.schema,
        session: &session,
    };
    let mut done = Upkeep::default();
    if !house.enter().await? {
        house.warn_if_neglected().await?;
        return Ok(done);
    }
    done.ran = true;
    house.forget("copies", "24 hours").await?;
    house.forget("inbox", "7 days").await?;
    house.run(CLEAR).await?;
    done.began = house.begin_range().await?;
    done.blocked = house.let_go().await?;
    done.dropped = house.drop_chosen().await?;
    Ok(done)
}

/// The connection of a pass. Its end gives the lock back.
struct House<'a> {
    schema: &'a Schema,
    session: &'a Session,
}

/// Whether the user may do all this, and it is nobody else's turn. Nothing here waits long for
/// others: it can be done a minute later.
const ENTER: &str = "select pg_has_role(c.relowner, 'usage')
    and pg_try_advisory_lock('{s}.log'::regclass::int, 2)
    from pg_class c where c.oid = '{s}.log'::regclass";

/// Whether nobody has been at it for long.
const NEGLECTED: &str = "select copies_at < clock_timestamp() - interval '3 days' from {s}.meta";

/// Claims that nobody holds any more, and where topics began that are deleted.
const CLEAR: &str = "delete from {s}.inbox_claims where expires < clock_timestamp();
    delete from {s}.retained r where not exists (select from {s}.topics t where t.id = r.topic)";

/// The longest retention decides how long ranges are, since all topics share them.
const IS_OLD: &str = "select coalesce(max(r.begun_at) < clock_timestamp()
    - (select max(t.retention) from {s}.topics t) / $1 * interval '1 millisecond', false)
    from {s}.ranges r";

/// Moves to where what topics keep begins: before the first event that is young enough, and not past
/// what a group that lives has settled. A group lives that owns the partition now, or did within
/// retention. Returns one that is waited for.
const ADVANCE: &str = "with parts as (
        select t.id topic, p.part, coalesce(r.id, 0) mark,
            clock_timestamp() - t.retention * interval '1 millisecond' since
        from {s}.topics t cross join lateral generate_series(0, t.parts - 1) p (part)
        left join {s}.retained r on r.topic = t.id and r.part = p.part
    ), old as (
        select p.topic, p.part, p.since, l.id
        from parts p
        left join lateral (select x.id from {s}.log x
            where x.topic = p.topic and x.part = p.part and x.id > p.mark
                and x.created_at >= p.since
            order by x.id limit 1) young on true
        cross join lateral (select x.id from {s}.log x
            where x.topic = p.topic and x.part = p.part and x.id > p.mark
                and x.id < coalesce(young.id, 9223372036854775807)
            order by x.id desc limit 1) l
    ), held as (
        select old.topic, old.part, min(coalesce(o.frontier, 0)) id, min(o.grp) grp
        from old join {s}.owners o on o.topic = old.topic and o.part = old.part
        where (o.expires > clock_timestamp() or o.touched > old.since)
            and coalesce(o.frontier, 0) < old.id
        group by old.topic, old.part
    ), noted as (
        insert into {s}.retained as r
            select old.topic, old.part, least(old.id, held.id)
            from old left join held on held.topic = old.topic and held.part = old.part
        on conflict on constraint retained_pkey do update set id = excluded.id
            where r.id < excluded.id
    )
    select held.grp from held limit 1";

/// Notes which ranges have given their last id.
const END: &str = "update {s}.ranges r set ended_by = pg_current_xact_id()
    from {s}.ranges n
    where n.number = r.number + 1 and n.begun_at is not null and r.ended_by is null";

/// Chooses the ranges of which no topic keeps anything. Whoever took an id of them has ended, so
/// that nothing is still to come.
const CHOOSE: &str = "update {s}.ranges r set dropping = true
    where not r.dropping and r.ended_by < pg_snapshot_xmin(pg_current_snapshot())
    and not exists (
        select from {s}.topics t cross join lateral generate_series(0, t.parts - 1) p (part)
        left join {s}.retained k on k.topic = t.id and k.part = p.part
        cross join lateral (select x.id from {s}.log x
            where x.topic = t.id and x.part = p.part
                and x.id >= r.number << 40 and x.id < (r.number + 1) << 40
            order by x.id desc limit 1) l
        where l.id > coalesce(k.id, 0))";

/// Ranges that are being dropped, and whether their tables are still part of the log, or half.
const CHOSEN: &str = "select r.number, i.inhrelid is not null,
        coalesce((to_jsonb(i) ->> 'inhdetachpending')::bool, false)
    from {s}.ranges r
    left join pg_inherits i on i.inhparent = '{s}.log'::regclass
        and i.inhrelid = to_regclass(format('{s}.log_%s', r.number))
    where r.dropping order by r.number";

impl House<'_> {
    fn client(&self) -> &Client {
        &self.session.client
    }

    async fn run(&self, statement: &str) -> Result<()> {
        let sql = self.schema.sql(statement);
        let done = self.client().batch_execute(&sql).await;
        done.map_err(|error| postgres("keep house", error))
    }

    async fn find(
        &self,
        statement: &str,
        parameter: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let sql = self.schema.sql(statement);
        let rows = self.client().query(&sql, parameter).await;
        rows.map_err(|error| postgres("keep house", error))
    }

    async fn enter(&self) -> Result<bool> {
        self.run("set lock_timeout = '100ms'").await?;
        let rows = self.find(ENTER, &[]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    async fn warn_if_neglected(&self) -> Result<()> {
        let neglected = self.find(NEGLECTED, &[]).await?;
        if neglected.first().is_some_and(|row| row.get(0)) {
            tracing::warn!(
                target: "interline::postgres", schema = self.schema.name(),
                "nobody keeps house: connect as the schema's owner, or call `keep_house` as it"
            );
        }
        Ok(())
    }

    /// Lets the older of two generations go, if the newer one is old enough.
    async fn forget(&self, what: &str, age: &str) -> Result<()> {
        let due =
            format!("select {what}_at < clock_timestamp() - interval '{age}' from {{s}}.meta");
        let due = self.find(&due, &[]).await?;
        if !due.first().is_some_and(|row| row.get(0)) {
            return Ok(());
        }
        self.run(&format!(
            "begin;
            lock table {{s}}.{what}_new, {{s}}.{what}_old in access exclusive mode;
            truncate {{s}}.{what}_old;
            alter table {{s}}.{what}_old rename to {what}_spare;
            alter table {{s}}.{what}_new rename to {what}_old;
            alter table {{s}}.{what}_spare rename to {what}_new;
            update {{s}}.meta set {what}_at = clock_timestamp();
            commit"
        ))
        .await
    }

    async fn begin_range(&self) -> Result<bool> {
        let old = self.find(IS_OLD, &[&RANGES]).await?;
        if !old.first().is_some_and(|row| row.get(0)) {
            return Ok(false);
        }
        let begun = self.find("select {s}.next_range()", &[]).await?;
        Ok(begun.first().is_some_and(|row| row.get(0)))
    }

    /// Lets go of what is beyond retention; a group for whose sake something is kept.
    async fn let_go(&self) -> Result<Option<String>> {
        let held = self.find(ADVANCE, &[]).await?;
        self.run(END).await?;
        self.run(CHOOSE).await?;
        Ok(held.first().map(|row| row.get(0)))
    }

    /// Drops what was chosen. Detaching lets readers and publishers go on; dropping a part of the
    /// log would wait for readers, and publishers for it.
    async fn drop_chosen(&self) -> Result<usize> {
        let version = self.find("show server_version_num", &[]).await?;
        let version = version.first().map(|row| row.get::<_, String>(0));
        // Version 13 has to stop publishing for a moment.
        let gently = match version.is_some_and(|version| *version >= *"140000") {
            true => " concurrently",
            false => "",
        };
        let chosen = self.find(CHOSEN, &[]).await?;
        for row in &chosen {
            let (number, attached, half): (i64, bool, bool) = (row.get(0), row.get(1), row.get(2));
            if attached {
                let how = if half { " finalize" } else { gently };
                // It waits for readings that began before, and lets everybody pass meanwhile.
                self.run("set lock_timeout = '30s'").await?;
                self.run(&format!(
                    "alter table {{s}}.log detach partition {{s}}.log_{number}{how}"
                ))
                .await?;
            }
            self.run(&format!(
                "begin;
                drop table if exists {{s}}.log_{number};
                delete from {{s}}.ranges where number = {number};
                commit"
            ))
            .await?;
        }
        Ok(chosen.len())
    }
}
