//! Stores, processes and what lies between them, on one clock that nothing waits for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use interline_core::{Committed, Partition, Progress, Topic};
use interline_transport::lease::{Entry, MemberId, Timing};
use tokio::time::Instant;

use crate::checker::{Breach, Checker};
use crate::process::{Answer, Call, Clock, Life, Manner, Process, Request};
use crate::table::Table;

/// What goes wrong between processes and stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// How often in a thousand a request is lost.
    pub(crate) lost_requests: u32,
    /// How often in a thousand an answer is lost.
    pub(crate) lost_answers: u32,
    /// How often in a thousand one takes seconds instead of milliseconds, each way.
    pub(crate) slow: u32,
}

pub(crate) const CALM: Weather = Weather {
    lost_requests: 0,
    lost_answers: 0,
    slow: 0,
};

/// A mistake made on purpose in the stores, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    /// A claim takes what it was asked for, whatever has happened meanwhile.
    ClaimWithoutComparing,
    /// A checkpoint is stored whoever has the partition.
    CommitWithoutFence,
    /// A member goes on although it cannot renew.
    NeverGivesUp,
}

#[derive(Debug)]
enum Event {
    Step(usize),
    Arrives(usize, Call),
    Answers(usize, u64, Answer),
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) stores: BTreeMap<Topic, Table>,
    pub(crate) processes: Vec<Process>,
    pub(crate) checker: Checker,
    pub(crate) weather: Weather,
    /// No store answers before then.
    pub(crate) outage: u64,
    base: Instant,
    planted: Planted,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    bodies: BTreeMap<u64, Event>,
    serial: u64,
    call: u64,
    session: u64,
}

impl World {
    pub(crate) fn new(seed: u64, topics: &[(&str, usize)], planted: Planted) -> Self {
        let lease = Timing::default().lease.as_millis() as u64;
        let store = |(name, partitions): &(&str, usize)| {
            let topic = Topic::new(*name).unwrap();
            let starts = vec![Progress::default(); *partitions];
            (topic, Table::new(starts, lease, 1))
        };
        Self {
            now: 1,
            rng: fastrand::Rng::with_seed(seed),
            stores: topics.iter().map(store).collect(),
            processes: Vec::new(),
            checker: Checker::default(),
            weather: CALM,
            outage: 0,
            base: Instant::now(),
            planted,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            serial: 0,
            call: 0,
            session: 0,
        }
    }

    pub(crate) fn partitions(&self) -> usize {
        self.stores.values().map(|table| table.rows.len()).sum()
    }

