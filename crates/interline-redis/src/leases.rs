//! Where a group keeps its leases and checkpoints of one topic: three hashes beside the topic's
//! streams, changed by scripts on the server's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::types::{Resp3Frame, Value};
use interline_core::{
    Committed, ErrorKind, Fence, Group, Position, Progress, Result, Start, SubscribeSpec, Topic,
    planted,
};
use interline_transport::checkpoint;
use interline_transport::lease::{
    self, Entry, Grant, Lease, LeaseStore, MemberId, Picture, Seen, Timing,
};

use crate::error::error;
use crate::reply::{self, list, number, odd, text, texts};
use crate::scripts::{BEGIN, CLAIM, COMMIT, FREE, LEAVE, LOOK, REVOKE, Script};
use crate::server::Server;
use crate::source::Source;
use crate::stand;
use crate::topics::{self, Facts};

/// The most bytes of a checkpoint: room for all the ranges and attempts that are declared.
const MAX_CHECKPOINT: usize = 64 << 10;

/// A group at a server.
#[derive(Debug)]
pub(crate) struct Leases {
    server: Arc<Server>,
    group: Group,
}

impl Leases {
    pub(crate) fn new(server: Arc<Server>, group: Group) -> Self {
        Self { server, group }
    }
}

impl lease::Leased for Leases {
    type Store = GroupStore;
    type Source = Source;

    fn scheme(&self) -> &'static str {
        crate::SCHEME
    }

    async fn topics(&self, spec: &SubscribeSpec) -> Result<Vec<Topic>> {
        self.server.check_open("subscribe")?;
        let names = topics::names(&self.server, "subscribe").await?;
        Ok(names.into_iter().filter(|t| spec.covers(t)).collect())
    }

    fn store(&self, group: &Group, topic: &Topic) -> GroupStore {
        GroupStore::new(Arc::clone(&self.server), group, topic)
    }

    fn source(&self) -> Source {
        Source::new(Arc::clone(&self.server), Some(self.group.clone()))
    }
}

/// One group on one topic.
#[derive(Debug)]
pub(crate) struct GroupStore {
    server: Arc<Server>,
    group: Group,
    topic: Topic,
    keys: [Bytes; 6],
    /// The connection at which checkpoints were last compared with what the server keeps.
    compared: AtomicU64,
}

impl GroupStore {
    pub(crate) fn new(server: Arc<Server>, group: &Group, topic: &Topic) -> Self {
        let keys = &server.resolved.keys;
        let [members, leases, checkpoints] = keys.group(topic, group);
        let (store, groups) = (keys.store(), keys.groups(topic));
        Self {
            keys: [
                keys.topic(topic),
                store,
                groups,
                members,
                leases,
                checkpoints,
            ],
            group: group.clone(),
            topic: topic.clone(),
            compared: AtomicU64::new(server.link.connects()),
            server,
        }
    }

    /// The topic as it was when it was first asked for.
    async fn facts(&self, operation: &'static str) -> Result<Arc<Facts>> {
        if let Some(known) = self.server.known(&self.topic) {
            return Ok(known);
        }
        let found = self.server.ask(operation, &self.topic).await?;
        found.ok_or_else(|| self.server.missing(operation, &self.topic))
    }

    /// Runs a script of this group; what follows its `ok`.
    pub(crate) async fn run(
        &self,
        operation: &'static str,
        script: &Script,
        who: &str,
        args: impl IntoIterator<Item = Value>,
    ) -> Result<std::vec::IntoIter<Resp3Frame>> {
        let facts = self.facts(operation).await?;
        let mut all = vec![Value::Bytes(facts.incarnation.clone()), who.into()];
        all.extend(args);
        let answer = self
            .server
            .link
            .run(operation, script, &self.keys, all)
            .await?;
        let mut answer = list(answer).into_iter();
        match answer.next().and_then(text).as_deref() {
            Some("ok") => Ok(answer),
            Some("gone") => {
                self.server.forget(&self.topic);
                let store = answer.next().and_then(text);
                Err(stand::gone(operation, &facts, store.as_deref()))
            }
            Some("stale") => Err(error(
                ErrorKind::PositionLost,
                operation,
                format!(
                    "group `{}` stands in another topic `{}`",
                    self.group, self.topic
                ),
                "the server was restored without it: reset the group",
            )),
            Some("live") => Err(error(
                ErrorKind::Invalid,
                operation,
                format!("group `{}` has live members", self.group),
                "stop them first, and wait 15 s after a crash",
            )),
            _ => Err(odd(operation)),
        }
    }

