//! Administration of topics and groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream;
use interline_core::{
    Ensured, Error, ErrorKind, Group, GroupInfo, LagAccuracy, Partition, PartitionLag, Pattern,
    Position, Progress, Result, Start, Topic, TopicInfo, TopicSpec,
};
use interline_transport::lease::MemberId;

use crate::SCHEME;
use crate::api::Begin;
use crate::error::{code, error};
use crate::hub::{Facts, Hub};
use crate::leases::begin::positions;
use crate::leases::bucket;
use crate::leases::keys::{Keys, START};
use crate::leases::row::{Beginning, Row};
use crate::link::Session;
use crate::names::{Names, bucket_stream, bucket_subject, token};
use crate::reading::pending;
use crate::topics;

/// How many questions about ranges are asked at a time.
const ASKED: usize = 16;

/// Administration of a server; see [`interline_core::Admin`].
///
/// Lag is counted by the server, and exact.
#[derive(Clone, Debug)]
pub struct Admin(pub(crate) Arc<Hub>);

impl interline_core::Admin for Admin {
    async fn ensure(&self, topics: Vec<TopicSpec>) -> Result<Vec<Ensured>> {
        let session = self.0.main.session("ensure").await?;
        bucket::ensure(&self.0, &session, "ensure").await?;
        let mut ensured = Vec::with_capacity(topics.len());
        for spec in topics {
            ensured.push(match topics::compare(&self.0, &spec).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    topics::create(&self.0, "ensure", &spec).await?
                }
                other => other?,
            });
        }
        Ok(ensured)
    }

    async fn topics(&self, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        let hub = &self.0;
        let session = hub.main.session("topics").await?;
        let known = match pattern.as_exact() {
            Some(name) => vec![Topic::system(name)?],
            None => topics::list(hub, "topics").await?,
        };
        let known = known
            .into_iter()
            .filter(|topic| pattern.matches(topic.as_str()));
        let mut infos = Vec::new();
        for topic in known {
            match hub.look(&session, "topics", &topic).await {
                Ok((facts, info)) => infos.push(TopicInfo {
                    topic,
                    partitions: facts.partitions,
                    events: Some(info.state.messages),
                }),
                // Not there, or not any more.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(infos)
    }

    async fn groups(&self, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        let hub = &self.0;
        let session = hub.main.session("groups").await?;
        if let Some(topic) = topic {
            hub.ask("groups", topic).await?;
        }
        let mut groups: BTreeMap<Group, (BTreeSet<MemberId>, Vec<PartitionLag>)> = BTreeMap::new();
        for (group, topic) in known(hub, &session, topic).await? {
            let progress = progress_of(hub, &session, &group, &topic).await;
            let Some((members, lags)) = or_nothing(progress)? else {
                continue;
            };
            let info = groups.entry(group).or_default();
            info.0.extend(members);
            info.1.extend(lags);
        }
        let info = |(group, (members, partitions)): (_, (BTreeSet<_>, _))| GroupInfo {
            group,
            members: members.len(),
            partitions,
        };
        Ok(groups.into_iter().map(info).collect())
    }

    async fn reset(&self, group: &Group, topic: &Topic, start: Start) -> Result<()> {
        let hub = &self.0;
        let session = hub.main.session("reset").await?;
        let (facts, info) = hub.look(&session, "reset", topic).await?;
        bucket::require(hub, &session, "reset").await?;
        let keys = Keys::new(hub.names(), group, topic);
        let (live, leaving) = keys.members(&session, "reset").await?;
        let members = live.len() + leaving.len();
        if members > 0 {
            return Err(live_members("reset", group, members));
        }
        let after = positions(&session, "reset", &facts, &info, topic, &start).await?;
        let beginning = Beginning::new(info.created, after);
        move_to(&session, &keys, group, facts.partitions, &beginning).await
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<()> {
        topics::delete(&self.0, topic).await?;
        // Another topic of this name begins with nothing.
        let key = format!("*.{}.>", token(topic.as_str()));
        purge(&self.0, "delete topic", &key).await
    }

    async fn delete_group(&self, group: &Group) -> Result<()> {
        let hub = &self.0;
        let session = hub.main.session("delete group").await?;
        let members = hub.names().members();
        let filter = bucket_subject(&members, &format!("{group}.>"));
        let stream = bucket_stream(&members);
        let live = bucket::subjects(&session, "delete group", &stream, &filter);
        let live = or_nothing(live.await)?;
        if !live.is_empty() {
            return Err(live_members("delete group", group, live.len()));
        }
        purge(hub, "delete group", &format!("{group}.>")).await
    }
}

async fn purge(hub: &Hub, operation: &'static str, key: &str) -> Result<()> {
    let session = hub.main.session(operation).await?;
    for bucket in [hub.names().leases(), hub.names().members()] {
        let filter = bucket_subject(&bucket, key);
        bucket::purge(&session, operation, &bucket_stream(&bucket), &filter).await?;
    }
    Ok(())
}

/// The groups that are known on a topic, or on any, sorted.
async fn known(
    hub: &Hub,
    session: &Session,
    topic: Option<&Topic>,
) -> Result<BTreeSet<(Group, Topic)>> {
    let leases = hub.names().leases();
    let topic = topic.map_or_else(|| "*".to_owned(), |topic| token(topic.as_str()));
    let filter = bucket_subject(&leases, &format!("*.{topic}.{START}"));
    let found = bucket::subjects(session, "groups", &bucket_stream(&leases), &filter).await;
    let prefix = bucket_subject(&leases, "");
    let pair = |subject: &String| {
        let (group, topic, _) = Names::parse_key(subject.strip_prefix(&prefix)?)?;
        Some((group, topic))
    };
    Ok(or_nothing(found)?.iter().filter_map(pair).collect())
}

/// A bucket that is not there holds nothing, and no group stands in a topic that is gone.
fn or_nothing<T: Default>(found: Result<T>) -> Result<T> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        other => other,
    }
}

