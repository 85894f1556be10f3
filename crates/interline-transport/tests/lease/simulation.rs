//! Many members joining, leaving, dying, stopping and losing their clocks, over stores that are
//! slow and lose answers.
//!
//! Nothing here takes real time: a run is a function of its seed.

use std::collections::BTreeMap;
use std::ops::Range;

use interline_core::Topic;
use interline_transport::lease::Timing;

use crate::checker::Breach;
use crate::process::Life;
use crate::world::{CALM, Planted, Weather, World};

/// How long after the last disturbance a partition may have no owner who works on it: the lease
/// of one that died just before, a tick and a look to see it, a tick more if it was due to a
/// member that is dying too, and the calls on their way.
const OWNED: u64 = 15_000 + 2 * 1_000 + 500;

/// How long after that shares are even: two revocations that a deaf owner sits out to the
/// deadline, each seen, noted and claimed with the next tick, and a lease in between of a member
/// that was counted until then.
const SETTLED: u64 = OWNED + 2 * (10_000 + 3 * 1_000);

const BAD: Weather = Weather {
    lost_requests: 20,
    lost_answers: 20,
    slow: 30,
};

fn topics(world: &World) -> Vec<Topic> {
    world.stores.keys().cloned().collect()
}

/// The seeds of the runs: the first ones, or as `LEASE_SEEDS=FIRST..END` says.
fn seeds(count: u64) -> Range<u64> {
    let chosen = std::env::var("LEASE_SEEDS").ok();
    let range = chosen.and_then(|text| {
        let (first, end) = text.split_once("..")?;
        Some(first.parse().ok()?..end.parse().ok()?)
    });
    range.unwrap_or(0..count)
}

/// Everything that may happen to a group, at random.
struct Trouble {
    instances: usize,
    /// What happened that moves partitions.
    events: usize,
}

impl Trouble {
    fn strike(&mut self, world: &mut World) {
        let running: Vec<usize> = (0..world.processes.len())
            .filter(|at| {
                world.processes[*at].life == Life::Running && !world.processes[*at].leaving
            })
            .collect();
        let all = topics(world);
        let rate = 0.8 + 0.45 * world.rng.f64();
        let what = world.rng.u8(0..20);
        self.events += 1;
        let Some(at) = world.rng.choice(&running).copied() else {
            return self.join(world, &all, rate);
        };
        let instance = world.processes[at].leases.me().instance().to_owned();
        match what {
            0..=3 if running.len() < 7 => self.join(world, &all, rate),
            // Not every member reads every topic.
            4 if running.len() < 7 => self.join(world, &all[..1], rate),
            5 | 6 => world.leave(at),
            7 | 8 => world.kill(at),
            9 => {
                world.kill(at);
                world.start(&instance, &all, rate);
            }
            // A second process under an instance that is alive.
            10 => {
                world.start(&instance, &all, rate);
            }
            11 | 12 => {
                let millis = world.rng.u64(100..40_000);
                world.pause(at, millis, false);
            }
            13 => {
                let millis = world.rng.u64(100..40_000);
                world.pause(at, millis, true);
            }
            14 => {
                let millis = world.rng.u64(100..20_000);
                world.processes[at].clock.jump(millis);
            }
            15 => world.outage = world.now + world.rng.u64(100..20_000),
            16 => world.deafen(at),
            _ => self.events -= 1,
        }
    }

    fn join(&mut self, world: &mut World, topics: &[Topic], rate: f64) {
        self.instances += 1;
        world.start(&format!("m{}", self.instances), topics, rate);
    }
}

/// Two minutes of trouble, then quiet: everything is owned, shares are even, nothing moves.
fn run(seed: u64, planted: Planted) -> World {
    let shapes: [&[(&str, usize)]; 5] = [
        &[("orders", 12)],
        &[("orders", 1)],
        &[("orders", 12), ("payments", 5)],
        &[("a", 4), ("b", 1), ("c", 1), ("d", 1)],
        &[("many", 64)],
    ];
    let mut world = World::new(seed, shapes[seed as usize % shapes.len()], planted);
    let all = topics(&world);
    let mut trouble = Trouble {
        instances: 0,
        events: 0,
    };
    for _ in 0..world.rng.usize(1..5) {
        trouble.join(&mut world, &all, 1.0);
    }
    if !seed.is_multiple_of(3) {
        world.weather = BAD;
    }
    while world.now < 120_000 && world.checker.found.is_empty() {
        let next = world.now + world.rng.u64(100..6_000);
        world.run(next);
        trouble.strike(&mut world);
    }
    quiet(&mut world, &mut trouble);
    world
}

