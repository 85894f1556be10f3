//! What an event costs as something grows, and whether that is flat.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::measure::{Round, median};
use crate::report::{FOREIGN, SPREAD, known, or_dash};

/// How often a larger size may cost what a smaller one does, for each event.
const FLAT: f64 = 1.5;

/// A size counts if it takes this often what the start of a group does.
const BEYOND_START: f64 = 5.0;

/// One thing that grows.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) transport: &'static str,
    pub(crate) what: &'static str,
    pub(crate) points: Vec<Point>,
    /// What the start of a group takes, where it is part of the figures.
    pub(crate) start: Option<Cost>,
    /// The cost of an event, less the start, over the least at a smaller size: the most of all.
    /// Nothing if no two sizes count.
    pub(crate) growth: Option<Growth>,
    /// Whether both are flat; nothing if the run cannot tell.
    pub(crate) flat: Option<bool>,
    /// Why the run cannot tell.
    pub(crate) noise: Option<String>,
}

/// One size.
#[derive(Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) size: usize,
    /// Events of a round.
    events: f64,
    /// For each event.
    #[serde(flatten)]
    pub(crate) each: Cost,
    server_us: Option<f64>,
    spread: f64,
    foreign: Option<f64>,
}

/// Microseconds; medians of the rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cost {
    pub(crate) time_us: f64,
    pub(crate) cpu_us: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Growth {
    pub(crate) time: f64,
    pub(crate) cpu: f64,
}

impl Cost {
    /// Of all events of a round.
    fn of_all(rounds: &[Round]) -> Self {
        let micros = |time: fn(&Round) -> Duration| {
            median(rounds.iter().map(|round| time(round).as_secs_f64() * 1e6)).0
        };
        Self {
            time_us: micros(Round::wall),
            cpu_us: micros(Round::cpu),
        }
    }
}

impl Point {
    pub(crate) fn of(size: usize, rounds: &[Round]) -> Self {
        let spread = median(rounds.iter().map(Round::cpu_us)).1;
        let all = Cost::of_all(rounds);
        let events = rounds.first().map_or(1.0, Round::count);
        Self {
            size,
            events,
            each: Cost {
                time_us: all.time_us / events,
                cpu_us: all.cpu_us / events,
            },
            server_us: known(rounds, Round::server_us),
            spread,
            foreign: known(rounds, Round::foreign),
        }
    }
}

impl Series {
    pub(crate) fn new(transport: &'static str, what: &'static str, points: Vec<Point>) -> Self {
        Self {
            transport,
            what,
            points,
            start: None,
            growth: None,
            flat: None,
            noise: None,
        }
        .judged()
    }

    /// Takes the start off, which these rounds consist of.
    pub(crate) fn after(mut self, start: &[Round]) -> Self {
        self.start = Some(Cost::of_all(start));
        self.judged()
    }

    fn judged(mut self) -> Self {
        let start = self.start.unwrap_or_default();
        let time = self.growth(start.time_us, |each| each.time_us);
        let cpu = self.growth(start.cpu_us, |each| each.cpu_us);
        self.growth = time.zip(cpu).map(|(time, cpu)| Growth { time, cpu });
        let most = |figure: fn(&Point) -> f64| self.points.iter().map(figure).fold(0.0, f64::max);
        let foreign = most(|point| point.foreign.unwrap_or_default());
        let spread = most(|point| point.spread);
        self.noise = match foreign {
            _ if self.growth.is_none() => Some("no two sizes count".to_owned()),
            foreign if foreign > FOREIGN => {
                Some(format!("others kept {foreign:.1} processors busy"))
            }
            _ if spread > SPREAD => Some(format!("rounds {:.0} % apart", spread * 100.0)),
            _ => None,
        };
        let flat = |growth: Growth| growth.time <= FLAT && growth.cpu <= FLAT;
        self.flat = self.growth.filter(|_| self.noise.is_none()).map(flat);
        self
    }

    fn growth(&self, start: f64, figure: fn(&Cost) -> f64) -> Option<f64> {
        let counts = |point: &&Point| figure(&point.each) * point.events > start * BEYOND_START;
        let points = self.points.iter().filter(counts);
        let costs = points.map(|point| figure(&point.each) - start / point.events);
        let (mut least, mut growth) = (None, None);
        for cost in costs {
            if let Some(least) = least {
                growth = Some(f64::max(growth.unwrap_or(0.0), cost / least));
            }
            least = Some(least.map_or(cost, |least| f64::min(least, cost)));
        }
        growth
    }

    /// Whether everything was measured that it should have.
    pub(crate) fn is_whole(&self) -> bool {
        let is_good = |point: &Point| point.each.time_us > 0.0 && point.each.cpu_us.is_finite();
        !self.points.is_empty() && self.points.iter().all(is_good)
    }

    /// What the figures are worth, in words.
    pub(crate) fn verdict(&self) -> String {
        let growth = self
            .growth
            .map(|growth| format!("time x {:.2}, client x {:.2}", growth.time, growth.cpu));
        let growth = or_dash(growth);
        match (self.flat, &self.noise) {
            (Some(true), _) => format!("flat ({growth})"),
            (Some(false), _) => format!("grows ({growth})"),
            (None, Some(noise)) => format!("not judged: {noise} ({growth})"),
            (None, None) => growth,
        }
    }

    /// What the start of a group takes, in milliseconds.
    pub(crate) fn start_ms(&self) -> String {
        let start = self
            .start
            .map(|start| format!("{:.1} / {:.1}", start.time_us / 1e3, start.cpu_us / 1e3));
        or_dash(start)
    }
}

/// A table for people.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}: {}", self.transport, self.what, self.verdict())?;
        if self.start.is_some() {
            writeln!(
                f,
                "      start  {} ms, part of what follows",
                self.start_ms()
            )?;
        }
        for point in &self.points {
            writeln!(
                f,
                "{:>11}  {:>8.3} us  {:>8.3} us of the client  {:>8} of the server  {:>3.0}%  foreign {}",
                point.size,
                point.each.time_us,
                point.each.cpu_us,
                or_dash(point.server_us.map(|us| format!("{us:.2} us"))),
                point.spread * 100.0,
                or_dash(point.foreign.map(|foreign| format!("{foreign:.2}"))),
            )?;
        }
        Ok(())
    }
}