    /// Stores checkpoints, whoever owns the partitions: only ever as a planted bug.
    async fn overwrite(&self, entries: &[Entry]) -> Result<Vec<Committed>> {
        let pair = |entry: &Entry| {
            let progress = written(entry.progress.as_ref()?);
            Some([index(entry.index), progress.into()])
        };
        let key = std::iter::once(Value::Bytes(self.keys[5].clone()));
        let args = key.chain(entries.iter().filter_map(pair).flatten());
        let link = &self.server.link;
        link.call("commit", "HSET", args.collect()).await?;
        Ok(vec![Committed::Applied; entries.len()])
    }

    /// Gives partitions up under their fences, so that they are taken again from their checkpoints:
    /// the server has lost the events at these places. Not one whose checkpoint stands there.
    pub(crate) async fn free(&self, lost: Vec<(u32, Fence, Position)>) -> Result<Vec<bool>> {
        let triple = |(at, token, place): (u32, Fence, Position)| {
            [index(at), fence(token), reply::id(place).into()]
        };
        let args = lost.into_iter().flat_map(triple);
        let answer = self.run("read", &FREE, self.group.as_str(), args).await?;
        Ok(answer.map(|freed| number(freed) == Some(1)).collect())
    }

    /// Which checkpoints are places of events that the server has lost. That can only have happened
    /// while it was away.
    async fn lost(&self, entries: &[Entry]) -> Result<Vec<bool>> {
        let connects = self.server.link.connects();
        if self.compared.load(Ordering::Relaxed) == connects {
            return Ok(vec![false; entries.len()]);
        }
        let facts = self.facts("commit").await?;
        let place = |entry: &Entry| {
            let frontier = entry
                .progress
                .as_ref()
                .and_then(|progress| progress.frontier);
            (entry.index, frontier.unwrap_or_default())
        };
        let places: Vec<_> = entries.iter().map(place).collect();
        let store = self.keys[1].clone();
        let found = stand::ask(&self.server.link, "commit", &facts, store, &places).await?;
        self.compared.store(connects, Ordering::Relaxed);
        let stands = places.iter().zip(&found.stands);
        Ok(stands
            .map(|((_, place), stand)| stand.lost(&facts, *place))
            .collect())
    }

    /// The places at which a reading of all partitions starts, as checkpoints.
    pub(crate) async fn starts(
        &self,
        operation: &'static str,
        start: &Start,
    ) -> Result<Vec<Value>> {
        let facts = self.facts(operation).await?;
        let store = self.keys[1].clone();
        let places = stand::start(&self.server.link, operation, &facts, store, start).await?;
        let checkpoint = |place: Position| {
            let progress = Progress {
                frontier: Some(place),
                ..Progress::default()
            };
            written(&progress).into()
        };
        Ok(places.into_iter().map(checkpoint).collect())
    }
}

/// A checkpoint as it is stored: the frontier for people and for trimming, then all of it.
fn written(progress: &Progress) -> String {
    let frontier = reply::id(progress.frontier.unwrap_or_default());
    let all = checkpoint::encode(progress, MAX_CHECKPOINT);
    format!("{frontier} {all}")
}

fn life() -> Value {
    let lease = Timing::default().lease.as_millis();
    Value::Integer(i64::try_from(lease).unwrap_or(i64::MAX))
}

fn index(index: u32) -> Value {
    Value::Integer(index.into())
}

fn fence(fence: Fence) -> Value {
    Value::Integer(i64::try_from(fence).unwrap_or(i64::MAX))
}

impl LeaseStore for GroupStore {
    async fn begin(&self, start: &Start) -> Result<()> {
        let starts = self.starts("subscribe", start).await?;
        let begun = self
            .run("subscribe", &BEGIN, self.group.as_str(), starts)
            .await;
        begun.map(|_| ())
    }

