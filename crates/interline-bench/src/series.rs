//! What an event costs as something grows, and whether that is flat.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::measure::{Round, median};
use crate::report::{FOREIGN, SPREAD, known, or_dash};

/// How often a larger size may cost what a smaller one does, for each event.
const FLAT: f64 = 1.5;

/// A size counts if it takes this often what the start of a group does, and this long.
const BEYOND_START: f64 = 5.0;
const LONG_US: f64 = 10e3;

/// What others do is told in steps of 10 ms: not at all of anything shorter than this.
const TOLD: Duration = Duration::from_millis(100);

/// One thing that grows.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) transport: &'static str,
    pub(crate) what: &'static str,
    pub(crate) points: Vec<Point>,
    /// What the start of a group takes, where it is part of the figures.
    pub(crate) start: Option<Cost>,
    /// The cost of an event, less the start, over the least at a smaller size: the most of all.
    pub(crate) growth: Growth,
    /// Whether it is flat; nothing if the run cannot tell.
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

/// Nothing where no two sizes count.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Growth {
    pub(crate) time: Option<f64>,
    pub(crate) cpu: Option<f64>,
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
            foreign: known(rounds, told),
        }
    }
}

fn told(round: &Round) -> Option<f64> {
    round.foreign().filter(|_| round.wall() >= TOLD)
}

impl Series {
    pub(crate) fn new(transport: &'static str, what: &'static str, points: Vec<Point>) -> Self {
        Self {
            transport,
            what,
            points,
            start: None,
            growth: Growth::default(),
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
        let time = self.counted(start.time_us, |each| each.time_us);
        let cpu = self.counted(start.cpu_us, |each| each.cpu_us);
        let most = |figure: fn(&Point) -> f64| {
            let points = time.iter().chain(&cpu).map(|(point, _)| figure(point));
            points.fold(0.0, f64::max)
        };
        let foreign = most(|point| point.foreign.unwrap_or_default());
        let spread = most(|point| point.spread);
        let growth = Growth {
            time: growth(&time),
            cpu: growth(&cpu),
        };
        let mut known = growth.time.iter().chain(&growth.cpu).peekable();
        self.noise = match foreign {
            _ if known.peek().is_none() => Some("no two sizes count".to_owned()),
            foreign if foreign > FOREIGN => {
                Some(format!("others kept {foreign:.1} processors busy"))
            }
            _ if spread > SPREAD => Some(format!("rounds {:.0} % apart", spread * 100.0)),
            _ => None,
        };
        let flat = known.all(|growth| *growth <= FLAT);
        self.flat = self.noise.is_none().then_some(flat);
        self.growth = growth;
        self
    }

    /// The sizes that count, with what each of their events costs less the start.
    fn counted(&self, start: f64, each: fn(&Cost) -> f64) -> Vec<(&Point, f64)> {
        let least = f64::max(start * BEYOND_START, LONG_US);
        let all = self.points.iter();
        let all = all.map(|point| (point, each(&point.each) * point.events));
        all.filter(|(_, all)| *all > least)
            .map(|(point, all)| (point, (all - start) / point.events))
            .collect()
    }

    /// Whether everything was measured that it should have.
    pub(crate) fn is_whole(&self) -> bool {
        let is_good = |point: &Point| point.each.time_us > 0.0 && point.each.cpu_us.is_finite();
        !self.points.is_empty() && self.points.iter().all(is_good)
    }

    /// What the figures are worth, in words.
    pub(crate) fn verdict(&self) -> String {
        let times = |growth: Option<f64>| or_dash(growth.map(|growth| format!("x {growth:.2}")));
        let Growth { time, cpu } = self.growth;
        let growth = format!("time {}, client {}", times(time), times(cpu));
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

/// The most that a size costs over the least of the sizes before it.
fn growth(costs: &[(&Point, f64)]) -> Option<f64> {
    let (mut least, mut growth) = (f64::INFINITY, None);
    for (_, cost) in costs {
        if least.is_finite() {
            growth = Some(f64::max(growth.unwrap_or(0.0), cost / least));
        }
        least = least.min(*cost);
    }
    growth
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
