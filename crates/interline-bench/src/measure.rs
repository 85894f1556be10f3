//! Alternating rounds and what they cost.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use tokio::runtime::{Builder, Runtime};

use crate::Result;

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
        divide: 20,
    };
}

/// One round: how many events in which time, wall and processor.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    events: usize,
    wall: Duration,
    cpu: Duration,
    /// How long each event took, from the shortest to the longest; empty where they overlap.
    waits: Vec<Duration>,
}

impl Round {
    /// Events a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count() / self.wall.as_secs_f64()
    }

    /// Microseconds of processor time for one event.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count()
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

    fn count(&self) -> f64 {
        f64::from(u32::try_from(self.events).unwrap_or(u32::MAX))
    }
}

/// A clock that is running.
#[derive(Debug)]
pub(crate) struct Watch {
    wall: Instant,
    cpu: Duration,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self {
            cpu: cpu_time(),
            wall: Instant::now(),
        }
    }

    pub(crate) fn stop(&self, events: usize) -> Round {
        Round {
            events,
            wall: self.wall.elapsed(),
            cpu: cpu_time().saturating_sub(self.cpu),
            waits: Vec::new(),
        }
    }
}

/// The processor time of this process with all its threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
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

/// The middle value, and the distance of the extremes over it.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else {
        return (0.0, 0.0);
    };
    let middle = values[values.len() / 2];
    (middle, (high - low) / middle)
}
