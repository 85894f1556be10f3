//! Leases and checkpoints in the server: one row per partition that is only ever written at the
//! revision at which it was read.
//!
//! | file | responsibility |
//! |---|---|
//! | `bucket` | the two key-value buckets |
//! | `row` | what is stored |
//! | `keys` | under which keys, and reading them |
//! | `begin` | where a group begins in a topic |

pub(crate) mod begin;
pub(crate) mod bucket;
pub(crate) mod keys;
pub(crate) mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use interline_core::{Committed, Fence, Group, Partition, Progress, Result, Start, Topic};
use interline_transport::lease::{Entry, Grant, Lease, LeaseStore, MemberId, Picture, Seen};
use tokio::time::Instant;

use self::bucket::LEASE;
use self::keys::Keys;
use self::row::Row;
use crate::error::{broken, code};
use crate::horizons::Horizons;
use crate::hub::Hub;
use crate::link::Session;

/// How long somebody who was away, or has just come, leaves the partitions of a member alone
/// that seems dead. After an outage longer than a lease all members seem so, and this is how
/// long they take to show themselves again.
const QUIET: Duration = Duration::from_secs(3);

/// After which time without a look a member counts as having been away.
const AWAY: Duration = LEASE.saturating_sub(Duration::from_secs(5));

/// Where a group keeps its leases and checkpoints of one topic.
pub(crate) struct Store {
    hub: Arc<Hub>,
    group: Group,
    topic: Topic,
    keys: Keys,
    horizons: Arc<Horizons>,
    local: Mutex<Local>,
    /// One write of a partition at a time: the next one needs the revision of the last.
    writing: tokio::sync::Mutex<()>,
}

/// What a member remembers of the store.
#[derive(Default)]
struct Local {
    rows: BTreeMap<u32, Known>,
    /// It has shown that it leaves.
    is_leaving: bool,
    looked: Option<Instant>,
    quiet_until: Option<Instant>,
    /// Since when partitions were seen without an owner.
    free: BTreeMap<u32, Instant>,
}

