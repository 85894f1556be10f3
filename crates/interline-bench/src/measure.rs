//! Alternating rounds and what they cost.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    events: usize,
    wall: Duration,
    cpu: Duration,
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

/// The rounds of one path and of what it is compared with.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) ours: Vec<Round>,
    pub(crate) raw: Vec<Round>,
}

/// Runs both sides in turn, so that what disturbs the machine disturbs both.
pub(crate) fn alternate(
    plan: Plan,
    mut ours: impl FnMut() -> Result<Round>,
    mut raw: impl FnMut() -> Result<Round>,
) -> Result<Pair> {
    let mut pair = Pair {
        ours: Vec::new(),
        raw: Vec::new(),
    };
    for _ in 0..plan.rounds {
        pair.raw.push(raw()?);
        pair.ours.push(ours()?);
    }
    Ok(pair)
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
