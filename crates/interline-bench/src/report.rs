//! Rows: what was measured, what it is worth, and how it is shown.

use serde::Serialize;

use crate::latency::Waits;
use crate::measure::{Round, median};

/// How far apart the middle half of the rounds may be, over their median, and that of times within
/// which 99 of 100 events were done: a few events decide about those.
pub(crate) const SPREAD: f64 = 0.2;
const SPREAD_OF_TAILS: f64 = 0.5;

/// How many processors others may keep busy.
pub(crate) const FOREIGN: f64 = 0.2;

/// What a row has to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Our rate over the raw rate, and processor time over raw in microseconds.
    Beside { ratio: f64, cpu_us: f64 },
    /// Our time over the raw time, and processor time over raw in microseconds.
    Latency { ratio: f64, cpu_us: f64 },
    /// Events a second.
    Rate(f64),
    /// Microseconds within which 99 of 100 events are done.
    Within(f64),
    /// Nothing: the row is for information.
    None,
}

/// In what `ours` and `raw` are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "events/s")]
    Rate,
    #[serde(rename = "us")]
    Time,
}

/// One path, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) transport: &'static str,
    pub(crate) path: &'static str,
    pub(crate) payload: usize,
    /// Medians of the rounds.
    pub(crate) ours: f64,
    pub(crate) raw: Option<f64>,
    pub(crate) unit: Unit,
    /// The median of each round of ours over the raw one beside it.
    pub(crate) ratio: Option<f64>,
    pub(crate) cpu_us: f64,
    pub(crate) raw_cpu_us: Option<f64>,
    pub(crate) cpu_over_raw_us: Option<f64>,
    pub(crate) server_us: Option<f64>,
    pub(crate) raw_server_us: Option<f64>,
    /// For one event, where they are counted.
    pub(crate) allocations: Option<f64>,
    pub(crate) raw_allocations: Option<f64>,
    /// How far apart the middle half of the rounds is: of the ratio, or of our figure where there
    /// is none.
    pub(crate) spread: f64,
    /// How many processors others kept busy meanwhile.
    pub(crate) foreign: Option<f64>,
    /// Of all events, where each has a time of its own.
    #[serde(flatten)]
    pub(crate) waits: Option<Waits>,
    pub(crate) target: String,
    /// The part of it that is about the ratio.
    pub(crate) wanted_ratio: Option<f64>,
    /// Whether the target is reached; nothing if there is none or the run cannot tell.
    pub(crate) met: Option<bool>,
    /// Why the run cannot tell.
    pub(crate) noise: Option<String>,
}

/// Transport, path and payload in bytes.
pub(crate) type Name = (&'static str, &'static str, usize);

/// What is compared of a round.
type Figure<'f> = &'f dyn Fn(&Round) -> f64;

impl Row {
    /// A path beside its raw client, by rate.
    pub(crate) fn beside(name: Name, ours: &[Round], raw: &[Round], target: Target) -> Self {
        Self::measured(name, Unit::Rate, ours, &Round::rate)
            .over(ours, raw, &Round::rate)
            .judged(target, SPREAD)
    }

    /// A path beside its raw client, by the time within which `percent` of its events were done.
    pub(crate) fn latency(
        name: Name,
        percent: usize,
        ours: &[Round],
        raw: &[Round],
        target: Target,
    ) -> Self {
        let wait = |round: &Round| round.wait_us(percent);
        let spread = if percent > 50 {
            SPREAD_OF_TAILS
        } else {
            SPREAD
        };
        Self::measured(name, Unit::Time, ours, &wait)
            .over(ours, raw, &wait)
            .judged(target, spread)
    }

    /// A path by itself.
    pub(crate) fn alone(name: Name, rounds: &[Round], target: Target) -> Self {
        Self::measured(name, Unit::Rate, rounds, &Round::rate).judged(target, SPREAD)
    }

    /// A path at a fixed rate, by the time within which 99 of 100 events were done.
    pub(crate) fn paced(name: Name, round: &Round, waits: Waits, target: Target) -> Self {
        let mut row = Self::measured(name, Unit::Time, std::slice::from_ref(round), &|_| {
            waits.p99
        });
        row.waits = Some(waits);
        row.judged(target, SPREAD_OF_TAILS)
    }

    fn measured(
        (transport, path, payload): Name,
        unit: Unit,
        rounds: &[Round],
        figure: Figure<'_>,
    ) -> Self {
        let (ours, spread) = median(rounds.iter().map(figure));
        Self {
            transport,
            path,
            payload,
            ours,
            raw: None,
            unit,
            ratio: None,
            cpu_us: median(rounds.iter().map(Round::cpu_us)).0,
            raw_cpu_us: None,
            cpu_over_raw_us: None,
            server_us: known(rounds, Round::server_us),
            raw_server_us: None,
            allocations: known(rounds, Round::allocations),
            raw_allocations: None,
            spread,
            foreign: known(rounds, Round::foreign),
            waits: None,
            target: String::new(),
            wanted_ratio: None,
            met: None,
            noise: None,
        }
    }

    /// Compares each round with the one beside it, so that a machine that gets slower as time
    /// passes does so for both.
    fn over(mut self, ours: &[Round], raw: &[Round], figure: Figure<'_>) -> Self {
        let pairs = || ours.iter().zip(raw);
        let ratios = pairs().map(|(ours, raw)| figure(ours) / figure(raw));
        let (ratio, spread) = median(ratios);
        self.raw = Some(median(raw.iter().map(figure)).0);
        self.ratio = Some(ratio);
        self.spread = spread;
        self.raw_cpu_us = Some(median(raw.iter().map(Round::cpu_us)).0);
        let over = pairs().map(|(ours, raw)| ours.cpu_us() - raw.cpu_us());
        self.cpu_over_raw_us = Some(median(over).0);
        self.raw_server_us = known(raw, Round::server_us);
        self.raw_allocations = known(raw, Round::allocations);
        let foreign = known(raw, Round::foreign);
        self.foreign = self.foreign.zip(foreign).map(|(a, b)| a.max(b));
        self
    }

