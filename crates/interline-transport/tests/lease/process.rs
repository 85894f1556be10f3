//! A process: one member with its own clock, its calls on their way, and what it works on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use interline_core::{Checkpoint, Committed, Fence, Partition, Position, Progress, Signal, Topic};
use interline_transport::lease::{
    Calls, End, Entry, Grant, Leases, Look, MemberId, Picture, Seen, Timing,
};
use tokio::time::Instant;

/// The clock of a process: never goes back, but may be fast or slow, jump ahead, or stand still
/// while the process does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
    pub(crate) rate: f64,
    at: u64,
    shown: f64,
}

impl Clock {
    pub(crate) fn new(base: Instant, rate: f64, now: u64) -> Self {
        Self {
            base,
            rate,
            at: now,
            shown: now as f64,
        }
    }

    pub(crate) fn now(&mut self, now: u64) -> Instant {
        self.shown += (now - self.at) as f64 * self.rate;
        self.at = now;
        self.base + Duration::from_micros((self.shown * 1_000.0) as u64)
    }

    /// It stood still until now.
    pub(crate) fn stood_still(&mut self, now: u64) {
        self.at = now;
    }

    pub(crate) fn jump(&mut self, millis: u64) {
        self.shown += millis as f64;
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Look { leaving: bool },
    Claim(Vec<Seen>),
    Revoke(Vec<(u32, Fence)>),
    Commit { entries: Vec<Entry>, release: bool },
    Leave(MemberId),
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Picture(Picture),
    Grants(Vec<Option<Grant>>),
    Committed(Vec<Committed>),
    Done,
}

/// A call on its way to the store of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) topic: Topic,
    pub(crate) me: MemberId,
    pub(crate) request: Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    /// Stopped until then; its clock stands still too if so.
    Paused {
        until: u64,
        clock: bool,
    },
    Dead,
}

/// What a process does about a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Releases,
    Deaf,
}

#[derive(Debug)]
struct Sent {
    call: Call,
    until: Instant,
}

/// A partition that is worked on.
#[derive(Clone, Copy, Debug)]
struct Work {
    fence: Fence,
    done: u64,
    release_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) leases: Leases,
    pub(crate) clock: Clock,
    pub(crate) life: Life,
    pub(crate) manner: Manner,
    /// Its clock has never stood still and nobody replaces it, so that it stops in time.
    pub(crate) trusted: bool,
    pub(crate) leaving: bool,
    pub(crate) ended: Option<End>,
    timing: Timing,
    work: BTreeMap<Partition, Work>,
    next_look: Instant,
    next_commit: Instant,
    look: Option<Look>,
    pictures: Vec<(Topic, Picture)>,
    sent: BTreeMap<u64, Sent>,
}

impl Process {
    pub(crate) fn new(
        me: MemberId,
        timing: Timing,
        topics: &[Topic],
        mut clock: Clock,
        now: u64,
    ) -> Self {
        let mut leases = Leases::new(me, timing);
        for topic in topics {
            leases.add_topic(topic.clone());
        }
        let begun = clock.now(now);
        Self {
            leases,
            clock,
            life: Life::Running,
            manner: Manner::Releases,
            trusted: true,
            leaving: false,
            ended: None,
            timing,
            work: BTreeMap::new(),
            next_look: begun,
            next_commit: begun,
            look: None,
            pictures: Vec::new(),
            sent: BTreeMap::new(),
        }
    }

    /// What it would store checkpoints of, now.
    pub(crate) fn acts_on(&mut self, now: u64) -> BTreeSet<Partition> {
        let local = self.clock.now(now);
        self.leases.expire(local);
        let acts = |(partition, work): (&Partition, &Work)| {
            let stored = self.leases.commit(checkpoint(partition, *work));
            stored.map(|_| partition.clone())
        };
        self.work.iter().filter_map(acts).collect()
    }