    fn at(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial)));
        self.bodies.insert(self.serial, event);
    }

    /// A process of `instance` starts, and reads these topics.
    pub(crate) fn start(&mut self, instance: &str, topics: &[Topic], rate: f64) -> usize {
        // Now and then the host's clock has gone back since the instance ran last.
        let millis = match self.rng.u8(0..8) {
            0 => self.session.saturating_sub(self.rng.u64(5..60)),
            _ => self.session,
        };
        let session = millis << 12 | self.processes.len() as u64;
        let me = MemberId::new(instance, session);
        for former in &mut self.processes {
            // It is replaced, and acts until its next look says so.
            former.trusted &= former.leases.me().instance() != instance;
        }
        let clock = Clock::new(self.base, rate, self.now);
        let mut timing = Timing::default();
        if self.planted == Planted::NeverGivesUp {
            timing.give_up = Duration::from_secs(3_600);
        }
        let process = Process::new(me, timing, topics, clock, self.now);
        self.processes.push(process);
        let process = self.processes.len() - 1;
        self.at(self.now, Event::Step(process));
        process
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|p| p.life == Life::Running)
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, until: u64) {
        while let Some(Reverse((at, serial))) = self.events.peek().copied() {
            if at > until || !self.checker.found.is_empty() {
                break;
            }
            self.events.pop();
            self.now = self.now.max(at);
            if let Some(event) = self.bodies.remove(&serial) {
                self.happen(event);
            }
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step(process) => self.step(process),
            Event::Arrives(process, call) => self.serve(process, call),
            Event::Answers(process, id, answer) => match self.processes[process].life {
                Life::Running => {
                    let taken = &mut self.processes[process];
                    let calls = taken.answer(id, answer, self.now, &mut self.call);
                    self.send(process, calls);
                }
                // It finds the answer when it goes on.
                Life::Paused { until, .. } => self.at(until, Event::Answers(process, id, answer)),
                Life::Dead => {}
            },
        }
    }

    fn step(&mut self, at: usize) {
        let now = self.now;
        let process = &mut self.processes[at];
        match process.life {
            Life::Dead => return,
            Life::Paused { until, .. } if until > now => return self.at(until, Event::Step(at)),
            Life::Paused { clock, .. } => {
                if clock {
                    process.clock.stood_still(now);
                    process.trusted = false;
                }
                process.life = Life::Running;
            }
            Life::Running => {}
        }
        let calls = process.step(now, &mut self.rng, &mut self.call);
        self.send(at, calls);
        // Often enough to see what lasts for a tick, at a fraction of the work.
        if self.rng.u8(0..8) == 0 {
            self.check_acts(at);
        }
        let next = now + self.rng.u64(20..80);
        self.at(next, Event::Step(at));
    }

    /// Whoever acts on a partition does so alone, unless its clock is wrong or it is being
    /// replaced.
    fn check_acts(&mut self, at: usize) {
        if !self.processes[at].trusted {
            return;
        }
        let now = self.now;
        let acts = self.processes[at].acts_on(now);
        let me = self.processes[at].leases.me().clone();
        for other in &mut self.processes {
            let comparable = other.life == Life::Running && other.trusted;
            if !comparable || *other.leases.me() == me {
                continue;
            }
            let both: BTreeSet<Partition> =
                acts.intersection(&other.acts_on(now)).cloned().collect();
            if !both.is_empty() {
                let what = format!("at {now} {me} and {}: {both:?}", other.leases.me());
                self.checker.breach(Breach::TwoAct, what);
            }
        }
    }

    fn delay(&mut self) -> u64 {
        if self.rng.u32(0..1_000) < self.weather.slow {
            return self.rng.u64(500..6_000);
        }
        self.rng.u64(1..15)
    }

    fn send(&mut self, process: usize, calls: Vec<Call>) {
        for call in calls {
            if self.rng.u32(0..1_000) >= self.weather.lost_requests {
                let at = self.now + self.delay();
                self.at(at, Event::Arrives(process, call));
            }
        }
    }

    fn serve(&mut self, process: usize, call: Call) {
        let now = self.now;
        if now < self.outage {
            return;
        }
        let Call {
            id,
            topic,
            me,
            request,
        } = call;
        let Some(table) = self.stores.get_mut(&topic) else {
            return;
        };
        let answer = match request {
            Request::Look { leaving } => Answer::Picture(table.look(now, &me, leaving)),
            Request::Claim(seen) => {
                let compare = self.planted != Planted::ClaimWithoutComparing;
                let grants = table.claim(now, &me, &seen, compare);
                for grant in grants.iter().flatten() {
                    self.checker.granted(now, &topic, &me, grant);
                }
                Answer::Grants(grants)
            }
            Request::Revoke(owned) => {
                table.revoke(&me, &owned);
                Answer::Done
            }
            Request::Leave(member) => {
                table.leave(now, &member);
                Answer::Done
            }
            Request::Commit { entries, release } => {
                let mut answers = table.commit(now, &me, &entries, release);
                if self.planted == Planted::CommitWithoutFence {
                    store_unfenced(table, &entries, &mut answers);
                }
                for (entry, answer) in entries.iter().zip(&answers) {
                    let progress = entry.progress.as_ref();
                    let (index, fence) = (entry.index, entry.fence);
                    if *answer == Committed::Applied {
                        self.checker
                            .applied(now, &topic, &me, index, fence, progress);
                    } else {
                        self.checker.stale += 1;
                    }
                }
                Answer::Committed(answers)
            }
        };
        if self.rng.u32(0..1_000) >= self.weather.lost_answers {
            let at = now + self.delay();
            self.at(at, Event::Answers(process, id, answer));
        }
    }

    pub(crate) fn pause(&mut self, process: usize, millis: u64, clock: bool) {
        let until = self.now + millis;
        self.processes[process].life = Life::Paused { until, clock };
    }

    pub(crate) fn kill(&mut self, process: usize) {
        self.processes[process].life = Life::Dead;
    }

    pub(crate) fn leave(&mut self, process: usize) {
        let process = &mut self.processes[process];
        let local = process.clock.now(self.now);
        process.leave(local);
    }

    pub(crate) fn deafen(&mut self, process: usize) {
        self.processes[process].manner = Manner::Deaf;
    }

    /// The partitions whose owner in the store is none of those who act on it.
    pub(crate) fn unowned(&mut self) -> Vec<String> {
        let now = self.now;
        let mut acting = BTreeSet::new();
        for process in self
            .processes
            .iter_mut()
            .filter(|p| p.life == Life::Running)
        {
            acting.extend(process.acts_on(now));
        }
        let all = self.stores.iter().flat_map(|(topic, table)| {
            (0..table.rows.len() as u32).map(|index| Partition::new(topic.clone(), index))
        });
        let unowned = all.filter(|partition| !acting.contains(partition));
        unowned.map(|partition| partition.to_string()).collect()
    }
}

/// Stores stale checkpoints too.
fn store_unfenced(table: &mut Table, entries: &[Entry], answers: &mut [Committed]) {
    let stored = entries.iter().zip(answers);
    for (entry, answer) in stored.filter(|(_, answer)| **answer == Committed::Stale) {
        if let Some(progress) = &entry.progress {
            table.rows[entry.index as usize].progress = progress.clone();
        }
        *answer = Committed::Applied;
    }
}
