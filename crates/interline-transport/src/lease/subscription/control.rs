//! The control of a member.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use interline_core::{
    Checkpoint, Committed, Error, ErrorKind, Fence, Flow, Partition, Result, Topic,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::shared::{Phase, Shared};
use super::{Membership, Stores};
use crate::lease::{End, Entry};

/// What a member tells its stores. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
    stores: Arc<dyn Stores>,
    membership: Arc<Membership>,
}

/// A control that does not keep its membership alive: for a transport that closes all of them.
#[derive(Debug)]
pub struct WeakControl {
    shared: Arc<Shared>,
    stores: Arc<dyn Stores>,
    membership: Weak<Membership>,
}

impl WeakControl {
    /// The control, if any handle of the membership is left.
    #[must_use]
    pub fn upgrade(&self) -> Option<Control> {
        Some(Control {
            shared: Arc::clone(&self.shared),
            stores: Arc::clone(&self.stores),
            membership: self.membership.upgrade()?,
        })
    }
}

impl Control {
    pub(super) fn new(
        shared: Arc<Shared>,
        stores: Arc<dyn Stores>,
        membership: Arc<Membership>,
    ) -> Self {
        Self {
            shared,
            stores,
            membership,
        }
    }

    /// A control that does not keep the membership alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakControl {
        WeakControl {
            shared: Arc::clone(&self.shared),
            stores: Arc::clone(&self.stores),
            membership: Arc::downgrade(&self.membership),
        }
    }

    /// Stores checkpoints, those of one topic in one step; of what is not owned it is known
    /// without asking.
    async fn store(&self, checkpoints: Vec<Checkpoint>, release: bool) -> Result<Vec<Committed>> {
        let shared = &*self.shared;
        let partitions = checkpoints.iter().map(|c| (c.partition.clone(), c.fence));
        let mut pending = Pending {
            shared,
            release,
            partitions: partitions.collect(),
            answers: Vec::new(),
        };
        let operation = if release { "release" } else { "commit" };
        let sent = pending.begin(operation, checkpoints)?;
        let (patience, unanswered) = if release {
            // It is sent again.
            (shared.timing.answer, Committed::NotNow)
        } else {
            // It could still overtake a later one. Under another fence it cannot.
            (shared.timing.give_up, Committed::Stale)
        };
        let me = shared.me();
        let calls = sent.into_iter().map(|(topic, (places, entries))| {
            let me = &me;
            async move {
                let stored = self.stores.commit(&topic, me, entries, release);
                let answer = timeout(patience, stored).await;
                let unanswered = |_| Ok(vec![unanswered; places.len()]);
                let answer = answer.unwrap_or_else(unanswered);
                (places, answer)
            }
        });
        let mut failed = None;
        for (places, answers) in join_all(calls).await {
            failed = pending.take(&places, answers).or(failed);
        }
        failed.map_or_else(|| Ok(std::mem::take(&mut pending.answers)), Err)
    }
}

/// Checkpoints on their way. Dropped, those of a release that have no answer are sent again.
struct Pending<'a> {
    shared: &'a Shared,
    release: bool,
    partitions: Vec<(Partition, Fence)>,
    answers: Vec<Committed>,
}

/// Per topic, the places of the answers and what to store.
type Sent = BTreeMap<Topic, (Vec<usize>, Vec<Entry>)>;

impl Pending<'_> {
    fn begin(&mut self, operation: &'static str, checkpoints: Vec<Checkpoint>) -> Result<Sent> {
        let now = Instant::now();
        self.shared.change(|state| {
            if let Some(end @ (End::Closed | End::Deleted(_) | End::Forgotten)) = &state.end {
                return Err(end.error(operation, self.shared.scheme));
            }
            self.shared.ask(state, now);
            self.shared.expire(state, now);
            let mut sent = Sent::new();
            for (place, checkpoint) in checkpoints.into_iter().enumerate() {
                self.answers.push(Committed::Stale);
                let topic = checkpoint.partition.topic.clone();
                let entry = if self.release {
                    state.leases.release(checkpoint)
                } else {
                    state.leases.commit(checkpoint)
                };
                if let Some(entry) = entry {
                    // Until there is an answer nothing is known.
                    self.answers[place] = Committed::NotNow;
                    let (places, entries) = sent.entry(topic).or_default();
                    places.push(place);
                    entries.push(entry);
                }
            }
            Ok(sent)
        })
    }

    /// Takes the answers of one topic; an error that does not pass is given back.
    fn take(&mut self, places: &[usize], answers: Result<Vec<Committed>>) -> Option<Error> {
        let (answers, failed) = match answers {
            Ok(answers) => (answers, None),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.shared.hurry();
                (vec![Committed::Stale; places.len()], None)
            }
            Err(error) if error.is_transient() => return None,
            Err(error) => (Vec::new(), Some(error)),
        };
        self.shared.change(|state| {
            for (place, answer) in places.iter().zip(answers) {
                let (partition, fence) = &self.partitions[*place];
                self.answers[*place] = answer;
                if self.release {
                    state.leases.released(partition, *fence, Some(answer));
                } else if answer == Committed::Stale {
                    state.leases.stale(partition, *fence);
                }
            }
        });
        failed
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.release {
            self.shared.change(|state| {
                for (partition, fence) in &self.partitions {
                    state.leases.released(partition, *fence, None);
                }
            });
        }
    }
}

impl interline_core::Control for Control {
    async fn commit(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.store(checkpoints, false).await
    }

    async fn release(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.store(checkpoints, true).await
    }

    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        self.shared.flow(partition, fence, flow);
    }

    fn leave(&self) {
        let shared = &self.shared;
        shared.change(|state| state.leases.leave());
        // Others should know before the first partition is released.
        shared.hurry();
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let shared = &self.shared;
        let until = Instant::now() + deadline;
        shared.close(until);
        let mut phase = shared.phase.subscribe();
        let closed = phase.wait_for(|phase| matches!(phase, Phase::Closed(_)));
        match timeout_at(until, closed).await {
            Ok(Ok(phase)) if *phase == Phase::Closed(true) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Timeout,
                "close",
                "the server did not hear of it in time",
            )
            .on(shared.scheme)
            .remedy("nothing: it will notice when the lease is over")),
        }
    }
}
