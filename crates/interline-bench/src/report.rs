//! Rows and how they are shown.

use serde::Serialize;

use crate::measure::{Pair, Round, median};

/// What a row has to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Our rate over the raw rate, and processor time over raw in microseconds.
    Beside { ratio: f64, cpu_us: f64 },
    /// Events a second.
    Rate(f64),
}

/// One path, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    transport: &'static str,
    path: &'static str,
    payload: usize,
    ours: f64,
    raw: Option<f64>,
    ratio: Option<f64>,
    cpu_over_raw_us: Option<f64>,
    cpu_us: f64,
    spread: f64,
    target: String,
    met: bool,
}

impl Row {
    /// A path beside its raw client.
    pub(crate) fn beside(
        (transport, path, payload): (&'static str, &'static str, usize),
        pair: &Pair,
        target: Target,
    ) -> Self {
        let mut row = Self::alone((transport, path, payload), &pair.ours, target);
        let (raw, _) = median(pair.raw.iter().map(Round::rate));
        let (raw_cpu, _) = median(pair.raw.iter().map(Round::cpu_us));
        let (ratio, over) = (row.ours / raw, row.cpu_us - raw_cpu);
        row.raw = Some(raw);
        row.ratio = Some(ratio);
        row.cpu_over_raw_us = Some(over);
        if let Target::Beside {
            ratio: least,
            cpu_us,
        } = target
        {
            row.target = format!("ratio >= {least}, cpu <= {cpu_us} us over raw");
            row.met = ratio >= least && over <= cpu_us;
        }
        row
    }

    /// A path by itself.
    pub(crate) fn alone(
        (transport, path, payload): (&'static str, &'static str, usize),
        rounds: &[Round],
        target: Target,
    ) -> Self {
        let (ours, spread) = median(rounds.iter().map(Round::rate));
        let (cpu_us, _) = median(rounds.iter().map(Round::cpu_us));
        let (target, met) = match target {
            Target::Rate(least) => (format!(">= {:.1} M/s", least / 1e6), ours >= least),
            Target::Beside { .. } => (String::new(), false),
        };
        Self {
            transport,
            path,
            payload,
            ours,
            raw: None,
            ratio: None,
            cpu_over_raw_us: None,
            cpu_us,
            spread,
            target,
            met,
        }
    }
}

/// A table for people.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "{:<9} {:<44} {:>6} {:>9} {:>9} {:>6} {:>8} {:>8} {:>7}  target",
        "transport", "path", "bytes", "ours M/s", "raw M/s", "ratio", "cpu us", "over us", "spread"
    );
    for row in rows {
        let optional = |value: Option<f64>, scale: f64| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{:.3}", value / scale))
        };
        println!(
            "{:<9} {:<44} {:>6} {:>9.3} {:>9} {:>6} {:>8.3} {:>8} {:>6.0}%  {} ({})",
            row.transport,
            row.path,
            row.payload,
            row.ours / 1e6,
            optional(row.raw, 1e6),
            row.ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            row.cpu_us,
            optional(row.cpu_over_raw_us, 1.0),
            row.spread * 100.0,
            if row.met { "met" } else { "below" },
            row.target,
        );
    }
}
