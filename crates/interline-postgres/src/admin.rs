//! Topics and groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use interline_core::{
    Cleanup, Ensured, ErrorKind, Group, GroupInfo, LagAccuracy, Partition, PartitionLag, Pattern,
    Progress, Result, Start, Topic, TopicInfo, TopicSpec,
};
use interline_transport::checkpoint;
use interline_transport::lease::MemberId;
use tokio_postgres::{Client, Row};

use crate::error::{error, missing_topic, postgres};
use crate::link::Link;
use crate::places::{Bounds, beginning};
use crate::topics::{Facts, Listed};

/// Creates, lists and deletes topics and groups; see [`interline_core::Admin`].
///
/// The lag is exact: events are counted, which for a backlog of millions takes seconds.
#[derive(Debug)]
pub struct Admin {
    link: Arc<Link>,
}

/// Longer counting is given up, in milliseconds.
const COUNTING: &str = "3000";

/// How many events topics keep.
const EVENTS: &str = "select t.id, sum(c.n)::int8
    from {s}.topics t cross join lateral generate_series(0, t.parts - 1) p (part)
    left join {s}.retained r on r.topic = t.id and r.part = p.part
    cross join lateral (select count(*) n from {s}.log x
        where x.topic = t.id and x.part = p.part and x.id > coalesce(r.id, 0)) c
    where t.id = any($1::int4[]) group by t.id";

/// What groups have stored, with the number of each one's live members.
const GROUPS: &str = "select o.grp, t.name, o.part, o.progress,
    case when o.expires > clock_timestamp() then o.member end,
    (select count(distinct m.member) from {s}.members m
        where m.grp = o.grp and m.expires > clock_timestamp()),
    greatest(r.id, (select x.id from {s}.log x where x.topic = o.topic and x.part = o.part
        order by x.id desc limit 1)),
    o.topic
    from {s}.owners o join {s}.topics t on t.id = o.topic
    left join {s}.retained r on r.topic = o.topic and r.part = o.part
    where $1::text is null or t.name = $1
    order by o.grp, t.name, o.part";

/// Events that partitions keep between two ids, both inclusive.
const COUNT: &str = "select c.o, (select count(*) from {s}.log x
        where x.topic = c.t and x.part = c.p and x.id between c.a and c.b
            and x.id > coalesce(r.id, 0))
    from unnest($1::int4[], $2::int2[], $3::int8[], $4::int8[]) with ordinality c (t, p, a, b, o)
    left join {s}.retained r on r.topic = c.t and r.part = c.p";

const LIVE: &str = "select count(distinct member) from {s}.members
    where grp = $1 and expires > clock_timestamp()";

const RESET: &str = "insert into {s}.owners (grp, topic, part, fence, frontier, progress)
    select $1, $2, c.p, 1, c.f, c.s from unnest($3::int2[], $4::int8[], $5::text[]) c (p, f, s)
    order by c.p
    on conflict (grp, topic, part) do update set fence = owners.fence + 1, member = null,
        passing = false, free_since = clock_timestamp(), touched = clock_timestamp(),
        frontier = excluded.frontier, progress = excluded.progress";

/// What is deleted in one transaction: a longer one would hold back every reader.
const DELETED: i64 = 10_000;

const DELETE: &str = "with gone as (
        select x.topic, x.part, x.id from {s}.log x where x.topic = $1
        order by x.part, x.id limit $2)
    delete from {s}.log x using gone g
    where x.topic = g.topic and x.part = g.part and x.id = g.id";

impl Admin {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    async fn ensure_one(&self, client: &Client, spec: &TopicSpec) -> Result<Ensured> {
        if spec.partitions.is_some_and(|n| !(1..=4_096).contains(&n)) {
            return Err(error(
                ErrorKind::Invalid,
                "ensure topics",
                format!("topic `{}` cannot have so many partitions", spec.topic),
                "choose 1 to 4096",
            ));
        }
        let link = &self.link;
        let resolved = &link.resolved;
        let made = link.topics.create("ensure topics", resolved, client, spec);
        let (facts, made) = made.await?;
        let drift = drift(spec, facts);
        Ok(match (made, drift.is_empty()) {
            (true, true) => Ensured::Created,
            (false, true) => Ensured::Exists,
            (_, false) => Ensured::Drift(drift),
        })
    }

