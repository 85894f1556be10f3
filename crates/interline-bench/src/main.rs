#![doc = include_str!("../README.md")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool"
)]
#![expect(
    clippy::future_not_send,
    reason = "one thread runs all of them, as long as they are measured"
)]

mod baseline;
mod broker;
mod clock;
mod document;
mod kafka;
mod latency;
mod measure;
mod memory;
mod nats;
mod ours;
mod postgres;
mod redis;
mod report;
mod sample;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::baseline::Baseline;
use crate::measure::Plan;
use crate::report::Row;

/// Measures our paths beside the raw clients.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; everything without it.
    transports: Vec<Transport>,
    /// Few events and one round: shows that every row produces figures, not how large they are.
    #[arg(long)]
    quick: bool,
    /// Only rows whose path contains this.
    #[arg(long, default_value = "")]
    path: String,
    /// Writes the rows to this file as a JSON list.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Compares with the rows of this file, written by an earlier run.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Writes the rows into the tables of this document.
    #[arg(long, conflicts_with_all = ["quick", "path"])]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Memory,
    Kafka,
    Redis,
    Nats,
    Postgres,
}

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let plan = if args.quick { Plan::QUICK } else { Plan::FULL };
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let mut rows: Vec<Row> = Vec::new();
    report::print_head();
    for transport in Transport::value_variants() {
        if args.transports.is_empty() || args.transports.contains(transport) {
            transport.rows(plan, &args.path, &mut rows)?;
        }
    }
    if let Some(baseline) = baseline {
        baseline.print(&rows);
    }
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&rows)?)?;
    }
    if let Some(file) = &args.write {
        document::write(file, &rows)?;
    }
    match rows.iter().find(|row| !row.is_whole()) {
        Some(row) => Err(format!("{}, {}: no figures", row.transport, row.path).into()),
        None if rows.is_empty() => Err("no row has such a path".into()),
        None => Ok(()),
    }
}

impl Transport {
    /// Adds the rows whose path contains `path`.
    fn rows(self, plan: Plan, path: &str, rows: &mut Vec<Row>) -> Result<()> {
        match self {
            Self::Memory => {
                let measured = memory::rows(plan, path)?;
                measured.iter().for_each(Row::print);
                rows.extend(measured);
                Ok(())
            }
            Self::Kafka => broker::rows::<kafka::Kafka>(plan, path, rows),
            Self::Redis => broker::rows::<redis::Redis>(plan, path, rows),
            Self::Nats => broker::rows::<nats::Nats>(plan, path, rows),
            Self::Postgres => broker::rows::<postgres::Postgres>(plan, path, rows),
        }
    }
}
