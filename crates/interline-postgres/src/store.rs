//! Leases and checkpoints of a group: rows, changed by functions of the schema under the server's
//! clock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use interline_core::{
    Committed, ErrorKind, Fence, Group, Partition, Result, Start, Topic, planted,
};
use interline_transport::checkpoint;
use interline_transport::lease::{
    Entry, Grant, Lease, LeaseStore, MemberId, Picture, Seen, Timing,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::error::{error, missing_topic, postgres};
use crate::link::Link;
use crate::places::{Bounds, MAX_PROGRESS, beginning};
use crate::topics::Facts;

/// Where one group keeps its leases and checkpoints of one topic.
#[derive(Debug)]
pub(crate) struct Store {
    link: Arc<Link>,
    group: Group,
    topic: Topic,
    timing: Timing,
    /// A topic that is deleted and made again is another one.
    facts: OnceLock<Facts>,
}

const KNOWN: &str = "select exists (select from {s}.owners where grp = $1 and topic = $2)";

const BEGIN: &str = "select {s}.begin_group($1, $2, $3, $4)";

const LOOK: &str = "select * from {s}.look($1, $2, $3, $4, $5)";

const CLAIM: &str = "select * from {s}.claim($1, $2, $3, $4, $5, $6, $7)";

const REVOKE: &str = "select {s}.revoke($1, $2, $3, $4, $5)";

const COMMIT: &str = "select {s}.store_progress($1, $2, $3, $4, $5, $6, $7, $8)";

/// Stores checkpoints, whoever owns the partitions: only ever as a planted bug.
const UNFENCED: &str = "update {s}.owners o set progress = p.progress, frontier = p.frontier
    from unnest($4::int2[], $5::int8[], $6::int8[], $7::text[]) p (part, fence, frontier, progress)
    where o.grp = $1 and o.topic = $2 and o.part = p.part
        and $3::text is not null and not $8::boolean
    returning o.part";

const LEAVE: &str = "select {s}.leave($1, $2, $3)";

impl Store {
    pub(crate) fn new(link: Arc<Link>, group: Group, topic: Topic, timing: Timing) -> Self {
        Self {
            link,
            group,
            topic,
            timing,
            facts: OnceLock::new(),
        }
    }

    fn facts(&self) -> Result<Facts> {
        if let Some(facts) = self.facts.get() {
            return Ok(*facts);
        }
        let known = self.link.topics.known(&self.topic);
        let facts = known.ok_or_else(|| missing_topic("subscribe", &self.topic))?;
        Ok(*self.facts.get_or_init(|| facts))
    }

    /// Runs a statement that was prepared on each connection.
    async fn call(
        &self,
        operation: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let sql = self.link.resolved.schema.sql(statement);
        let calling = self.link.ask(operation, async |client| {
            let failed = |error| postgres(operation, error);
            let statement = client.prepare_cached(&sql).await.map_err(failed)?;
            client.query(&statement, parameters).await.map_err(failed)
        });
        calling.await
    }

    fn lease(&self) -> i64 {
        i64::try_from(self.timing.lease.as_millis()).unwrap_or(i64::MAX)
    }

    /// Parameters of partitions under fences.
    fn owned(owned: impl Iterator<Item = (u32, Fence)>) -> (Vec<i16>, Vec<i64>) {
        owned
            .map(|(index, fence)| (index as i16, fence.cast_signed()))
            .unzip()
    }
}

impl LeaseStore for Store {
    async fn begin(&self, start: &Start) -> Result<()> {
        let facts = self.facts()?;
        let schema = &self.link.resolved.schema;
        let group = self.group.as_str();
        let known = self.call("subscribe", KNOWN, &[&group, &facts.id]).await?;
        if known.first().is_some_and(|row| row.get(0)) {
            return Ok(());
        }
        let looking = self.link.ask("subscribe", async |client| {
            Bounds::look("subscribe", schema, client, facts, start).await
        });
        let bounds = looking.await?;
        let (mut frontiers, mut texts) = (Vec::new(), Vec::new());
        for index in 0..facts.partitions {
            let partition = Partition::new(self.topic.clone(), index);
            let after = bounds.after("subscribe", &self.link.places, &partition, start)?;
            let (frontier, text) = beginning(&self.link.places, after);
            frontiers.push(frontier);
            texts.push(text);
        }
        let parameters: [&(dyn ToSql + Sync); 4] = [&group, &facts.id, &frontiers, &texts];
        self.call("subscribe", BEGIN, &parameters).await.map(|_| ())
    }

    async fn look(&self, me: &MemberId, leaving: bool) -> Result<Picture> {
        let facts = self.facts()?;
        let lease = self.lease();
        let parameters: [&(dyn ToSql + Sync); 5] = [
            &self.group.as_str(),
            &facts.id,
            &me.as_str(),
            &lease,
            &leaving,
        ];
        let rows = self.call("look", LOOK, &parameters).await?;
        let Some(row) = rows.first() else {
            return Ok(Picture::default());
        };
        let live: Vec<&str> = row.get(0);
        let next: Option<i64> = row.get(6);
        Ok(Picture {
            live: live.into_iter().map(MemberId::stored).collect(),
            partitions: leases(row)?,
            next_expiry: next.map(|millis| Duration::from_millis(millis.max(0).unsigned_abs())),
        })
    }

    async fn claim(&self, me: &MemberId, seen: Vec<Seen>) -> Result<Vec<Option<Grant>>> {
        let facts = self.facts()?;
        let (parts, fences) = Self::owned(seen.iter().map(|seen| (seen.index, seen.fence)));
        let tokens: Vec<i64> = seen.iter().map(|seen| seen.token.cast_signed()).collect();
        let lease = self.lease();
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &self.group.as_str(),
            &facts.id,
            &me.as_str(),
            &lease,
            &parts,
            &fences,
            &tokens,
        ];
        let rows = self.call("claim", CLAIM, &parameters).await?;
        let mut grants = Vec::with_capacity(rows.len());
        for row in &rows {
            let progress: Option<&str> = row.get(2);
            let progress = progress.map(checkpoint::decode).transpose();
            grants.push(Grant {
                index: row.get::<_, i16>(0).unsigned_abs().into(),
                fence: row.get::<_, i64>(1).cast_unsigned(),
                progress: progress
                    .map_err(|error| error.on(crate::SCHEME))?
                    .unwrap_or_default(),
            });
        }
        let mut take = |index| {
            let at = grants.iter().position(|grant| grant.index == index)?;
            Some(grants.swap_remove(at))
        };
        Ok(seen.iter().map(|seen| take(seen.index)).collect())
    }

    async fn revoke(&self, me: &MemberId, owned: Vec<(u32, Fence)>) -> Result<()> {
        let facts = self.facts()?;
        let (parts, fences) = Self::owned(owned.into_iter());
        let parameters: [&(dyn ToSql + Sync); 5] = [
            &self.group.as_str(),
            &facts.id,
            &me.as_str(),
            &parts,
            &fences,
        ];
        self.call("revoke", REVOKE, &parameters).await.map(|_| ())
    }

    async fn commit(
        &self,
        me: &MemberId,
        entries: Vec<Entry>,
        release: bool,
    ) -> Result<Vec<Committed>> {
        let facts = self.facts()?;
        let (parts, fences) = Self::owned(entries.iter().map(|e| (e.index, e.fence)));
        let progress = |entry: &Entry| {
            let progress = entry.progress.as_ref()?;
            Some((
                progress.frontier.map(|at| at.1.cast_signed()),
                checkpoint::encode(progress, MAX_PROGRESS),
            ))
        };
        let progress: Vec<_> = entries.iter().map(progress).collect();
        let frontiers: Vec<Option<i64>> = progress
            .iter()
            .map(|progress| progress.as_ref().and_then(|(frontier, _)| *frontier))
            .collect();
        let texts: Vec<Option<&str>> = progress
            .iter()
            .map(|progress| progress.as_ref().map(|(_, text)| &**text))
            .collect();
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &self.group.as_str(),
            &facts.id,
            &me.as_str(),
            &parts,
            &fences,
            &frontiers,
            &texts,
            &release,
        ];
        let statement = match planted::is("unfenced-commit") && !release {
            true => UNFENCED,
            false => COMMIT,
        };
        let rows = self.call("commit", statement, &parameters).await?;
        let stored: Vec<i16> = rows.iter().map(|row| row.get(0)).collect();
        let answer = |part: &i16| match stored.contains(part) {
            true => Committed::Applied,
            false => Committed::Stale,
        };
        Ok(parts.iter().map(answer).collect())
    }

    async fn leave(&self, me: &MemberId) -> Result<()> {
        let facts = self.facts()?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.group.as_str(), &facts.id, &me.as_str()];
        self.call("leave", LEAVE, &parameters).await.map(|_| ())
    }
}

/// The partitions of a look.
fn leases(row: &Row) -> Result<Vec<Lease>> {
    let owners: Vec<Option<&str>> = row.get(1);
    let fences: Vec<i64> = row.get(2);
    let passing: Vec<bool> = row.get(3);
    let free: Vec<i64> = row.get(4);
    let tokens: Vec<i64> = row.get(5);
    let lease = |(at, owner): (usize, Option<&str>)| {
        Some(Lease {
            owner: owner.map(MemberId::stored),
            fence: fences.get(at)?.cast_unsigned(),
            passing: *passing.get(at)?,
            free_for: Duration::from_millis((*free.get(at)?).max(0).unsigned_abs()),
            token: tokens.get(at)?.cast_unsigned(),
        })
    };
    let all: Option<Vec<Lease>> = owners.into_iter().enumerate().map(lease).collect();
    all.ok_or_else(|| {
        error(
            ErrorKind::Protocol,
            "look",
            "the leases of a group are not whole",
            "reset the group",
        )
    })
}
