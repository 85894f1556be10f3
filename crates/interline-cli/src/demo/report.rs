//! The closing table.

use std::fmt;

use serde::Serialize;

use super::intake::Tally;
use super::ledger::Ledger;

/// What became of the events of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) published: u64,
    pub(super) handled: usize,
    pub(super) retried: u64,
    pub(super) dead_lettered: u64,
    pub(super) redriven: usize,
    pub(super) duplicates: usize,
    pub(super) lost: usize,
    pub(super) out_of_order: usize,
    pub(super) rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Report {
    /// The part that the account knows.
    pub(super) fn of(ledger: &Ledger, published: u64) -> Self {
        let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
        Self {
            published,
            handled: ledger.handled,
            retried: 0,
            dead_lettered: 0,
            redriven: 0,
            duplicates: ledger.duplicates,
            lost: ledger.lost().len(),
            out_of_order: ledger.out_of_order,
            rate: ledger.rate().round(),
            p50_ms: rounded(ledger.percentile(0.50)),
            p99_ms: rounded(ledger.percentile(0.99)),
        }
    }

    /// Whether nothing was lost and each key kept its order.
    pub(super) fn holds(&self) -> bool {
        self.lost == 0 && self.out_of_order == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<14}{value:>10}");
        row("published", self.published.to_string())?;
        row("handled", self.handled.to_string())?;
        row("retried", self.retried.to_string())?;
        row("dead-lettered", self.dead_lettered.to_string())?;
        row("redriven", self.redriven.to_string())?;
        row("duplicates", self.duplicates.to_string())?;
        row("out of order", self.out_of_order.to_string())?;
        row("lost", self.lost.to_string())?;
        row("rate", format!("{:.0}/s", self.rate))?;
        row("p50", format!("{:.1} ms", self.p50_ms))?;
        row("p99", format!("{:.1} ms", self.p99_ms))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pushes with {} commits, {} pull requests ({} merged), {} issues ({} opened), {} others",
            self.pushes,
            self.commits,
            self.pull_requests,
            self.merged,
            self.issues,
            self.opened,
            self.others
        )
    }
}
