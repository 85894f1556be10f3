//! Prints what the transports declare, as the table of docs/guarantees.md.

#![expect(clippy::print_stdout, reason = "a command line tool")]

use interline_core::{Capabilities, Dedupe, Transport as _};

type Row = (&'static str, fn(&Capabilities) -> String);

const ROWS: &[Row] = &[
    ("durability of a stored event", |c| c.durability.to_string()),
    ("copies are recognised", |c| match c.dedupe {
        Dedupe::Session => "within a session".to_owned(),
        Dedupe::Window(window) => format!("for {window:?}"),
        Dedupe::Last(events) => format!("among the last {events} events"),
        other => format!("{other:?}"),
    }),
    ("largest payload", |c| {
        format!("{} KiB", c.max_payload >> 10)
    }),
    ("checkpoints stored every", |c| match c.cadence.count {
        Some(count) => format!("{:?} or {count} events", c.cadence.every),
        None => format!("{:?}", c.cadence.every),
    }),
    ("ranges in a checkpoint", |c| c.max_ranges.to_string()),
    ("attempts in a checkpoint", |c| c.max_attempts.to_string()),
    ("events outlive the process", |c| yes(c.persistent)),
    ("readings start at a time", |c| yes(c.start_at_time)),
    ("topics are managed", |c| yes(c.manage_topics)),
    ("other clients can write", |c| yes(c.foreign_writers)),
    ("lag", |c| c.lag.to_string()),
];

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> interline_core::Result<()> {
    let memory = interline_memory::connect("memory://").await?;
    let all = [
        memory.capabilities(),
        interline_kafka::native::declared(3),
        interline_redis::native::declared(),
        interline_nats::native::declared(),
        interline_postgres::native::declared(),
    ];
    let names: Vec<_> = all.iter().map(|declared| declared.transport).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (row, cell) in ROWS {
        let cells: Vec<_> = all.iter().map(cell).collect();
        println!("| {row} | {} |", cells.join(" | "));
    }
    Ok(())
}