    async fn listed(&self, operation: &'static str, client: &Client) -> Result<Listed> {
        let resolved = &self.link.resolved;
        self.link.topics.refresh(operation, resolved, client).await
    }

    async fn list(&self, client: &Client, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        let listed = self.listed("list topics", client).await?;
        let fits = |topic: &&Topic| pattern.matches(topic.as_str());
        let ids: Vec<i32> = listed
            .iter()
            .filter(|(topic, _)| fits(topic))
            .map(|(_, facts)| facts.id)
            .collect();
        let counts = self.events(client, &ids).await?;
        let found = listed.iter().filter(|(topic, _)| fits(topic));
        Ok(found
            .map(|(topic, facts)| TopicInfo {
                topic: topic.clone(),
                partitions: facts.partitions,
                events: counts.get(&facts.id).copied(),
            })
            .collect())
    }

    /// How many events topics hold; nothing if counting takes too long.
    async fn events(&self, client: &Client, ids: &[i32]) -> Result<BTreeMap<i32, u64>> {
        let failed = |error| postgres("list topics", error);
        let begin = format!("begin read only; set local statement_timeout = {COUNTING}");
        client.batch_execute(&begin).await.map_err(failed)?;
        let sql = self.link.resolved.schema.sql(EVENTS);
        let counted = client.query(&sql, &[&ids]).await;
        client.batch_execute("rollback").await.map_err(failed)?;
        let count = |row: &Row| (row.get(0), row.get::<_, i64>(1).unsigned_abs());
        match counted.map_err(failed) {
            Ok(rows) => Ok(rows.iter().map(count).collect()),
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    async fn groups_of(&self, client: &Client, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        let failed = |error| postgres("list groups", error);
        if let Some(topic) = topic
            && !self
                .listed("list groups", client)
                .await?
                .contains_key(topic)
        {
            return Err(missing_topic("list groups", topic));
        }
        let schema = &self.link.resolved.schema;
        let name = topic.map(Topic::as_str);
        let rows = client.query(&schema.sql(GROUPS), &[&name]).await;
        let mut standings = Vec::new();
        for row in rows.map_err(failed)? {
            standings.extend(self.standing(&row)?);
        }
        let counts = counts(client, &schema.sql(COUNT), &standings).await?;
        let mut groups: Vec<GroupInfo> = Vec::new();
        for (mut standing, lag) in standings.into_iter().zip(counts) {
            standing.lag.lag = Some(lag);
            match groups.last_mut() {
                Some(group) if group.group == standing.group => {
                    group.partitions.push(standing.lag);
                }
                _ => groups.push(GroupInfo {
                    group: standing.group,
                    members: standing.members,
                    partitions: vec![standing.lag],
                }),
            }
        }
        Ok(groups)
    }

    /// How a group stands in a partition, but for its lag. Names of others' making are passed
    /// over.
    fn standing(&self, row: &Row) -> Result<Option<Standing>> {
        let names = (
            Group::new(row.get::<_, &str>(0)),
            Topic::system(row.get::<_, &str>(1)),
        );
        let (Ok(group), Ok(topic)) = names else {
            return Ok(None);
        };
        let progress = row.get::<_, Option<&str>>(3).map(checkpoint::decode);
        let part: i16 = row.get(2);
        let owner: Option<&str> = row.get(4);
        let end: Option<i64> = row.get(6);
        let progress = progress.transpose()?.unwrap_or_default();
        Ok(Some(Standing {
            topic: row.get(7),
            part,
            group,
            members: usize::try_from(row.get::<_, i64>(5)).unwrap_or(0),
            lag: PartitionLag {
                partition: Partition::new(topic, part.unsigned_abs().into()),
                frontier: progress.frontier,
                end: end.map(|id| self.link.places.position(id)),
                lag: None,
                accuracy: LagAccuracy::Exact,
                owner: owner.map(|member| MemberId::stored(member).instance().to_owned()),
            },
            progress,
        }))
    }

    async fn reset_to(
        &self,
        client: &Client,
        group: &Group,
        topic: &Topic,
        start: &Start,
    ) -> Result<()> {
        let failed = |error| postgres("reset", error);
        let listed = self.listed("reset", client).await?;
        let facts = *listed
            .get(topic)
            .ok_or_else(|| missing_topic("reset", topic))?;
        let schema = &self.link.resolved.schema;
        let bounds = Bounds::look("reset", schema, client, facts, start).await?;
        let (mut parts, mut ids, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..facts.partitions {
            let partition = Partition::new(topic.clone(), index);
            let after = bounds.after("reset", &self.link.places, &partition, start)?;
            let (id, text) = beginning(&self.link.places, after);
            parts.push(index as i16);
            ids.push(id);
            texts.push(text);
        }
        client.batch_execute("begin").await.map_err(failed)?;
        let reset = async {
            refuse_live(client, &schema.sql(LIVE), "reset", group).await?;
            client
                .execute(
                    &schema.sql(RESET),
                    &[&group.as_str(), &facts.id, &parts, &ids, &texts],
                )
                .await
                .map_err(failed)
        };
        finish(client, "reset", reset.await.map(|_| ())).await
    }

    async fn delete_events(&self, topic: i32) -> Result<()> {
        let sql = self.link.resolved.schema.sql(DELETE);
        let mut deleted = 1;
        while deleted > 0 {
            let deleting = self.link.ask("delete topic", async |client| {
                let deleted = client.execute(&sql, &[&topic, &DELETED]).await;
                deleted.map_err(|error| postgres("delete topic", error))
            });
            deleted = deleting.await?;
        }
        Ok(())
    }
}

/// How a group stands in a partition.
struct Standing {
    group: Group,
    members: usize,
    topic: i32,
    part: i16,
    lag: PartitionLag,
    progress: Progress,
}

/// How many events each has not settled: those behind the frontier, without those done.
async fn counts(client: &Client, sql: &str, standings: &[Standing]) -> Result<Vec<u64>> {
    let (mut topics, mut parts) = (Vec::new(), Vec::new());
    let (mut from, mut to, mut whose) = (Vec::new(), Vec::new(), Vec::new());
    let id = |position: u64| i64::try_from(position).unwrap_or(i64::MAX);
    for (at, standing) in standings.iter().enumerate() {
        let behind = standing.progress.frontier.map_or(1, |f| id(f.1) + 1);
        let done = standing.progress.done.iter();
        let ranges = done.map(|range| (id(range.first.1), id(range.last.1), false));
        for (first, last, waits) in std::iter::once((behind, i64::MAX, true)).chain(ranges) {
            topics.push(standing.topic);
            parts.push(standing.part);
            from.push(first);
            to.push(last);
            whose.push((at, waits));
        }
    }
    let rows = client
        .query(sql, &[&topics, &parts, &from, &to])
        .await
        .map_err(|error| postgres("list groups", error))?;
    let mut lags = vec![0_i64; standings.len()];
    for row in rows {
        let (at, waits) = whose[(row.get::<_, i64>(0) - 1).unsigned_abs() as usize];
        let count: i64 = row.get(1);
        lags[at] += if waits { count } else { -count };
    }
    Ok(lags
        .into_iter()
        .map(|lag| lag.max(0).unsigned_abs())
        .collect())
}

async fn refuse_live(
    client: &Client,
    sql: &str,
    operation: &'static str,
    group: &Group,
) -> Result<()> {
    let row = client.query_one(sql, &[&group.as_str()]).await;
    let live: i64 = row.map_err(|error| postgres(operation, error))?.get(0);
    if live == 0 {
        return Ok(());
    }
    Err(error(
        ErrorKind::Invalid,
        operation,
        format!("group `{group}` has {live} live members"),
        "stop them first, and wait 15 s after a crash",
    ))
}

/// Commits, or takes back what was done.
async fn finish(client: &Client, operation: &'static str, done: Result<()>) -> Result<()> {
    let end = match done {
        Ok(()) => "commit",
        Err(_) => "rollback",
    };
    let ended = client.batch_execute(end).await;
    done?;
    ended.map_err(|error| postgres(operation, error))
}

fn drift(spec: &TopicSpec, facts: Facts) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(wanted) = spec.partitions.filter(|wanted| *wanted != facts.partitions) {
        lines.push(format!(
            "partitions: {} instead of {wanted}",
            facts.partitions
        ));
    }
    let retention = std::time::Duration::from_millis(facts.retention.unsigned_abs());
    if let Some(wanted) = spec.retention.filter(|wanted| *wanted != retention) {
        lines.push(format!("retention: {retention:?} instead of {wanted:?}"));
    }
    if spec.cleanup == Some(Cleanup::Compact) {
        lines.push("cleanup: delete instead of compact".to_owned());
    }
    lines
}

impl interline_core::Admin for Admin {
    /// Replicas are the server's own business and are not compared; compaction does not exist
    /// here, which is reported.
    async fn ensure(&self, topics: Vec<TopicSpec>) -> Result<Vec<Ensured>> {
        let mut ensured = Vec::with_capacity(topics.len());
        for spec in &topics {
            let making = self.link.ask("ensure topics", async |client| {
                self.ensure_one(client, spec).await
            });
            ensured.push(making.await?);
        }
        Ok(ensured)
    }

    async fn topics(&self, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        let listing = async |client: &ClientWrapper| self.list(client, pattern).await;
        self.link.ask("list topics", listing).await
    }

    async fn groups(&self, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        let listing = async |client: &ClientWrapper| self.groups_of(client, topic).await;
        self.link.ask("list groups", listing).await
    }

    async fn reset(&self, group: &Group, topic: &Topic, start: Start) -> Result<()> {
        let resetting =
            async |client: &ClientWrapper| self.reset_to(client, group, topic, &start).await;
        self.link.ask("reset", resetting).await
    }

    /// The topic is gone at once; its events are deleted in steps after that, and what is left by
    /// a call that was dropped goes with its range.
    async fn delete_topic(&self, topic: &Topic) -> Result<()> {
        let schema = &self.link.resolved.schema;
        let sql = schema.sql(
            "with gone as (delete from {s}.topics where name = $1 returning id),
            o as (delete from {s}.owners o using gone where o.topic = gone.id),
            m as (delete from {s}.members m using gone where m.topic = gone.id)
            select id from gone",
        );
        let deleting = self.link.ask("delete topic", async |client| {
            let gone = client.query_opt(&sql, &[&topic.as_str()]).await;
            let gone = gone.map_err(|error| postgres("delete topic", error))?;
            self.listed("delete topic", client).await?;
            Ok(gone.map(|row| row.get::<_, i32>(0)))
        });
        match deleting.await? {
            Some(id) => self.delete_events(id).await,
            None => Ok(()),
        }
    }

    async fn delete_group(&self, group: &Group) -> Result<()> {
        let schema = &self.link.resolved.schema;
        let deleting = self.link.ask("delete group", async |client| {
            client
                .batch_execute("begin")
                .await
                .map_err(|error| postgres("delete group", error))?;
            let deleted = async {
                refuse_live(client, &schema.sql(LIVE), "delete group", group).await?;
                for table in ["owners", "members"] {
                    let sql = schema.sql(&format!("delete from {{s}}.{table} where grp = $1"));
                    client
                        .execute(&sql, &[&group.as_str()])
                        .await
                        .map_err(|error| postgres("delete group", error))?;
                }
                Ok(())
            };
            finish(client, "delete group", deleted.await).await
        });
        deleting.await
    }
}
