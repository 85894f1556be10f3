//! The task that keeps a membership: it looks, claims, renews and gives up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use interline_core::{Error, ErrorKind, Result, Start, Topic};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::Inner;
use super::shared::{Duty, Phase};
use crate::lease::{Calls, End, LeaseStore, Leased, Picture};

/// How long after the earliest expiry of others a member looks: a little later than the store
/// thinks that it is over.
const AFTER_EXPIRY: Duration = Duration::from_millis(5);

pub(super) struct Keeper<L: Leased> {
    inner: Arc<Inner<L>>,
    next_look: Instant,
    next_list: Instant,
}

impl<L: Leased> Keeper<L> {
    pub(super) fn new(inner: Arc<Inner<L>>) -> Self {
        let now = Instant::now();
        Self {
            next_look: now,
            next_list: now + inner.shared.timing.topics,
            inner,
        }
    }

    /// Keeps the membership until it is closed.
    pub(super) async fn run(mut self) {
        loop {
            match self.inner.shared.duty(self.next_look, Instant::now()) {
                Duty::Wait(until) => {
                    tokio::select! {
                        () = self.inner.shared.keeper.notified() => {}
                        () = sleep_until(until) => {}
                    }
                }
                Duty::Look => self.turn().await,
                Duty::End => break,
            }
        }
        self.end().await;
    }

    /// Looks at every topic, and does what follows.
    async fn turn(&mut self) {
        let inner = Arc::clone(&self.inner);
        let shared = &*inner.shared;
        let now = Instant::now();
        self.next_look = now + shared.timing.tick;
        let (missing, look) = shared.see(|state| (state.missing.is_some(), state.leases.look(now)));
        let list = missing || now >= self.next_list;
        let Some((pictures, listed)) = self.ask(list).await else {
            return;
        };
        if list && let Some(topics) = self.heard(listed) {
            self.next_list = now + shared.timing.topics;
            self.compare(&topics);
        }
        let pictures = self.answered(pictures);
        let expiry = |(_, picture): &(Topic, Picture)| picture.next_expiry;
        if let Some(expiry) = pictures.iter().filter_map(expiry).min() {
            self.next_look = self.next_look.min(Instant::now() + expiry + AFTER_EXPIRY);
        }
        let calls = shared.change(|state| {
            let calls = state.leases.looked(look, Instant::now(), &pictures);
            calls.unwrap_or_else(|end| {
                state.finish(end);
                Vec::new()
            })
        });
        let calls = calls.into_iter();
        join_all(calls.map(|(topic, calls)| self.call(topic, calls))).await;
    }

    /// Asks the stores, and for the list of topics if it is wanted. A close waits for the answers,
    /// since what is asked could reach a store after the goodbye; but not when they take so long
    /// that the goodbye would suffer.
    async fn ask(&self, list: bool) -> Option<(Vec<(Topic, Result<Picture>)>, Result<Vec<Topic>>)> {
        let shared = &*self.inner.shared;
        let closing = async {
            let mut phase = shared.phase.subscribe();
            drop(phase.wait_for(|phase| *phase != Phase::Open).await);
            sleep(shared.timing.tick).await;
        };
        let asking = async { tokio::join!(self.look(), self.list(list)) };
        tokio::select! {
            answers = asking => Some(answers),
            () = closing => None,
        }
    }

    async fn look(&self) -> Vec<(Topic, Result<Picture>)> {
        let (me, leaving, topics) = self.inner.shared.see(|state| {
            let topics: Vec<_> = state.leases.topics().cloned().collect();
            (state.leases.me().clone(), state.leases.is_leaving(), topics)
        });
        let looks = topics.into_iter().filter_map(|topic| {
            let place = self.inner.place(&topic)?;
            let me = me.clone();
            Some(async move {
                let look = async {
                    // A topic that appears is read from its first event on.
                    place.begin(&Start::Earliest).await?;
                    place.store.look(&me, leaving).await
                };
                (topic, self.patiently(look).await)
            })
        });
        join_all(looks).await
    }

    /// The topics, if they are asked for.
    async fn list(&self, wanted: bool) -> Result<Vec<Topic>> {
        if !wanted {
            return Ok(Vec::new());
        }
        let Inner { leased, spec, .. } = &*self.inner;
        self.patiently(leased.topics(spec)).await
    }

