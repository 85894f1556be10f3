//! A member of a group that speaks to the transport itself, and holds it to the contract.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interline_core::{
    AnyControl, AnyFeed, AnyTransport, Batch, Budget, Checkpoint, Committed, Control, ErrorKind,
    Feed, Fence, Partition, Position, Recorded, Signal, SubscribeSpec, Transport,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Breach, Gate, Harness, Journal, Verdict};

/// What a member has seen.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Assigned(Checkpoint),
    Record(Partition, Recorded),
    Revoking(Partition, Duration),
    Released(Committed),
    Lost,
    Ended(ErrorKind),
    /// The transport did what the contract forbids.
    Breach(Breach),
}

/// A member whose task reads its feed, settles all that it reads and releases what is revoked.
pub(crate) struct Member<'a> {
    harness: &'a Harness,
    pub(crate) control: AnyControl,
    pub(crate) seen: Arc<Journal<Seen>>,
    state: Arc<State>,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    feed: oneshot::Receiver<AnyFeed>,
}

struct State {
    owned: Mutex<BTreeMap<Partition, Checkpoint>>,
    /// Shut, the member asks its feed for nothing.
    reading: Gate,
    releases: bool,
}

impl State {
    fn owned(&self) -> MutexGuard<'_, BTreeMap<Partition, Checkpoint>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Member<'a> {
    /// Joins and reads on, releasing what is revoked.
    pub(crate) async fn join(
        harness: &'a Harness,
        transport: &AnyTransport,
        spec: SubscribeSpec,
    ) -> Verdict<Self> {
        Self::start(harness, transport, spec, true).await
    }

    /// Joins and reads on, deaf to revocations.
    pub(crate) async fn join_deaf(
        harness: &'a Harness,
        transport: &AnyTransport,
        spec: SubscribeSpec,
    ) -> Verdict<Self> {
        Self::start(harness, transport, spec, false).await
    }

    async fn start(
        harness: &'a Harness,
        transport: &AnyTransport,
        spec: SubscribeSpec,
        releases: bool,
    ) -> Verdict<Self> {
        let joining = harness.within("a subscription", transport.subscribe(spec));
        let (feed, control) = joining.await??;
        let seen = Arc::new(Journal::default());
        let state = Arc::new(State {
            owned: Mutex::default(),
            reading: Gate::opened(),
            releases,
        });
        let reading = Reading {
            control: control.clone(),
            seen: Arc::clone(&seen),
            state: Arc::clone(&state),
        };
        let (stop, stopped) = oneshot::channel();
        let (give, back) = oneshot::channel();
        Ok(Self {
            harness,
            control,
            seen,
            state,
            task: tokio::spawn(reading.run(feed, stopped, give)),
            stop,
            feed: back,
        })
    }

    /// Stops or goes on asking the feed for signals.
    pub(crate) fn reads(&self, reads: bool) {
        self.state.reading.set(reads);
    }

    /// What it owns, with the progress to be stored: all that it has read is settled.
    pub(crate) fn owned(&self) -> BTreeMap<Partition, Checkpoint> {
        self.state.owned().clone()
    }

    /// The checkpoint of a partition that it owns.
    pub(crate) fn checkpoint(&self, partition: &Partition) -> Verdict<Checkpoint> {
        let owned = self.state.owned().get(partition).cloned();
        owned.ok_or_else(|| Breach::new(format!("{partition} is not owned")))
    }

    /// Waits until `look` finds something in what it has seen; any breach of the contract ends
    /// the wait.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&[Seen]) -> Option<T>,
    ) -> Verdict<T> {
        let look = |seen: &[Seen]| {
            let breach = seen.iter().find_map(|seen| match seen {
                Seen::Breach(breach) => Some(breach.clone()),
                _ => None,
            });
            match breach {
                Some(breach) => Some(Err(breach)),
                None => look(seen).map(Ok),
            }
        };
        self.harness.until(what, &self.seen, look).await?
    }

    /// Waits until it owns so many partitions.
    pub(crate) async fn owns(&self, partitions: usize) -> Verdict {
        let state = Arc::clone(&self.state);
        let look = move |_: &[Seen]| (state.owned().len() == partitions).then_some(());
        self.until(&format!("{partitions} partitions"), look).await
    }

    /// Waits until it has read so many records in all, and returns them.
    pub(crate) async fn records(&self, count: usize) -> Verdict<Vec<(Partition, Recorded)>> {
        let what = format!("{count} records");
        let look = |seen: &[Seen]| {
            let records = records_of(seen);
            (records.len() >= count).then_some(records)
        };
        self.until(&what, look).await
    }

    /// Waits until its feed has ended, and says how.
    pub(crate) async fn ended(&self) -> Verdict<ErrorKind> {
        let look = |seen: &[Seen]| {
            seen.iter().find_map(|seen| match seen {
                Seen::Ended(kind) => Some(*kind),
                _ => None,
            })
        };
        self.until("the end of the feed", look).await
    }

    /// Stores what it has settled, for everything that it owns, until it is applied.
    pub(crate) async fn commit(&self) -> Verdict {
        let checkpoints: Vec<_> = self.owned().into_values().collect();
        self.commit_these(checkpoints).await
    }

    /// Stores checkpoints until they are applied.
    pub(crate) async fn commit_these(&self, checkpoints: Vec<Checkpoint>) -> Verdict {
        for checkpoint in checkpoints {
            let partition = checkpoint.partition.clone();
            match self.try_commit(checkpoint).await? {
                Committed::Applied => {}
                other => return Err(Breach::new(format!("{partition} was {other:?}"))),
            }
        }
        Ok(())
    }

