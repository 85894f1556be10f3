//! The engine against a small model, on memory under a paused clock: random outcomes, members
//! that join, drain, die and are dropped, checkpoints that fail. A seed tells a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use interline_bus::{Bus, Handled, Workers};
use interline_core::{AnyTransport, Committed, Position};
use interline_reliability::{Fail, MemoryInbox, Policy, Retry};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, advance};

use crate::checker::{each_once, in_key_order_but_for, none_missing, one_at_a_time, succeeded};
use crate::scene::{Run, Runs, Scene, What, crash, key_of, noting, number_of, read_all};
use crate::{CommitFault, Faults, Faulty, Harness, Stored, Verdict, check, check_eq};

const SEEDS: u64 = 200;
const ATTEMPTS: u32 = 3;
/// With more deaths at one frontier the guard may bury an event that did nothing wrong.
const MOST_DEATHS: usize = 5;

#[test]
fn the_engine_keeps_its_promises_whatever_happens() {
    let only: Option<u64> = std::env::var("INTERLINE_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        if let Err(breach) = runtime.unwrap().block_on(simulate(seed)) {
            panic!("seed {seed}: {breach} (again with INTERLINE_SEED={seed})");
        }
    }
}

/// What an event does to its handler, by its number and the attempt.
#[derive(Clone, Copy)]
struct Fate {
    seed: u64,
    returns: bool,
}

impl Fate {
    fn rng(self, key: &str, number: u64, attempt: u32) -> Rng {
        let parts = [self.seed, number, u64::from(attempt)];
        let parts = parts.into_iter().chain(key.bytes().map(u64::from));
        let mix = |seed, part| Rng::with_seed(seed).u64(..) ^ part;
        Rng::with_seed(parts.fold(0, mix))
    }

    /// Whether no attempt succeeds.
    fn is_doomed(self, key: &str, number: u64) -> bool {
        self.rng(key, number, 0).u8(..12) == 0
    }

    async fn act(self, run: Run) -> Handled {
        let mut rng = self.rng(&run.key, run.number, run.attempt);
        if rng.bool() {
            let latency = Duration::from_millis(rng.u64(1..200));
            tokio::time::sleep_until(Instant::now() + latency).await;
        }
        if self.is_doomed(&run.key, run.number) {
            return match rng.u8(..3) {
                0 => Err("doomed for good".permanent()),
                _ => Err("doomed".transient()),
            };
        }
        // The last attempt succeeds.
        match rng.u8(..10) {
            0 if run.attempt < ATTEMPTS => Err("not yet".transient()),
            1 if run.attempt < ATTEMPTS => std::future::pending().await,
            2 if run.attempt < ATTEMPTS => std::panic::resume_unwind(Box::new("boom")),
            3 if run.attempt < ATTEMPTS && self.returns => {
                Err("much later".retry_after(Duration::from_secs(5)))
            }
            _ => Ok(()),
        }
    }
}

struct World<'a> {
    scene: Scene<'a>,
    faults: Faults,
    policy: Policy,
    fate: Fate,
    rng: Rng,
    runs: Runs,
    members: Vec<(usize, Workers)>,
    started: usize,
    deaths: usize,
    published: Vec<(String, u64)>,
    next: BTreeMap<String, u64>,
}

async fn simulate(seed: u64) -> Verdict {
    let url = format!("memory://{}", Harness::fresh("simulation"));
    let connected = url.clone();
    let harness = Harness::new(move || {
        let url = connected.clone();
        async move { interline_memory::connect(&*url).await }
    })
    .patience(Duration::from_secs(3_600));
    let mut rng = Rng::with_seed(seed);
    let (faulty, faults) = Faulty::over(harness.connect().await?);
    let mut policy = Policy::default();
    policy.retry = Retry::exponential()
        .max(ATTEMPTS)
        .base(Duration::from_millis(50));
    policy.timeouts.handler = Duration::from_secs(2);
    policy.timeouts.stuck = Duration::from_secs(1);
    policy.inbox = (seed % 3 == 1).then(|| Arc::new(MemoryInbox::default()) as _);
    let returns = seed.is_multiple_of(4);
    if returns {
        policy.timeouts.max_hold = Duration::from_secs(3);
    }
    let mut world = World {
        scene: Scene::over(&harness, AnyTransport::new(faulty), rng.u32(1..4)).await?,
        faults,
        policy,
        fate: Fate { seed, returns },
        rng,
        runs: Runs::default(),
        members: Vec::new(),
        started: 0,
        deaths: 0,
        published: Vec::new(),
        next: BTreeMap::new(),
    };
    for _ in 0..world.rng.usize(10..40) {
        world.step().await?;
    }
    world.finish().await?;
    world.judge().await
}