    /// A run that was disturbed shows its figures and judges nothing.
    fn judged(mut self, target: Target, spread: f64) -> Self {
        self.target = target.words();
        self.wanted_ratio = target.ratio();
        let reached = target.is_reached(&self);
        let disturbed = self.foreign.filter(|foreign| *foreign > FOREIGN);
        self.noise = match disturbed {
            _ if reached.is_none() => None,
            Some(foreign) => Some(format!("others kept {foreign:.1} processors busy")),
            None if self.spread > spread => {
                Some(format!("rounds {:.0} % apart", self.spread * 100.0))
            }
            None => None,
        };
        self.met = reached.filter(|_| self.noise.is_none());
        self
    }

    /// Whether everything was measured that the row should have.
    pub(crate) fn is_whole(&self) -> bool {
        let figures = [Some(self.ours), self.raw, self.ratio];
        let is_good = |figure: f64| figure.is_finite() && figure > 0.0;
        figures.into_iter().flatten().all(is_good) && self.cpu_us.is_finite()
    }

    /// One of its figures as text.
    pub(crate) fn figure(&self, value: f64) -> String {
        match self.unit {
            Unit::Rate if value < 1e6 => format!("{:.1} k/s", value / 1e3),
            Unit::Rate => format!("{:.3} M/s", value / 1e6),
            Unit::Time => format!("{value:.0} us"),
        }
    }

    /// What the figures are worth, in words.
    pub(crate) fn verdict(&self) -> String {
        match (self.met, &self.noise) {
            (Some(true), _) => format!("met ({})", self.target),
            (Some(false), _) => format!("below ({})", self.target),
            (None, Some(noise)) => format!("not judged: {noise} ({})", self.target),
            (None, None) => self.target.clone(),
        }
    }
}

/// The median of what every round knows.
pub(crate) fn known(rounds: &[Round], figure: fn(&Round) -> Option<f64>) -> Option<f64> {
    let values: Option<Vec<f64>> = rounds.iter().map(figure).collect();
    Some(median(values?.into_iter()).0)
}

impl Target {
    fn words(self) -> String {
        match self {
            Self::Beside { ratio, cpu_us } => {
                format!("ratio >= {ratio:.2}, cpu <= {cpu_us} us over raw")
            }
            Self::Latency { ratio, cpu_us } => {
                format!("ratio <= {ratio:.2}, cpu <= {cpu_us} us over raw")
            }
            Self::Rate(least) => format!(">= {:.1} M/s", least / 1e6),
            Self::Within(most) => format!("p99 <= {:.0} ms", most / 1e3),
            Self::None => "for information".to_owned(),
        }
    }

    fn ratio(self) -> Option<f64> {
        match self {
            Self::Beside { ratio, .. } | Self::Latency { ratio, .. } => Some(ratio),
            Self::Rate(_) | Self::Within(_) | Self::None => None,
        }
    }

    fn is_reached(self, row: &Row) -> Option<bool> {
        match self {
            Self::Beside { ratio, cpu_us } => {
                Some(row.ratio? >= ratio && row.cpu_over_raw_us? <= cpu_us)
            }
            Self::Latency { ratio, cpu_us } => {
                Some(row.ratio? <= ratio && row.cpu_over_raw_us? <= cpu_us)
            }
            Self::Rate(least) => Some(row.ours >= least),
            Self::Within(most) => Some(row.ours <= most),
            Self::None => None,
        }
    }
}

/// The head of a table for people.
pub(crate) fn print_head() {
    println!(
        "{:<9} {:<44} {:>5} {:>10} {:>10} {:>5} {:>15} {:>15} {:>6} {:>7}  target",
        "transport",
        "path",
        "bytes",
        "ours",
        "raw",
        "ratio",
        "client us",
        "server us",
        "spread",
        "foreign"
    );
}

impl Row {
    /// A line of the table, as soon as it is measured.
    pub(crate) fn print(&self) {
        println!(
            "{:<9} {:<44} {:>5} {:>10} {:>10} {:>5} {:>15} {:>15} {:>5.0}% {:>7}  {}",
            self.transport,
            self.path,
            self.payload,
            self.figure(self.ours),
            or_dash(self.raw.map(|raw| self.figure(raw))),
            or_dash(self.ratio.map(|ratio| format!("{ratio:.2}"))),
            pair(Some(self.cpu_us), self.raw_cpu_us),
            pair(self.server_us, self.raw_server_us),
            self.spread * 100.0,
            or_dash(self.foreign.map(|foreign| format!("{foreign:.2}"))),
            self.verdict(),
        );
        if self.allocations.is_some() {
            let allocations = pair(self.allocations, self.raw_allocations);
            println!("  allocations: {allocations}");
        }
        if let Some(waits) = &self.waits {
            print!("{waits}");
        }
    }
}

/// Ours and raw.
pub(crate) fn pair(ours: Option<f64>, raw: Option<f64>) -> String {
    let text = |us: Option<f64>| or_dash(us.map(|us| format!("{us:.2}")));
    match raw {
        Some(_) => format!("{} / {}", text(ours), text(raw)),
        None => text(ours),
    }
}

pub(crate) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}