    async fn look(&self, me: &MemberId, leaving: bool) -> Result<Picture> {
        let args = [
            Value::Integer(leaving.into()),
            life(),
            self.group.as_str().into(),
        ];
        let mut answer = self.run("read", &LOOK, me.as_str(), args).await?;
        let nearest: Option<i64> = answer.next().and_then(number);
        let live = answer.next().map(texts).unwrap_or_default();
        let mut partitions = Vec::new();
        for row in answer {
            let row = text(row)
                .as_deref()
                .and_then(seen)
                .ok_or_else(|| odd("read"))?;
            partitions.push(row);
        }
        partitions.sort_unstable_by_key(|(index, _)| *index);
        Ok(Picture {
            live: live.into_iter().flatten().map(MemberId::stored).collect(),
            partitions: partitions.into_iter().map(|(_, lease)| lease).collect(),
            next_expiry: nearest
                .and_then(|millis| u64::try_from(millis).ok())
                .map(Duration::from_millis),
        })
    }

    async fn claim(&self, me: &MemberId, seen: Vec<Seen>) -> Result<Vec<Option<Grant>>> {
        let triple = |seen: &Seen| [index(seen.index), fence(seen.fence), fence(seen.token)];
        let args = std::iter::once(life()).chain(seen.iter().flat_map(triple));
        let answer = self.run("read", &CLAIM, me.as_str(), args).await?;
        let grant = |(seen, taken): (&Seen, Resp3Frame)| match text(taken).as_deref() {
            Some("") => Ok(None),
            Some(taken) => granted(seen.index, taken).map(Some),
            None => Err(odd("read")),
        };
        seen.iter().zip(answer).map(grant).collect()
    }

    async fn revoke(&self, me: &MemberId, owned: Vec<(u32, Fence)>) -> Result<()> {
        let pairs = owned
            .iter()
            .flat_map(|(at, token)| [index(*at), fence(*token)]);
        self.run("release", &REVOKE, me.as_str(), pairs)
            .await
            .map(|_| ())
    }

    async fn commit(
        &self,
        me: &MemberId,
        mut entries: Vec<Entry>,
        release: bool,
    ) -> Result<Vec<Committed>> {
        if !self.server.link.is_up() {
            // It would be sent when the server is back, without being compared.
            return Ok(vec![Committed::NotNow; entries.len()]);
        }
        let lost = self.lost(&entries).await?;
        for (entry, lost) in entries.iter_mut().zip(&lost) {
            // The stored checkpoint stays: from there on it is read again.
            entry.progress = entry.progress.take().filter(|_| !lost);
        }
        if planted::is("unfenced-commit") && !release {
            return self.overwrite(&entries).await;
        }
        let triple = |entry: &Entry| {
            let progress = entry.progress.as_ref().map(written).unwrap_or_default();
            [index(entry.index), fence(entry.fence), progress.into()]
        };
        let args = std::iter::once(Value::Integer(release.into()));
        let args = args.chain(entries.iter().flat_map(triple));
        let answer = self.run("commit", &COMMIT, me.as_str(), args).await?;
        let committed = |(answer, lost): (_, bool)| match number::<u8>(answer) {
            Some(1) if !lost => Committed::Applied,
            _ => Committed::Stale,
        };
        let answers: Vec<_> = answer.zip(lost).map(committed).collect();
        match answers.len() == entries.len() {
            true => Ok(answers),
            false => Err(odd("commit")),
        }
    }

    async fn leave(&self, me: &MemberId) -> Result<()> {
        self.run("close", &LEAVE, me.as_str(), []).await.map(|_| ())
    }
}

/// A row of a look: number, fence, owner, whether it passes, how long it is free, token.
fn seen(row: &str) -> Option<(u32, Lease)> {
    let mut words = row.split(' ');
    let index = words.next()?.parse().ok()?;
    let fence = words.next()?.parse().ok()?;
    let owner = words.next().filter(|owner| *owner != "-");
    let lease = Lease {
        fence,
        owner: owner.map(MemberId::stored),
        passing: words.next()? == "1",
        free_for: Duration::from_millis(words.next()?.parse().ok()?),
        token: words.next()?.parse().ok()?,
    };
    Some((index, lease))
}

fn granted(index: u32, taken: &str) -> Result<Grant> {
    let mut words = taken.split(' ');
    let fence = words.next().and_then(|fence| fence.parse().ok());
    let progress = match words.nth(1) {
        Some(progress) => checkpoint::decode(progress)?,
        None => Progress::default(),
    };
    Ok(Grant {
        index,
        fence: fence.ok_or_else(|| odd("read"))?,
        progress,
    })
}