    async fn patiently<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let late = |_| Err(Error::new(ErrorKind::Timeout, "read", "no answer in time"));
        timeout(self.inner.shared.timing.answer, call)
            .await
            .unwrap_or_else(late)
    }

    /// The answer, if there is one; an error that does not pass ends the membership.
    fn heard<T>(&self, answer: Result<T>) -> Option<T> {
        match answer {
            Ok(answer) => return Some(answer),
            Err(error) if error.is_transient() => {
                tracing::debug!(target: "interline::lease", %error, "it is tried again");
            }
            Err(error) => self.inner.shared.fail(error),
        }
        None
    }

    /// The same of a topic, which may be no more.
    fn heard_of<T>(&self, topic: &Topic, answer: Result<T>) -> Option<T> {
        match answer {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.remove(topic);
                None
            }
            other => self.heard(other),
        }
    }

    fn answered(&self, answers: Vec<(Topic, Result<Picture>)>) -> Vec<(Topic, Picture)> {
        let heard = |(topic, answer)| {
            let picture = self.heard_of(&topic, answer)?;
            Some((topic, picture))
        };
        answers.into_iter().filter_map(heard).collect()
    }

    /// Takes part in topics that have appeared and no more in those that are gone.
    fn compare(&self, topics: &[Topic]) {
        let listed: BTreeSet<&Topic> = topics.iter().collect();
        let known = self
            .inner
            .shared
            .see(|state| state.leases.topics().cloned().collect::<BTreeSet<_>>());
        for topic in listed.iter().filter(|topic| !known.contains(**topic)) {
            self.inner.add(topic);
            self.inner
                .shared
                .change(|state| state.leases.add_topic((*topic).clone()));
        }
        let gone: Vec<_> = known.iter().filter(|t| !listed.contains(t)).collect();
        gone.iter().for_each(|topic| self.remove(topic));
        self.inner.shared.change(|state| {
            if let Some(error) = state.missing.take().filter(|_| gone.is_empty()) {
                state.finish(End::Failed(error));
            }
        });
        self.inner.shared.reader.notify_one();
    }

    fn remove(&self, topic: &Topic) {
        self.inner.forget(topic);
        let mut exact = self.inner.spec.topics.iter().filter_map(|p| p.as_exact());
        let named = exact.any(|name| name == topic.as_str());
        self.inner.shared.change(|state| {
            state.leases.remove_topic(topic);
            if named {
                state.finish(End::Deleted(topic.clone()));
            }
        });
    }

    /// Makes the calls of one topic, all at a time: they concern different partitions.
    async fn call(&self, topic: Topic, calls: Calls) {
        let Some(place) = self.inner.place(&topic) else {
            return;
        };
        let me = self.inner.shared.me();
        let release = self.release(&topic, calls.release);
        let revoke = async {
            if !calls.revoke.is_empty() {
                let noted = self.patiently(place.store.revoke(&me, calls.revoke)).await;
                self.heard_of(&topic, noted);
            }
        };
        let claim = async {
            if !calls.claim.is_empty() {
                let claimed = self.patiently(place.store.claim(&me, calls.claim)).await;
                if let Some(grants) = self.heard_of(&topic, claimed) {
                    let grants = grants.into_iter().flatten().collect();
                    let take = |state: &mut super::shared::State| {
                        state.leases.claimed(&topic, grants, Instant::now());
                    };
                    self.inner.shared.change(take);
                }
            }
        };
        let leave = async {
            for former in &calls.leave {
                let left = self.patiently(place.store.leave(former)).await;
                self.heard_of(&topic, left);
            }
        };
        tokio::join!(release, revoke, claim, leave);
    }

    async fn release(&self, topic: &Topic, entries: Vec<crate::lease::Entry>) {
        let Some(place) = self.inner.place(topic).filter(|_| !entries.is_empty()) else {
            return;
        };
        let me = self.inner.shared.me();
        let fences: Vec<_> = entries.iter().map(|e| (e.index, e.fence)).collect();
        let answer = self.patiently(place.store.commit(&me, entries, true)).await;
        let answers = self.heard_of(topic, answer).unwrap_or_default();
        self.inner.shared.change(|state| {
            for (at, (index, fence)) in fences.into_iter().enumerate() {
                let partition = interline_core::Partition::new(topic.clone(), index);
                state
                    .leases
                    .released(&partition, fence, answers.get(at).copied());
            }
        });
    }

    /// Waits for the close, and says goodbye to the stores.
    async fn end(&self) {
        let mut phase = self.inner.shared.phase.subscribe();
        let closing = phase.wait_for(|phase| *phase != Phase::Open).await;
        let Ok(Phase::Closing(until)) = closing.map(|phase| *phase) else {
            return;
        };
        let told = timeout_at(until, self.goodbye()).await.is_ok();
        self.inner.shared.phase.send_replace(Phase::Closed(told));
    }

    /// Leaves every topic, after the last checkpoints; what fails is tried again.
    async fn goodbye(&self) {
        let mut left: Vec<_> = self
            .inner
            .shared
            .see(|state| state.leases.topics().cloned().collect());
        loop {
            let releases = self
                .inner
                .shared
                .change(|state| state.leases.last_releases());
            let releases = releases.into_iter();
            join_all(releases.map(async |(topic, entries)| self.release(&topic, entries).await))
                .await;
            let me = self.inner.shared.me();
            let leaving = left.into_iter().map(|topic| {
                let me = me.clone();
                async move {
                    let place = self.inner.place(&topic)?;
                    let gone = self.patiently(place.store.leave(&me)).await;
                    let transient = gone.is_err_and(|error| error.is_transient());
                    transient.then_some(topic)
                }
            });
            left = join_all(leaving).await.into_iter().flatten().collect();
            if left.is_empty() {
                return;
            }
            sleep(self.inner.shared.timing.tick).await;
        }
    }
}