    /// Does what is due, and returns the calls that it makes.
    pub(crate) fn step(&mut self, now: u64, rng: &mut fastrand::Rng, id: &mut u64) -> Vec<Call> {
        let local = self.clock.now(now);
        let mut calls = Vec::new();
        self.leases.expire(local);
        while let Some(signal) = self.leases.tell(local) {
            self.hear(signal, local, rng);
        }
        // Nobody reads here.
        self.leases.orders().for_each(drop);
        self.give_up_waiting(local, &mut calls);
        self.release(local, &mut calls);
        if local >= self.next_commit {
            self.next_commit = local + Duration::from_millis(200);
            self.commit(&mut calls);
        }
        let busy = self.is_calling() || !calls.is_empty();
        if self.look.is_none() && !busy && local >= self.next_look {
            self.next_look = local + self.timing.tick;
            self.look = Some(self.leases.look(local));
            let leaving = self.leases.is_leaving();
            let looks = self.leases.topics().map(|topic| (topic.clone(), leaving));
            calls.extend(looks.map(|(topic, leaving)| (topic, Request::Look { leaving })));
        }
        if self.look.is_some() && calls.is_empty() {
            self.seen(local, &mut calls);
        }
        if self.leaving && self.work.is_empty() && !self.is_calling() && self.look.is_none() {
            let me = self.leases.me().clone();
            let goodbyes = self
                .leases
                .topics()
                .map(|t| (t.clone(), Request::Leave(me.clone())));
            calls.extend(goodbyes);
            self.life = Life::Dead;
        }
        self.send(calls, local, id)
    }

    fn send(&mut self, calls: Vec<(Topic, Request)>, local: Instant, id: &mut u64) -> Vec<Call> {
        let send = |(topic, request): (Topic, Request)| {
            *id += 1;
            let patience = match request {
                Request::Commit { release: false, .. } => self.timing.give_up,
                _ => self.timing.answer,
            };
            let me = self.leases.me().clone();
            let call = Call {
                id: *id,
                topic,
                me,
                request,
            };
            let until = local + patience;
            let sent = Sent {
                call: call.clone(),
                until,
            };
            self.sent.insert(*id, sent);
            call
        };
        calls.into_iter().map(send).collect()
    }

    fn hear(&mut self, signal: Signal, local: Instant, rng: &mut fastrand::Rng) {
        match signal {
            Signal::Assigned(checkpoints) => {
                for Checkpoint {
                    partition,
                    fence,
                    progress,
                } in checkpoints
                {
                    let work = Work {
                        fence,
                        done: progress.frontier.map_or(0, |Position(_, low)| low),
                        release_at: None,
                    };
                    let before = self.work.insert(partition.clone(), work);
                    assert!(before.is_none(), "{partition} was assigned twice");
                }
            }
            Signal::Revoking { partitions, .. } => {
                for partition in partitions {
                    let work = self
                        .work
                        .get_mut(&partition)
                        .expect("revoked but not assigned");
                    let takes = Duration::from_millis(rng.u64(0..300));
                    let releases = self.manner == Manner::Releases;
                    work.release_at = releases.then_some(local + takes);
                }
            }
            Signal::Lost { partitions } => {
                for partition in partitions {
                    // It may have been released in vain before this was heard.
                    self.work.remove(&partition);
                }
            }
            Signal::Batch(_) => unreachable!("nobody reads here"),
        }
    }

    pub(crate) fn leave(&mut self, local: Instant) {
        self.leaving = true;
        self.leases.leave();
        self.next_look = local;
        for work in self.work.values_mut() {
            work.release_at.get_or_insert(local);
        }
    }

    fn release(&mut self, local: Instant, calls: &mut Vec<(Topic, Request)>) {
        let committing = self
            .sent
            .values()
            .any(|sent| matches!(sent.call.request, Request::Commit { release: false, .. }));
        let due = |work: &Work| work.release_at.is_some_and(|at| at <= local);
        if committing {
            return;
        }
        for (partition, work) in self.work.clone() {
            if self.leaving || due(&work) {
                self.work.remove(&partition);
                let topic = partition.topic.clone();
                if let Some(entry) = self.leases.release(checkpoint(&partition, work)) {
                    let entries = vec![entry];
                    let release = true;
                    calls.push((topic, Request::Commit { entries, release }));
                }
            }
        }
    }

    fn commit(&mut self, calls: &mut Vec<(Topic, Request)>) {
        let committing = self
            .sent
            .values()
            .any(|sent| matches!(sent.call.request, Request::Commit { release: false, .. }));
        if committing {
            return;
        }
        let mut entries: BTreeMap<Topic, Vec<Entry>> = BTreeMap::new();
        for (partition, work) in &mut self.work {
            work.done += 1;
            if let Some(entry) = self.leases.commit(checkpoint(partition, *work)) {
                entries
                    .entry(partition.topic.clone())
                    .or_default()
                    .push(entry);
            }
        }
        let commit = |(topic, entries)| {
            let release = false;
            (topic, Request::Commit { entries, release })
        };
        calls.extend(entries.into_iter().map(commit));
    }