/// The members of a group and how far it has come in a topic; nothing if the group is gone, and
/// `NotFound` if the topic is, at whichever question.
async fn progress_of(
    hub: &Hub,
    session: &Session,
    group: &Group,
    topic: &Topic,
) -> Result<Option<(BTreeSet<MemberId>, Vec<PartitionLag>)>> {
    let keys = Keys::new(hub.names(), group, topic);
    let facts = hub.ask("groups", topic).await?;
    let Some((_, beginning)) = keys.beginning(session, "groups").await? else {
        return Ok(None);
    };
    let rows = (0..facts.partitions).map(|index| keys.row(session, "groups", index));
    let rows = try_join_all(rows).await?;
    let (mut members, leaving) = keys.members(session, "groups").await?;
    members.extend(leaving);
    let lags = (0..).zip(rows).map(|(index, row)| {
        let (facts, beginning, members) = (&facts, &beginning, &members);
        async move {
            let owner = row.as_ref().and_then(|(_, row)| row.owner());
            let owner = owner.filter(|owner| members.contains(owner));
            let progress = match row {
                Some((_, row)) => row.progress()?,
                None => beginning.progress(index),
            };
            let partition = Partition::new(topic.clone(), index);
            lag(session, facts, partition, &progress, owner).await
        }
    });
    let lags = try_join_all(lags).await?;
    Ok(Some((members, lags)))
}

async fn lag(
    session: &Session,
    facts: &Facts,
    partition: Partition,
    progress: &Progress,
    owner: Option<MemberId>,
) -> Result<PartitionLag> {
    let ask = |begin: Begin| pending(session, "groups", facts, partition.index, begin);
    let next = progress.frontier.map_or(1, |frontier| frontier.1 + 1);
    let (waiting, _) = ask(Begin::At(next)).await?;
    let (last, before_last) = ask(Begin::Last).await?;
    let done = if waiting == 0 {
        Vec::new()
    } else {
        progress.done.clone()
    };
    let ask = &ask;
    let counts = stream::iter(done)
        .map(|range| async move {
            let (from_first, _) = ask(Begin::At(range.first.1)).await?;
            let (behind_last, _) = ask(Begin::At(range.last.1 + 1)).await?;
            Ok::<u64, Error>(from_first.saturating_sub(behind_last))
        })
        .buffer_unordered(ASKED);
    let counts: Vec<Result<u64>> = counts.collect().await;
    let done: u64 = counts.into_iter().sum::<Result<u64>>()?;
    Ok(PartitionLag {
        partition: partition.clone(),
        frontier: progress.frontier,
        end: (last > 0).then(|| Position::from(before_last + 1)),
        lag: Some(waiting.saturating_sub(done)),
        accuracy: LagAccuracy::Exact,
        owner: owner.map(|owner| owner.instance().to_owned()),
    })
}

/// Moves every partition of a group that has no member.
async fn move_to(
    session: &Session,
    keys: &Keys,
    group: &Group,
    partitions: u32,
    beginning: &Beginning,
) -> Result<()> {
    let operation = "reset";
    let known = keys.beginning(session, operation).await?;
    let revision = known.map_or(0, |(revision, _)| revision);
    let mut writes = vec![(keys.start_subject(), beginning.text(), revision)];
    for index in 0..partitions {
        let row: Option<(u64, Row)> = keys.row_now(session, operation, index).await?;
        if let Some((revision, mut row)) = row {
            row.reset(&beginning.progress(index));
            writes.push((keys.row_subject(index), row.text(), revision));
        }
    }
    for (subject, text, revision) in writes {
        match bucket::write(session, operation, subject, text, revision).await {
            Ok(_) => {}
            // Somebody has just taken it.
            Err(failed) if failed.is(code::WRONG_LAST_SEQUENCE) => {
                return Err(live_members(operation, group, 1));
            }
            Err(failed) => return Err(failed.error(operation)),
        }
    }
    Ok(())
}

fn live_members(operation: &'static str, group: &Group, members: usize) -> Error {
    error(
        ErrorKind::Invalid,
        operation,
        format!("group `{group}` has {members} live members"),
        "stop them first, and wait 15 s after a crash",
    )
    .on(SCHEME)
}
