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
mod html;
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
mod scale;
mod series;
mod site;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::baseline::Baseline;
use crate::broker::Broker as _;
use crate::measure::Plan;
use crate::report::Row;
use crate::scale::Size;
use crate::series::Series;
use crate::site::Site;

/// Measures our paths beside the raw clients.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; everything without it.
    transports: Vec<Transport>,
    #[command(subcommand)]
    instead: Option<Instead>,
    /// Few events and one round: shows that every row produces figures, not how large they are.
    #[arg(long, global = true)]
    quick: bool,
    /// Only rows whose path contains this.
    #[arg(long, default_value = "")]
    path: String,
    /// Writes the rows, or the series, to this file as a JSON list.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Compares with the rows of this file, written by an earlier run.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Writes the rows to this file as a page with plots.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Writes the figures into the tables of this document.
    #[arg(long, global = true, conflicts_with = "quick")]
    write: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Instead {
    /// Measures whether an event costs the same however much there is of backlog, and in memory of
    /// lanes, handlers, keys and headers.
    Scale {
        /// Where; everywhere without it.
        transports: Vec<Transport>,
        /// Ten million events of backlog, too.
        #[arg(long)]
        huge: bool,
    },
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
    let plan = match args.quick {
        true => Plan::QUICK,
        false if clock::COUNTS => Plan::COUNTED,
        false => Plan::FULL,
    };
    match &args.instead {
        None => rows(args, plan),
        Some(Instead::Scale { transports, huge }) => {
            let size = Size { plan, huge: *huge };
            scale(args, &Transport::wanted(transports), size)
        }
    }
}

fn rows(args: &Args, plan: Plan) -> Result<()> {
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let mut rows: Vec<Row> = Vec::new();
    report::print_head();
    for transport in Transport::wanted(&args.transports) {
        transport.rows(plan, &args.path, &mut rows)?;
    }
    if let Some(baseline) = baseline {
        baseline.print(&rows);
    }
    if let Some(file) = &args.html {
        std::fs::write(file, html::page(&rows, &document::machine()))?;
    }
    save(args, &rows, &rows, &[])?;
    match rows.iter().find(|row| !row.is_whole()) {
        Some(row) => Err(format!("{}, {}: no figures", row.transport, row.path).into()),
        None if rows.is_empty() => Err("no row has such a path".into()),
        None => Ok(()),
    }
}

fn scale(args: &Args, transports: &[Transport], size: Size) -> Result<()> {
    let mut all = Vec::new();
    for transport in transports {
        all.extend(transport.scale(size)?);
    }
    save(args, &all, &[], &all)?;
    match all.iter().find(|series| !series.is_whole()) {
        Some(series) => Err(format!("{}, {}: no figures", series.transport, series.what).into()),
        None => Ok(()),
    }
}

/// Writes what was measured where the caller wants it.
fn save(args: &Args, measured: &impl Serialize, rows: &[Row], series: &[Series]) -> Result<()> {
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(measured)?)?;
    }
    if let Some(file) = &args.write {
        if !args.path.is_empty() {
            return Err("--write wants all rows: leave --path out".into());
        }
        document::write(file, rows, series)?;
    }
    Ok(())
}

impl Transport {
    /// Those that were named, or all.
    fn wanted(named: &[Self]) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|one| named.is_empty() || named.contains(one))
            .collect()
    }

    fn scale(self, size: Size) -> Result<Vec<Series>> {
        let site = match self {
            Self::Memory => Site::memory(size.most()),
            Self::Kafka => kafka::Kafka::site(),
            Self::Redis => redis::Redis::site(),
            Self::Nats => nats::Nats::site(),
            Self::Postgres => postgres::Postgres::site(),
        }?;
        let mut all = Vec::new();
        let mut add = |series: Series| {
            println!("{series}");
            all.push(series);
        };
        if self == Self::Memory {
            scale::in_memory(size, &mut add)?;
        }
        scale::backlog(&site, size, &mut add)?;
        Ok(all)
    }

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