impl World<'_> {
    async fn step(&mut self) -> Verdict {
        match self.rng.u8(..12) {
            0..=2 => self.publish().await?,
            3 | 4 if self.members.len() < 3 => self.start().await?,
            5 if self.deaths < MOST_DEATHS => {
                if let Some((member, workers)) = self.any_member() {
                    self.deaths += 1;
                    crash(self.scene.harness, workers, &self.runs, member).await?;
                }
            }
            6 => {
                let deadline = Duration::from_millis(self.rng.u64(0..3_000));
                if let Some((_, workers)) = self.any_member() {
                    workers.drain(deadline).await?;
                }
            }
            7 => drop(self.any_member()),
            8 => {
                let faults = [
                    CommitFault::NotNow,
                    CommitFault::Error,
                    CommitFault::StoredError,
                ];
                let count = self.rng.usize(..4);
                let chosen = (0..count).map(|_| faults[self.rng.usize(..3)]);
                self.faults.fail_commits(chosen.collect::<Vec<_>>());
            }
            9 => {
                let paused = self.rng.bool();
                for (_, workers) in &self.members {
                    if paused {
                        workers.pause()
                    } else {
                        workers.resume()
                    }
                }
            }
            _ => {
                for _ in 0..self.rng.usize(1..10) {
                    advance(Duration::from_millis(self.rng.u64(1..300))).await;
                    yield_now().await;
                }
            }
        }
        Ok(())
    }

    fn any_member(&mut self) -> Option<(usize, Workers)> {
        let at = self.rng.usize(..self.members.len().max(1));
        (at < self.members.len()).then(|| self.members.swap_remove(at))
    }

    async fn publish(&mut self) -> Verdict {
        let mut events = Vec::new();
        for _ in 0..self.rng.usize(1..60) {
            let key = format!("key-{}", self.rng.u8(..6));
            let number = self.next.entry(key.clone()).or_insert(0);
            events.push((key, *number));
            *number += 1;
        }
        self.scene.publish(&events).await?;
        self.published.extend(events);
        Ok(())
    }

    async fn start(&mut self) -> Verdict {
        let (member, fate) = (self.started, self.fate);
        self.started += 1;
        let bus = Bus::new(self.scene.transport.clone());
        let group = bus
            .group(self.scene.group.as_str())
            .topics(self.scene.topic.as_str());
        let handler = noting(&self.runs, member, move |run| fate.act(run));
        let lanes = self.rng.usize(1..8);
        let group = group.policy(self.policy.clone()).lanes(lanes);
        let group = group.window(self.rng.usize(4..200), 1 << 20);
        self.members
            .push((member, group.on_raw("*", handler).start().await?));
        Ok(())
    }

    /// Lets everything come to its end.
    async fn finish(&mut self) -> Verdict {
        if self.members.is_empty() {
            self.start().await?;
        }
        for (_, workers) in &self.members {
            workers.resume();
        }
        let (scene, fate) = (&self.scene, self.fate);
        let doomed = self
            .published
            .iter()
            .filter(|(key, n)| fate.is_doomed(key, *n))
            .count();
        let letters = scene.transport.clone();
        let graves = scene.topic.dlq(&scene.group);
        let done = || async {
            let complete = self.runs.see(|all| {
                let good: BTreeSet<_> = succeeded(all).collect();
                good.len() + doomed >= self.published.len()
            });
            Ok(complete && read_all(scene.harness, &letters, &graves).await?.len() >= doomed)
        };
        let ended = scene.harness.eventually("every event to end", done).await;
        let good = self.good();
        self.runs.see(|all| none_missing(all, &good))?;
        ended?;
        scene.settled().await?;
        for (_, workers) in std::mem::take(&mut self.members) {
            self.scene.drain(workers).await?;
        }
        Ok(())
    }

    fn good(&self) -> Vec<(String, u64)> {
        let good = self
            .published
            .iter()
            .filter(|(key, n)| !self.fate.is_doomed(key, *n));
        good.cloned().collect()
    }

    async fn judge(&self) -> Verdict {
        let runs = self.runs.all();
        none_missing(&runs, &self.good())?;
        if self.policy.inbox.is_some() {
            each_once(&runs, &self.good())?;
        }
        if !self.fate.returns {
            one_at_a_time(&runs)?;
            in_key_order_but_for(&runs, &|key, number| self.fate.is_doomed(key, number))?;
        }
        for run in &runs {
            check!(
                run.attempt <= ATTEMPTS,
                "attempt {} of {run:?}",
                run.attempt
            );
        }
        self.judge_letters().await?;
        self.judge_replays(&runs).await
    }

    /// Each doomed event is kept exactly once.
    async fn judge_letters(&self) -> Verdict {
        let graves = self.scene.topic.dlq(&self.scene.group);
        let records = read_all(self.scene.harness, &self.scene.transport, &graves).await?;
        let mut kept = Vec::new();
        for (_, record) in &records {
            kept.push((key_of(&record.envelope), number_of(&record.envelope)?));
        }
        kept.sort_unstable();
        let mut doomed = self.published.clone();
        doomed.retain(|(key, number)| self.fate.is_doomed(key, *number));
        doomed.sort_unstable();
        check_eq!(kept, doomed, "dead letters");
        Ok(())
    }

    /// What an applied checkpoint says is done does not run again after it was applied.
    async fn judge_replays(&self, runs: &[Run]) -> Verdict {
        let mut places: BTreeMap<(String, u64), (u32, Position)> = BTreeMap::new();
        for (partition, record) in self.scene.records().await? {
            let event = (key_of(&record.envelope), number_of(&record.envelope)?);
            places.insert(event, (partition, record.position));
        }
        let mut stored = self.faults.checkpoints().all();
        stored.retain(|s| s.answer == Committed::Applied);
        stored.retain(|s| s.checkpoint.partition.topic == self.scene.topic);
        let mut by_partition: BTreeMap<u32, Vec<Stored>> = BTreeMap::new();
        for stored in stored {
            let partition = stored.checkpoint.partition.index;
            by_partition.entry(partition).or_default().push(stored);
        }
        // An event that came back through the return topic is done in its own and runs again.
        let began = runs
            .iter()
            .filter(|run| run.what == What::Began && !self.fate.returns);
        for run in began {
            let Some((partition, position)) = places.get(&(run.key.clone(), run.number)) else {
                check!(false, "an event that nobody published: {run:?}");
                continue;
            };
            let stored = by_partition.get(partition).map_or(&[][..], Vec::as_slice);
            // What is done stays done.
            let open = |stored: &Stored| !stored.checkpoint.progress.is_done(*position);
            let done = stored.get(stored.partition_point(open));
            check!(
                done.is_none_or(|done| done.at >= run.at),
                "{run:?} was done in {done:?}"
            );
        }
        Ok(())
    }
}
