//! Alternating rounds and what they cost.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::Result;
use crate::clock::{Clock, Inside, Machine, Outside};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds of each side; odd, so that a median is one of them.
    pub(crate) rounds: usize,
    /// By how much the number of events is divided.
    pub(crate) divide: usize,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        divide: 1,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        divide: 200,
    };
    /// What is counted does not vary.
    pub(crate) const COUNTED: Self = Self {
        rounds: 1,
        divide: 4,
    };
}

/// One round: how many events in which time, wall and processor.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    events: usize,
    wall: Duration,
    cpu: Duration,
    server: Option<Duration>,
    foreign: Option<Duration>,
    allocations: Option<usize>,
    /// How long each event took, from the shortest to the longest; empty where they overlap.
    waits: Vec<Duration>,
}

impl Round {
    /// Events a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count() / self.wall.as_secs_f64()
    }

    /// Microseconds of this process for one event.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count()
    }

    /// Microseconds of the server for one event, if it can be told.
    pub(crate) fn server_us(&self) -> Option<f64> {
        Some(self.server?.as_secs_f64() * 1e6 / self.count())
    }

    /// Allocations of this process for one event, where they are counted.
    pub(crate) fn allocations(&self) -> Option<f64> {
        Some(self.allocations? as f64 / self.count())
    }

    /// How long all of it took.
    pub(crate) fn wall(&self) -> Duration {
        self.wall
    }

    /// How long this process worked for all of it.
    pub(crate) fn cpu(&self) -> Duration {
        self.cpu
    }

    /// How many processors others kept busy, if it can be told.
    pub(crate) fn foreign(&self) -> Option<f64> {
        Some(self.foreign?.as_secs_f64() / self.wall.as_secs_f64())
    }

    /// Adds how long each event took.
    pub(crate) fn with_waits(mut self, mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        self.waits = waits;
        self
    }

    /// Microseconds within which `percent` of the events were done.
    pub(crate) fn wait_us(&self, percent: usize) -> f64 {
        let at = self.waits.len() * percent / 100;
        let wait = self.waits.get(at.min(self.waits.len().saturating_sub(1)));
        wait.map_or(0.0, |wait| wait.as_secs_f64() * 1e6)
    }

    pub(crate) fn count(&self) -> f64 {
        f64::from(u32::try_from(self.events).unwrap_or(u32::MAX))
    }
}

/// A clock that is running.
#[derive(Debug)]
pub(crate) struct Watch<C> {
    clock: C,
    inside: Inside,
    outside: Outside,
}

impl Watch<Machine> {
    /// On this machine, for what needs no server.
    pub(crate) fn start() -> Self {
        Self::on(Machine::default())
    }
}

impl<C: Clock> Watch<C> {
    pub(crate) fn on(clock: C) -> Self {
        let outside = clock.outside();
        Self {
            inside: clock.inside(),
            outside,
            clock,
        }
    }

    pub(crate) fn stop(&self, events: usize) -> Round {
        let (inside, outside) = (self.clock.inside(), self.clock.outside());
        let since =
            |now: Option<Duration>, then: Option<Duration>| Some(now?.saturating_sub(then?));
        let cpu = inside.cpu.saturating_sub(self.inside.cpu);
        let server = since(outside.server, self.outside.server);
        let all = since(outside.all, self.outside.all);
        let foreign = all
            .zip(server)
            .map(|(all, server)| all.saturating_sub(cpu + server));
        Round {
            events,
            wall: inside.wall.saturating_sub(self.inside.wall),
            cpu,
            server,
            foreign,
            allocations: inside
                .allocations
                .zip(self.inside.allocations)
                .map(|(now, then)| now - then),
            waits: Vec::new(),
        }
    }
}

/// One side of a comparison: runs a round of it.
pub(crate) type Side<'a> = &'a mut dyn FnMut() -> Result<Round>;

/// Runs all sides in turn, so that what disturbs the machine disturbs each of them. The order is
/// turned round every time, so that none of them profits from its place.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the closures live in the array"
)]
pub(crate) fn alternate<const N: usize>(
    plan: Plan,
    sides: [Side<'_>; N],
) -> Result<[Vec<Round>; N]> {
    let mut rounds = [const { Vec::new() }; N];
    for number in 0..plan.rounds {
        for step in 0..N {
            let at = if number % 2 == 0 { step } else { N - 1 - step };
            rounds[at].push(sides[at]()?);
        }
    }
    Ok(rounds)
}

/// A runtime whose tasks share one thread.
pub(crate) fn one_core() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The middle value, and how far apart the middle half of the values is, over it.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let quarter = values.len() / 4;
    let ends = (values.get(quarter), values.iter().nth_back(quarter));
    let (Some(low), Some(high)) = ends else {
        return (0.0, 0.0);
    };
    let middle = values[values.len() / 2];
    (middle, (high - low) / middle)
}
