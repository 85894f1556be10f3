#![doc = include_str!("../README.md")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool"
)]

mod kafka;
mod measure;
mod memory;
mod report;
mod sample;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Memory,
    Kafka,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

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
    let wanted = |transport| args.transports.is_empty() || args.transports.contains(&transport);
    let mut rows: Vec<Row> = Vec::new();
    if wanted(Transport::Memory) {
        rows.extend(memory::rows(plan, &args.path)?);
    }
    if wanted(Transport::Kafka) {
        rows.extend(kafka::rows(plan, &args.path)?);
    }
    report::print(&rows);
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}
