//! Rows and how they are shown.

use serde::Serialize;

use crate::measure::{Round, median};

/// What a row has to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Our rate over the raw rate, and processor time over raw in microseconds.
    Beside { ratio: f64, cpu_us: f64 },
    /// Our time over the raw time, and processor time over raw in microseconds.
    Latency { ratio: f64, cpu_us: f64 },
    /// Events a second.
    Rate(f64),
    /// Nothing: the row is for information.
    None,
}

/// In what `ours` and `raw` are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Unit {
    #[serde(rename = "events/s")]
    Rate,
    #[serde(rename = "us")]
    Time,
}

/// One path, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    transport: &'static str,
    path: &'static str,
    payload: usize,
    ours: f64,
    raw: Option<f64>,
    unit: Unit,
    ratio: Option<f64>,
    cpu_over_raw_us: Option<f64>,
    cpu_us: f64,
    spread: f64,
    target: String,
    met: bool,
}

/// Transport, path and payload in bytes.
pub(crate) type Name = (&'static str, &'static str, usize);

impl Row {
    /// A path beside its raw client, by rate.
    pub(crate) fn beside(name: Name, ours: &[Round], raw: &[Round], target: Target) -> Self {
        Self::measured(name, Unit::Rate, ours, target, Round::rate).over(raw, target, Round::rate)
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
        Self::measured(name, Unit::Time, ours, target, wait).over(raw, target, wait)
    }

    /// A path by itself.
    pub(crate) fn alone(name: Name, rounds: &[Round], target: Target) -> Self {
        Self::measured(name, Unit::Rate, rounds, target, Round::rate)
    }

    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    fn measured(
        (transport, path, payload): Name,
        unit: Unit,
        rounds: &[Round],
        target: Target,
        figure: impl Fn(&Round) -> f64,
    ) -> Self {
        let (ours, spread) = median(rounds.iter().map(figure));
        let (cpu_us, _) = median(rounds.iter().map(Round::cpu_us));
        Self {
            transport,
            path,
            payload,
            ours,
            raw: None,
            unit,
            ratio: None,
            cpu_over_raw_us: None,
            cpu_us,
            spread,
            target: target.words(),
            met: match target {
                Target::Rate(least) => ours >= least,
                Target::None => true,
                Target::Beside { .. } | Target::Latency { .. } => false,
            },
        }
    }

    fn over(mut self, raw: &[Round], target: Target, figure: impl Fn(&Round) -> f64) -> Self {
        let (raw_figure, _) = median(raw.iter().map(figure));
        let (raw_cpu, _) = median(raw.iter().map(Round::cpu_us));
        let (reached, over) = (self.ours / raw_figure, self.cpu_us - raw_cpu);
        self.raw = Some(raw_figure);
        self.ratio = Some(reached);
        self.cpu_over_raw_us = Some(over);
        match target {
            Target::Beside { ratio, cpu_us } => self.met = reached >= ratio && over <= cpu_us,
            Target::Latency { ratio, cpu_us } => self.met = reached <= ratio && over <= cpu_us,
            Target::Rate(_) | Target::None => {}
        }
        self
    }

    fn figure(&self, value: f64) -> String {
        match self.unit {
            Unit::Rate => format!("{:.3} M/s", value / 1e6),
            Unit::Time => format!("{value:.0} us"),
        }
    }
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
            Self::None => "for information".to_owned(),
        }
    }
}

/// A table for people.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "{:<9} {:<44} {:>6} {:>10} {:>10} {:>6} {:>8} {:>8} {:>7}  target",
        "transport", "path", "bytes", "ours", "raw", "ratio", "cpu us", "over us", "spread"
    );
    for row in rows {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let over = row.cpu_over_raw_us;
        println!(
            "{:<9} {:<44} {:>6} {:>10} {:>10} {:>6} {:>8.3} {:>8} {:>6.0}%  {}",
            row.transport,
            row.path,
            row.payload,
            row.figure(row.ours),
            or_dash(row.raw.map(|raw| row.figure(raw))),
            or_dash(row.ratio.map(|ratio| format!("{ratio:.2}"))),
            row.cpu_us,
            or_dash(over.map(|over| format!("{over:.3}"))),
            row.spread * 100.0,
            row.verdict(),
        );
    }
}

impl Row {
    fn verdict(&self) -> String {
        let Self { target, met, .. } = self;
        match met {
            true if target == "for information" => target.clone(),
            true => format!("met ({target})"),
            false => format!("below ({target})"),
        }
    }
}