    /// Stores one checkpoint; what is not applied now is tried again.
    pub(crate) async fn try_commit(&self, checkpoint: Checkpoint) -> Verdict<Committed> {
        let trying = async {
            loop {
                let answers = self.control.commit(vec![checkpoint.clone()]).await?;
                match answers.as_slice() {
                    [Committed::NotNow] => tokio::task::yield_now().await,
                    [answer] => return Ok(*answer),
                    other => return Err(Breach::new(format!("{} answers for one", other.len()))),
                }
            }
        };
        self.harness.within("a commit", trying).await?
    }

    /// Leaves in order: releases all that it owns with what it has settled, and closes.
    pub(crate) async fn leave(self) -> Verdict {
        self.control.leave();
        let checkpoints: Vec<_> = self.owned().into_values().collect();
        if !checkpoints.is_empty() {
            let releasing = self.control.release(checkpoints);
            self.harness.within("a release", releasing).await??;
        }
        let closing = self.control.close(self.harness.deadline());
        self.harness
            .within("the end of a membership", closing)
            .await??;
        self.task.abort();
        Ok(())
    }

    /// Dies without a goodbye.
    pub(crate) async fn kill(self) -> Verdict {
        // A task that has ended holds no feed any more.
        let _ = self.stop.send(());
        let feed = self.harness.within("the feed", self.feed).await?;
        let feed = feed.map_err(|_| Breach::new("the feed had ended before it was killed"))?;
        Ok(self.harness.kill_member(feed, self.control).await?)
    }
}

/// The task of a member.
struct Reading {
    control: AnyControl,
    seen: Arc<Journal<Seen>>,
    state: Arc<State>,
}

impl Reading {
    async fn run(
        self,
        mut feed: AnyFeed,
        mut stopped: oneshot::Receiver<()>,
        give: oneshot::Sender<AnyFeed>,
    ) {
        loop {
            let reading = &self.state.reading;
            let next = async {
                reading.pass().await;
                feed.next(Budget::default()).await
            };
            let signal = tokio::select! {
                _ = &mut stopped => break,
                signal = next => signal,
                () = reading.until_shut() => {
                    reading.pass().await;
                    continue;
                }
            };
            match signal {
                Ok(signal) => self.take(signal).await,
                Err(error) => return self.seen.note(Seen::Ended(error.kind())),
            }
        }
        // Nobody waits for it if the member was dropped.
        let _ = give.send(feed);
    }

    async fn take(&self, signal: Signal) {
        match signal {
            Signal::Assigned(checkpoints) => checkpoints.into_iter().for_each(|c| self.assigned(c)),
            Signal::Batch(batch) => self.batch(batch),
            Signal::Revoking {
                partitions,
                deadline,
            } => {
                for partition in partitions {
                    self.revoked(partition, deadline).await;
                }
            }
            Signal::Lost { partitions } => {
                for partition in partitions {
                    self.state.owned().remove(&partition);
                    self.seen.note(Seen::Lost);
                }
            }
        }
    }

    fn assigned(&self, checkpoint: Checkpoint) {
        let partition = checkpoint.partition.clone();
        let former = self
            .state
            .owned()
            .insert(partition.clone(), checkpoint.clone());
        if former.is_some_and(|former| former.fence >= checkpoint.fence) {
            self.breach(format!("{partition} came again under no higher fence"));
        }
        self.seen.note(Seen::Assigned(checkpoint));
    }

    fn batch(&self, batch: Batch) {
        let Batch {
            partition,
            fence,
            records,
        } = batch;
        if records.is_empty() {
            self.breach(format!("an empty batch of {partition}"));
        }
        for record in records {
            if let Err(why) = self.settle(&partition, fence, record.position) {
                self.breach(format!("record {} of {partition} {why}", record.position));
            }
            let seen = Seen::Record(partition.clone(), record);
            self.seen.note(seen);
        }
    }

    fn settle(
        &self,
        partition: &Partition,
        fence: Fence,
        at: Position,
    ) -> Result<(), &'static str> {
        let mut owned = self.state.owned();
        let Some(checkpoint) = owned.get_mut(partition) else {
            return Err("came while the partition was not owned");
        };
        if checkpoint.fence != fence {
            return Err("came under another fence than that of the assignment");
        }
        if checkpoint
            .progress
            .frontier
            .is_some_and(|frontier| at <= frontier)
        {
            return Err("came out of order, or twice");
        }
        checkpoint.progress.frontier = Some(at);
        Ok(())
    }

    async fn revoked(&self, partition: Partition, deadline: Duration) {
        let checkpoint = self.state.owned().remove(&partition);
        self.seen.note(Seen::Revoking(partition.clone(), deadline));
        let Some(checkpoint) = checkpoint else {
            return self.breach(format!("{partition} was revoked but not owned"));
        };
        if !self.state.releases {
            return;
        }
        match self.control.release(vec![checkpoint]).await {
            Ok(answers) => {
                for answer in answers {
                    self.seen.note(Seen::Released(answer));
                }
            }
            Err(error) => self.breach(format!("a release failed: {error}")),
        }
    }

    fn breach(&self, what: String) {
        self.seen.note(Seen::Breach(Breach::new(what)));
    }
}

/// The records among what was seen.
pub(crate) fn records_of(seen: &[Seen]) -> Vec<(Partition, Recorded)> {
    let record = |seen: &Seen| match seen {
        Seen::Record(partition, record) => Some((partition.clone(), record.clone())),
        _ => None,
    };
    seen.iter().filter_map(record).collect()
}
