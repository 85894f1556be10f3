//! The leases of one group on one topic in a table: what a store has to do, as small as it can
//! be, on a clock that whoever calls gives it. Times are in milliseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use interline_core::{Committed, Fence, Progress};
use interline_transport::lease::{Entry, Grant, Lease, MemberId, Picture, Seen};

/// The leases of one group on one topic.
#[derive(Debug)]
pub(crate) struct Table {
    lease: u64,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) expires: u64,
    leaving: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) owner: Option<MemberId>,
    pub(crate) fence: Fence,
    /// When the lease is over; 0 without an owner.
    pub(crate) expires: u64,
    passing: bool,
    free_since: u64,
    pub(crate) progress: Progress,
}

impl Row {
    fn free(&mut self, now: u64) {
        self.owner = None;
        self.expires = 0;
        self.passing = false;
        self.free_since = now;
    }

    pub(crate) fn owner_at(&self, now: u64) -> Option<&MemberId> {
        self.owner.as_ref().filter(|_| self.expires > now)
    }

    fn lease(&self, now: u64) -> Lease {
        let owner = self.owner_at(now).cloned();
        let free_since = match self.owner {
            Some(_) => self.expires,
            None => self.free_since,
        };
        Lease {
            free_for: match owner {
                Some(_) => Duration::ZERO,
                None => Duration::from_millis(now.saturating_sub(free_since)),
            },
            owner,
            fence: self.fence,
            passing: self.passing,
            token: self.expires,
        }
    }
}

impl Table {
    /// Partitions that start from these checkpoints, with leases of so many milliseconds.
    pub(crate) fn new(starts: Vec<Progress>, lease: u64, now: u64) -> Self {
        let row = |progress| Row {
            owner: None,
            fence: 0,
            expires: 0,
            passing: false,
            free_since: now,
            progress,
        };
        Self {
            lease,
            members: BTreeMap::new(),
            rows: starts.into_iter().map(row).collect(),
        }
    }

    /// The members whose time is not over.
    pub(crate) fn live(&mut self, now: u64) -> usize {
        self.members.retain(|_, member| member.expires > now);
        self.members.len()
    }

    pub(crate) fn look(&mut self, now: u64, me: &MemberId, leaving: bool) -> Picture {
        let expires = now + self.lease;
        self.members.insert(me.clone(), Member { expires, leaving });
        self.live(now);
        for row in self
            .rows
            .iter_mut()
            .filter(|r| r.owner.as_ref() == Some(me))
        {
            row.expires = expires;
        }
        let others = self.members.iter().filter(|(id, _)| *id != me);
        let leases = self
            .rows
            .iter()
            .filter(|row| row.owner.as_ref() != Some(me));
        let expiries = others.map(|(_, member)| member.expires);
        let expiries = expiries.chain(leases.map(|row| row.expires));
        let next = expiries.filter(|at| *at > now).min();
        let staying = self.members.iter().filter(|(_, member)| !member.leaving);
        Picture {
            live: staying.map(|(id, _)| id.clone()).collect(),
            partitions: self.rows.iter().map(|row| row.lease(now)).collect(),
            next_expiry: next.map(|at| Duration::from_millis(at - now)),
        }
    }

    /// Takes partitions; without `compare` whether or not they still stand as they were seen,
    /// which is a mistake made on purpose.
    pub(crate) fn claim(
        &mut self,
        now: u64,
        me: &MemberId,
        seen: &[Seen],
        compare: bool,
    ) -> Vec<Option<Grant>> {
        let take = |seen: &Seen| {
            let row = &mut self.rows[seen.index as usize];
            if compare && (row.fence, row.expires) != (seen.fence, seen.token) {
                return None;
            }
            // Who does not compare writes what follows from what it saw.
            row.fence = seen.fence + 1;
            row.owner = Some(me.clone());
            row.expires = now + self.lease;
            row.passing = false;
            Some(Grant {
                index: seen.index,
                fence: row.fence,
                progress: row.progress.clone(),
            })
        };
        seen.iter().map(take).collect()
    }

    pub(crate) fn revoke(&mut self, me: &MemberId, owned: &[(u32, Fence)]) {
        for (index, fence) in owned {
            if let Some(row) = self.owned(me, *index, *fence) {
                row.passing = true;
            }
        }
    }

    pub(crate) fn commit(
        &mut self,
        now: u64,
        me: &MemberId,
        entries: &[Entry],
        release: bool,
    ) -> Vec<Committed> {
        let store = |entry: &Entry| {
            let Some(row) = self.owned(me, entry.index, entry.fence) else {
                return Committed::Stale;
            };
            if let Some(progress) = &entry.progress {
                row.progress = progress.clone();
            }
            if release {
                row.free(now);
            }
            Committed::Applied
        };
        entries.iter().map(store).collect()
    }

    pub(crate) fn leave(&mut self, now: u64, me: &MemberId) {
        self.members.remove(me);
        for row in self
            .rows
            .iter_mut()
            .filter(|r| r.owner.as_ref() == Some(me))
        {
            row.free(now);
        }
    }

    fn owned(&mut self, me: &MemberId, index: u32, fence: Fence) -> Option<&mut Row> {
        let row = self.rows.get_mut(index as usize)?;
        (row.owner.as_ref() == Some(me) && row.fence == fence).then_some(row)
    }
}
