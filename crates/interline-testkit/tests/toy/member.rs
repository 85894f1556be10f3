//! The one member of a group: its feed and its control.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interline_core::{
    Budget, Checkpoint, Committed, Control, Error, Feed, Fence, Flow, Group, Partition, Result,
    Signal, Start, SubscribeSpec,
};
use tokio::sync::watch;

use super::transport::{Members, Toy};

/// A member. The place in the group is taken by whoever reads first, and is free when nobody
/// holds the member any more.
#[derive(Debug)]
pub(crate) struct Member {
    toy: Toy,
    group: Group,
    id: u64,
    ended: AtomicBool,
}

impl Member {
    pub(crate) fn new(toy: Toy, group: Group, id: u64) -> Self {
        Self {
            toy,
            group,
            id,
            ended: AtomicBool::new(false),
        }
    }

    /// Acts on the group if the member has the place in it.
    fn with<T>(
        &self,
        operation: &'static str,
        then: impl FnOnce(&mut Members) -> T,
    ) -> Result<Option<T>> {
        self.toy.open(operation)?;
        if self.ended.load(Ordering::SeqCst) {
            return Err(Error::closed(operation).on("toy"));
        }
        let mut data = self.toy.shared.lock();
        let group = data.groups.get_mut(&self.group);
        let mine = group.filter(|group| group.member == Some(self.id));
        Ok(mine.map(then))
    }

    fn take_place(&self) {
        if self.ended.load(Ordering::SeqCst) {
            return;
        }
        let mut data = self.toy.shared.lock();
        let group = data.groups.entry(self.group.clone()).or_default();
        if group.member.is_none() {
            (group.member, group.leaving) = (Some(self.id), false);
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let mut data = self.toy.shared.lock();
        let group = data.groups.get_mut(&self.group);
        if let Some(group) = group.filter(|group| group.member == Some(self.id)) {
            group.member = None;
            group.owned.clear();
        }
        drop(data);
        self.toy.shared.changed();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug)]
pub(crate) struct ToyFeed {
    member: Arc<Member>,
    spec: SubscribeSpec,
    start: Start,
    changes: watch::Receiver<u64>,
}

impl ToyFeed {
    pub(crate) fn new(member: &Arc<Member>, spec: SubscribeSpec) -> Self {
        Self {
            member: Arc::clone(member),
            start: spec.start.clone(),
            spec,
            changes: member.toy.shared.changes.subscribe(),
        }
    }

    fn step(&mut self, budget: Budget) -> Result<Option<Signal>> {
        self.member.take_place();
        if self.member.with("read", |_| ())?.is_none() {
            return Ok(None);
        }
        let mut data = self.member.toy.shared.lock();
        // What appears later is read from its first event.
        let start = std::mem::take(&mut self.start);
        let assigned = data.assign(&self.spec, &start)?;
        if !assigned.is_empty() {
            return Ok(Some(Signal::Assigned(assigned)));
        }
        Ok(data.batch(&self.spec.group, budget)?.map(Signal::Batch))
    }
}

impl Feed for ToyFeed {
    async fn next(&mut self, budget: Budget) -> Result<Signal> {
        tokio::task::consume_budget().await;
        loop {
            self.changes.borrow_and_update();
            if let Some(signal) = self.step(budget)? {
                return Ok(signal);
            }
            if self.changes.changed().await.is_err() {
                return Err(Error::closed("read"));
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct ToyControl {
    pub(crate) member: Arc<Member>,
}

impl ToyControl {
    fn store(&self, checkpoints: Vec<Checkpoint>, release: bool) -> Result<Vec<Committed>> {
        let count = checkpoints.len();
        let answers = self.member.with("commit", |group| {
            let store = |Checkpoint {
                             partition,
                             fence,
                             progress,
                         }| {
                if group
                    .owned
                    .get(&partition)
                    .is_none_or(|owned| owned.fence != fence)
                {
                    return Committed::Stale;
                }
                if release {
                    group.owned.remove(&partition);
                }
                group.progress.insert(partition, progress);
                Committed::Applied
            };
            checkpoints.into_iter().map(store).collect()
        });
        self.member.toy.shared.changed();
        Ok(answers?.unwrap_or_else(|| vec![Committed::Stale; count]))
    }
}

impl Control for ToyControl {
    async fn commit(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.store(checkpoints, false)
    }

    async fn release(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.store(checkpoints, true)
    }

    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        // A member that is gone has nothing to open or stop.
        let _ = self.member.with("flow", |group| {
            let owned = group.owned.get_mut(partition);
            if let Some(owned) = owned.filter(|owned| owned.fence == fence) {
                owned.flow = flow;
            }
        });
        self.member.toy.shared.changed();
    }

    fn leave(&self) {
        let _ = self.member.with("leave", |group| group.leaving = true);
    }

    async fn close(&self, _: Duration) -> Result<()> {
        self.member.end();
        Ok(())
    }
}