fn quiet(world: &mut World, trouble: &mut Trouble) {
    world.weather = CALM;
    world.outage = 0;
    // Whoever is stopped goes on within this time, and calls that are under way end.
    let all = topics(world);
    world.run(165_000);
    trouble.join(world, &all, 1.0);
    let quiet = world.now;
    world.run(quiet + OWNED);
    let unowned = world.unowned();
    if !unowned.is_empty() {
        world
            .checker
            .breach(Breach::Unowned, format!("{unowned:?}"));
    }
    world.run(quiet + SETTLED);
    check_even(world);
    check_twins(world);
    let grants = world.checker.grants;
    world.run(quiet + SETTLED + 60_000);
    let moved = world.checker.grants - grants;
    if moved > 0 {
        let what = format!("{moved} grants in a minute without an event");
        world.checker.breach(Breach::Restless, what);
    }
}

/// Who reads the same topics has the same number of partitions, give or take one.
fn check_even(world: &mut World) {
    let now = world.now;
    let readers = world
        .processes
        .iter_mut()
        .filter(|p| p.life == Life::Running);
    let mut shares: BTreeMap<Vec<Topic>, Vec<usize>> = BTreeMap::new();
    for process in readers {
        let topics: Vec<_> = process.leases.topics().cloned().collect();
        let acts = process.acts_on(now).len();
        shares.entry(topics).or_default().push(acts);
    }
    // With members that read different topics there is no one fair share.
    if let [share] = shares.values().collect::<Vec<_>>().as_slice() {
        let (least, most) = (share.iter().min(), share.iter().max());
        if let (Some(least), Some(most)) = (least, most)
            && most - least > 1
        {
            let what = format!("{share:?}");
            world.checker.breach(Breach::Uneven, what);
        }
    }
}

fn check_twins(world: &mut World) {
    let running = world.running().map(|p| p.leases.me().instance().to_owned());
    let mut running: Vec<_> = running.collect();
    let all = running.len();
    running.sort_unstable();
    running.dedup();
    if running.len() < all {
        let what = format!("{} processes of {} instances", all, running.len());
        world.checker.breach(Breach::Twins, what);
    }
}

#[test]
fn ownership_survives_trouble() {
    let (mut grants, mut applied, mut stale) = (0, 0, 0);
    for seed in seeds(40) {
        let world = run(seed, Planted::Nothing);
        if let Some(found) = world.checker.found.first() {
            panic!("seed {seed}: {found}");
        }
        grants += world.checker.grants;
        applied += world.checker.applied;
        stale += world.checker.stale;
    }
    println!("{grants} grants, {applied} checkpoints applied, {stale} stale");
    assert!(
        stale > 0,
        "no checkpoint was ever stale, so nothing is proven"
    );
}

#[test]
fn planted_mistakes_are_found() {
    for (planted, breaches) in [
        (
            Planted::ClaimWithoutComparing,
            [Breach::FenceRepeated, Breach::StaleApplied],
        ),
        (
            Planted::CommitWithoutFence,
            [Breach::StaleApplied, Breach::WentBack],
        ),
        (Planted::NeverGivesUp, [Breach::TwoAct, Breach::TwoAct]),
    ] {
        let found = seeds(40).find_map(|seed| run(seed, planted).checker.found.first().cloned());
        let found = found.unwrap_or_else(|| panic!("{planted:?} was not found"));
        assert!(breaches.contains(&found.breach), "{planted:?}: {found}");
    }
}

/// Joining, leaving and dying one at a time, with time to settle: what moves is what has to.
#[test]
fn nothing_moves_that_need_not() {
    let timing = Timing::default();
    let lease = timing.lease.as_millis() as u64;
    for seed in seeds(8) {
        let mut world = World::new(seed, &[("orders", 12)], Planted::Nothing);
        let all = topics(&world);
        let mut live: Vec<usize> = Vec::new();
        for event in 0..30 {
            let before = (live.len(), world.checker.grants);
            match world.rng.u8(0..3) {
                0 | 1 if live.len() < 6 => {
                    live.push(world.start(&format!("m{event}"), &all, 1.0));
                }
                _ if live.len() > 1 => {
                    let at = live.swap_remove(world.rng.usize(0..live.len()));
                    if world.rng.bool() {
                        world.leave(at);
                    } else {
                        world.kill(at);
                    }
                }
                _ => continue,
            }
            world.run(world.now + lease + 30_000);
            let moved = world.checker.grants - before.1;
            // Who comes gets a share; who goes leaves one.
            let share = world.partitions().div_ceil(before.0.min(live.len()).max(1));
            let share = if before.0 == 0 {
                world.partitions()
            } else {
                share
            };
            assert!(
                moved <= share,
                "seed {seed}: {moved} grants for one event, from {} to {} members",
                before.0,
                live.len()
            );
        }
        assert!(
            world.checker.found.is_empty(),
            "seed {seed}: {}",
            world.checker.found[0]
        );
    }
}