/// A row as it was read or written last.
#[derive(Clone, Debug)]
struct Known {
    revision: u64,
    row: Row,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("group", &self.group)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(
        hub: &Arc<Hub>,
        horizons: &Arc<Horizons>,
        group: &Group,
        topic: &Topic,
    ) -> Self {
        Self {
            hub: Arc::clone(hub),
            horizons: Arc::clone(horizons),
            keys: Keys::new(hub.names(), group, topic),
            group: group.clone(),
            topic: topic.clone(),
            local: Mutex::default(),
            writing: tokio::sync::Mutex::new(()),
        }
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of now. Waiting for one is the caller's business: it knows how long.
    fn session(&self, operation: &'static str) -> Result<Session> {
        self.hub.check_open(operation)?;
        self.hub.leases().now().ok_or_else(|| broken(operation))
    }

    /// Shows that a member lives. It does so in every look: from its beginning on the member
    /// counts its own lease.
    async fn show(&self, session: &Session, me: &MemberId, leaving: bool) -> Result<()> {
        let put = bucket::put(session, "look", self.keys.member(me, leaving));
        put.await.map_err(|failed| failed.error("look"))?;
        if leaving && !self.local().is_leaving {
            self.forget_member(session, me, false).await?;
            self.local().is_leaving = true;
        }
        Ok(())
    }

    async fn forget_member(&self, session: &Session, me: &MemberId, leaving: bool) -> Result<()> {
        let member = self.keys.member(me, leaving);
        bucket::purge(session, "leave", self.keys.members_stream(), &member).await
    }

    /// Every row of the topic as it stands; nothing if the group is not known.
    async fn rows(&self, session: &Session, partitions: u32) -> Result<Option<Vec<Option<Known>>>> {
        let beginning = self.keys.beginning(session, "look");
        let rows = try_join_all((0..partitions).map(|index| self.row(session, "look", index)));
        let (beginning, rows) = futures_util::future::try_join(beginning, rows).await?;
        Ok(beginning.map(|_| rows))
    }

    async fn row(
        &self,
        session: &Session,
        operation: &'static str,
        index: u32,
    ) -> Result<Option<Known>> {
        let found = self.keys.row(session, operation, index).await?;
        Ok(found.map(|(revision, row)| Known { revision, row }))
    }

    /// Puts rows and members together.
    fn picture(
        &self,
        rows: Vec<Option<Known>>,
        live: BTreeSet<MemberId>,
        leaving: &BTreeSet<MemberId>,
        now: Instant,
    ) -> Picture {
        let mut local = self.local();
        let was_away = local
            .looked
            .is_none_or(|at| now.saturating_duration_since(at) > AWAY);
        if was_away {
            local.quiet_until = Some(now + QUIET);
        }
        local.looked = Some(now);
        let is_quiet = local.quiet_until.is_some_and(|until| now < until);
        let mut live = live;
        let mut partitions = Vec::with_capacity(rows.len());
        for (index, known) in (0..).zip(rows) {
            let owner = known.as_ref().and_then(|known| known.row.owner());
            let is_here = |owner: &MemberId| live.contains(owner) || leaving.contains(owner);
            let owner = owner.filter(|owner| is_quiet || is_here(owner));
            if let Some(owner) = owner.as_ref().filter(|owner| !leaving.contains(*owner)) {
                live.insert(owner.clone());
            }
            let free_for = match owner {
                Some(_) => {
                    local.free.remove(&index);
                    Duration::ZERO
                }
                None => now.saturating_duration_since(*local.free.entry(index).or_insert(now)),
            };
            partitions.push(Lease {
                owner,
                fence: known.as_ref().map_or(0, |known| known.row.fence()),
                passing: known.as_ref().is_some_and(|known| known.row.passing),
                free_for,
                token: known.as_ref().map_or(0, |known| known.revision),
            });
            local.note(index, known);
        }
        Picture {
            live: live.into_iter().collect(),
            partitions,
            next_expiry: None,
        }
    }

    async fn take(&self, session: &Session, me: &MemberId, seen: Seen) -> Result<Option<Grant>> {
        let index = seen.index;
        let known = self.local().rows.get(&index).cloned();
        let known = match known.filter(|known| known.revision == seen.token) {
            Some(known) => Some(known),
            None => self.row(session, "claim", index).await?,
        };
        if known.as_ref().map_or(0, |known| known.revision) != seen.token {
            return Ok(None);
        }
        let row = match known {
            Some(known) => known.row,
            None => match self.keys.beginning(session, "claim").await? {
                Some((_, beginning)) => Row::new(&beginning.progress(index)),
                None => return Ok(None),
            },
        };
        let progress = row.progress()?;
        self.horizons
            .note(&self.partition(index), last(&progress), row.seen());
        let mut row = row.taken(me);
        let subject = self.keys.row_subject(index);
        match bucket::write(session, "claim", subject, row.text(), seen.token).await {
            Ok(revision) => {
                row.taken_at(revision);
                self.local().rows.insert(index, Known { revision, row });
                Ok(Some(Grant {
                    index,
                    fence: revision,
                    progress,
                }))
            }
            Err(failed) if failed.is(code::WRONG_LAST_SEQUENCE) => Ok(None),
            Err(failed) => Err(failed.error("claim")),
        }
    }

    fn partition(&self, index: u32) -> Partition {
        Partition::new(self.topic.clone(), index)
    }

    /// Up to where the partition is known to have no event behind a progress.
    fn seen(&self, index: u32, progress: &Progress) -> u64 {
        self.horizons.behind(&self.partition(index), last(progress))
    }

    /// Notes in rows of `me` what the reading has seen to be empty since they were written.
    async fn note_seen(&self, session: &Session, me: &MemberId) -> Result<()> {
        let mut news = Vec::new();
        for (index, known) in &self.local().rows {
            let row = &known.row;
            if row.owner().as_ref() == Some(me)
                && let Ok(progress) = row.progress()
                && self.seen(*index, &progress) > row.seen().max(last(&progress))
            {
                news.push((*index, row.fence()));
            }
        }
        if news.is_empty() {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        let noting = news.into_iter().map(|(index, fence)| {
            self.change(session, me, index, fence, move |row| {
                if let Ok(progress) = row.progress() {
                    row.set_progress(&progress, self.seen(index, &progress));
                }
            })
        });
        try_join_all(noting).await.map(drop)
    }

    /// Changes a row that `me` owns under `fence`; whether it did.
    async fn change(
        &self,
        session: &Session,
        me: &MemberId,
        index: u32,
        fence: Fence,
        change: impl Fn(&mut Row),
    ) -> Result<bool> {
        let mut known = self.local().rows.remove(&index);
        // The second try is for a row that is still ours at another revision: a write of ours
        // whose answer was lost, or what was remembered is old.
        for _ in 0..2 {
            let current = match known.take().filter(|known| known.row.is_of(me, fence)) {
                Some(known) => Some(known),
                None => self
                    .keys
                    .row_now(session, "commit", index)
                    .await?
                    .map(|(revision, row)| Known { revision, row }),
            };
            let Some(mut current) = current.filter(|known| known.row.is_of(me, fence)) else {
                return Ok(false);
            };
            change(&mut current.row);
            let subject = self.keys.row_subject(index);
            let text = current.row.text();
            match bucket::write(session, "commit", subject, text, current.revision).await {
                Ok(revision) => {
                    let row = current.row;
                    self.local().rows.insert(index, Known { revision, row });
                    return Ok(true);
                }
                Err(failed) if failed.is(code::WRONG_LAST_SEQUENCE) => {}
                Err(failed) => return Err(failed.error("commit")),
            }
        }
        Ok(false)
    }
}

impl Local {
    /// Notes a row that was read, unless a later write of ours is known.
    fn note(&mut self, index: u32, read: Option<Known>) {
        let known = self.rows.get(&index).map_or(0, |known| known.revision);
        match read {
            Some(read) if read.revision >= known => {
                self.rows.insert(index, read);
            }
            Some(_) => {}
            None => {
                self.rows.remove(&index);
            }
        }
    }
}

impl LeaseStore for Store {
    async fn begin(&self, start: &Start) -> Result<()> {
        begin::begin(&self.hub, &self.keys, &self.group, &self.topic, start).await
    }

    async fn look(&self, me: &MemberId, leaving: bool) -> Result<Picture> {
        let session = self.session("look")?;
        let now = Instant::now();
        self.show(&session, me, leaving).await?;
        let facts = self.hub.facts("look", &self.topic).await?;
        // Rows first: whoever is not a member any more when asked later was none at the time.
        let Some(rows) = self.rows(&session, facts.partitions).await? else {
            // Forgotten with its topic, or alone?
            self.hub.ask("look", &self.topic).await?;
            return Ok(Picture::default());
        };
        let (live, gone) = self.keys.members(&session, "look").await?;
        let picture = self.picture(rows, live, &gone, now);
        self.note_seen(&session, me).await?;
        Ok(picture)
    }

    async fn claim(&self, me: &MemberId, seen: Vec<Seen>) -> Result<Vec<Option<Grant>>> {
        let session = self.session("claim")?;
        let _writing = self.writing.lock().await;
        let taking = seen.into_iter().map(|seen| self.take(&session, me, seen));
        try_join_all(taking).await
    }

    async fn revoke(&self, me: &MemberId, owned: Vec<(u32, Fence)>) -> Result<()> {
        let session = self.session("revoke")?;
        let _writing = self.writing.lock().await;
        let noting = owned.into_iter().map(|(index, fence)| {
            self.change(&session, me, index, fence, |row| row.passing = true)
        });
        try_join_all(noting).await.map(drop)
    }

    async fn commit(
        &self,
        me: &MemberId,
        entries: Vec<Entry>,
        release: bool,
    ) -> Result<Vec<Committed>> {
        let session = self.session("commit")?;
        let _writing = self.writing.lock().await;
        let storing = entries.into_iter().map(|entry| {
            let (session, progress) = (&session, entry.progress);
            async move {
                let seen = progress.as_ref().map(|p| self.seen(entry.index, p));
                let apply = |row: &mut Row| apply(row, progress.as_ref().zip(seen), release);
                let (index, fence) = (entry.index, entry.fence);
                match self.change(session, me, index, fence, apply).await {
                    Ok(true) => Ok(Committed::Applied),
                    Ok(false) => Ok(Committed::Stale),
                    Err(error) if error.is_transient() => Ok(Committed::NotNow),
                    Err(error) => Err(error),
                }
            }
        });
        join_all(storing).await.into_iter().collect()
    }

    async fn leave(&self, me: &MemberId) -> Result<()> {
        let session = self.session("leave")?;
        self.forget_member(&session, me, false).await?;
        self.forget_member(&session, me, true).await
    }
}

/// The sequence of the frontier.
fn last(progress: &Progress) -> u64 {
    progress.frontier.map_or(0, |frontier| frontier.1)
}

fn apply(row: &mut Row, progress: Option<(&Progress, u64)>, release: bool) {
    if let Some((progress, seen)) = progress {
        row.set_progress(progress, seen);
    }
    if release {
        row.release();
    }
}