    /// Whether a call of the keeper is on its way.
    fn is_calling(&self) -> bool {
        let keeps = |sent: &Sent| !matches!(sent.call.request, Request::Commit { .. });
        self.sent.values().any(keeps)
    }

    fn give_up_waiting(&mut self, local: Instant, calls: &mut Vec<(Topic, Request)>) {
        let late: Vec<u64> = self
            .sent
            .iter()
            .filter(|(_, sent)| sent.until <= local)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(sent) = self.sent.remove(&id) {
                self.conclude(sent.call, None, local, calls);
            }
        }
    }

    /// Takes an answer; one that was waited for no longer is not heard.
    pub(crate) fn answer(
        &mut self,
        id: u64,
        answer: Answer,
        now: u64,
        next: &mut u64,
    ) -> Vec<Call> {
        let local = self.clock.now(now);
        let mut calls = Vec::new();
        if let Some(sent) = self.sent.remove(&id) {
            self.conclude(sent.call, Some(answer), local, &mut calls);
        }
        self.send(calls, local, next)
    }

    fn conclude(
        &mut self,
        call: Call,
        answer: Option<Answer>,
        local: Instant,
        calls: &mut Vec<(Topic, Request)>,
    ) {
        match (call.request, answer) {
            (Request::Look { .. }, answer) => {
                if let Some(Answer::Picture(picture)) = answer {
                    self.pictures.push((call.topic, picture));
                }
                self.seen(local, calls);
            }
            (Request::Claim(_), Some(Answer::Grants(grants))) => {
                let grants = grants.into_iter().flatten().collect();
                self.leases.claimed(&call.topic, grants, local);
            }
            (Request::Commit { entries, release }, answer) => {
                let answers = match answer {
                    Some(Answer::Committed(answers)) => answers.into_iter().map(Some).collect(),
                    _ => vec![None; entries.len()],
                };
                for (entry, answer) in entries.iter().zip(answers) {
                    let partition = Partition::new(call.topic.clone(), entry.index);
                    if release {
                        self.leases.released(&partition, entry.fence, answer);
                    } else if answer != Some(Committed::Applied) {
                        self.leases.stale(&partition, entry.fence);
                    }
                }
            }
            _ => {}
        }
    }

    /// Once every topic has answered, or has not in time, does what follows.
    fn seen(&mut self, local: Instant, calls: &mut Vec<(Topic, Request)>) {
        let looks = |sent: &Sent| matches!(sent.call.request, Request::Look { .. });
        if self.sent.values().any(looks) {
            return;
        }
        let Some(look) = self.look.take() else { return };
        let pictures = std::mem::take(&mut self.pictures);
        let expiries = pictures
            .iter()
            .filter_map(|(_, picture)| picture.next_expiry);
        if let Some(expiry) = expiries.min() {
            let at = local + expiry + Duration::from_millis(5);
            self.next_look = self.next_look.min(at);
        }
        match self.leases.looked(look, local, &pictures) {
            Ok(asked) => calls.extend(asked.into_iter().flat_map(requests)),
            Err(end) => {
                self.ended = Some(end);
                self.life = Life::Dead;
            }
        }
    }
}

fn requests((topic, calls): (Topic, Calls)) -> Vec<(Topic, Request)> {
    let Calls {
        release,
        revoke,
        claim,
        leave,
    } = calls;
    let mut requests = Vec::new();
    if !release.is_empty() {
        let (entries, release) = (release, true);
        requests.push(Request::Commit { entries, release });
    }
    if !revoke.is_empty() {
        requests.push(Request::Revoke(revoke));
    }
    if !claim.is_empty() {
        requests.push(Request::Claim(claim));
    }
    requests.extend(leave.into_iter().map(Request::Leave));
    requests
        .into_iter()
        .map(|request| (topic.clone(), request))
        .collect()
}

fn checkpoint(partition: &Partition, work: Work) -> Checkpoint {
    Checkpoint {
        partition: partition.clone(),
        fence: work.fence,
        progress: Progress {
            frontier: Some(Position::from(work.done)),
            ..Progress::default()
        },
    }
}
