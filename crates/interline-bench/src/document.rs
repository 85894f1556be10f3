//! The tables of the document about performance.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;
use crate::broker::ALLOCATING;
use crate::clock::COUNTS;
use crate::report::{Row, or_dash, pair};
use crate::series::Series;

/// Replaces the tables of the transports that were measured, and leaves the others as they are.
pub(crate) fn write(file: &Path, rows: &[Row], series: &[Series]) -> Result<()> {
    let mut text = std::fs::read_to_string(file)?;
    if COUNTS {
        let counted: Vec<_> = rows.iter().filter_map(allocating).collect();
        for these in counted.chunk_by(|(a, _), (b, _)| a.transport == b.transport) {
            let name = format!("allocations {}", these[0].0.transport);
            text = between(&text, &name, &table_of_allocations(these))?;
        }
        return Ok(std::fs::write(file, text)?);
    }
    for these in rows.chunk_by(|a, b| a.transport == b.transport) {
        text = between(&text, these[0].transport, &table(these))?;
    }
    for these in series.chunk_by(|a, b| a.transport == b.transport) {
        let name = format!("scale {}", these[0].transport);
        text = between(&text, &name, &table_of_series(these))?;
    }
    text = between(&text, "machine", &machine())?;
    Ok(std::fs::write(file, text)?)
}

/// `text` with what stands between the two marks of that name replaced.
fn between(text: &str, name: &str, new: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- bench {name} -->\n"),
        format!("<!-- /bench {name} -->"),
    );
    let (before, rest) = text.split_once(&begin).ok_or(format!("no {begin}"))?;
    let (_, after) = rest.split_once(&end).ok_or(format!("no {end}"))?;
    Ok(format!("{before}{begin}{new}{end}{after}"))
}

fn table(rows: &[Row]) -> String {
    let mut text = "\
| path | bytes | ours | raw | ratio | client us | server us | spread | target |
|---|---|---|---|---|---|---|---|---|
"
    .to_owned();
    for row in rows {
        let ours = match &row.waits {
            Some(waits) => format!("{:.0} / {:.0} / {:.0} us", waits.p50, waits.p99, waits.p999),
            None => row.figure(row.ours),
        };
        let path = match row.waits {
            Some(_) => row.path.replace("p99 in us", "p50 / p99 / p99.9"),
            None => row.path.to_owned(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {path} | {} | {ours} | {} | {} | {} | {} | {} | {} |",
            row.payload,
            or_dash(row.raw.map(|raw| row.figure(raw))),
            or_dash(row.ratio.map(|ratio| format!("{ratio:.2}"))),
            pair(Some(row.cpu_us), row.raw_cpu_us),
            pair(row.server_us, row.raw_server_us),
            or_dash(
                row.waits
                    .is_none()
                    .then(|| format!("{:.0} %", row.spread * 100.0))
            ),
            row.verdict(),
        );
    }
    text
}

/// A row whose allocations are told, with its name there.
fn allocating(row: &Row) -> Option<(&Row, &'static str)> {
    let found = ALLOCATING.iter().find(|(path, _)| *path == row.path);
    found.map(|(_, name)| (row, *name))
}

fn table_of_allocations(rows: &[(&Row, &str)]) -> String {
    let mut text = "\
| path | bytes | ours | raw |
|---|---|---|---|
"
    .to_owned();
    for (row, name) in rows {
        let figure = |count: Option<f64>| or_dash(count.map(|count| format!("{count:.1}")));
        let (ours, raw) = (figure(row.allocations), figure(row.raw_allocations));
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {name} | {} | {ours} | {raw} |", row.payload);
    }
    text
}

fn table_of_series(series: &[Series]) -> String {
    let mut text = "\
| what grows | an event costs, in us of time / of the client | start, in ms | |
|---|---|---|---|
"
    .to_owned();
    for series in series {
        let points = series.points.iter().map(|point| {
            let (size, each) = (point.size, point.each);
            format!("{size}: {:.2} / {:.2}", each.time_us, each.cpu_us)
        });
        let points = points.collect::<Vec<_>>().join("<br>");
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {points} | {} | {} |",
            series.what,
            series.start_ms(),
            series.verdict()
        );
    }
    text
}

/// What this machine is.
pub(crate) fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let about = read("/proc/cpuinfo");
    let name = about
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map_or("unknown processors", |name| {
        name.trim_matches([' ', '\t', ':'])
    });
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{count} x {name}, Linux {}.\n", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_table_is_replaced() {
        let text = "a\n<!-- bench x -->\nold\n<!-- /bench x -->\n<!-- bench y -->\nstays\n<!-- /bench y -->\n";
        let new = between(text, "x", "new\n").unwrap();
        assert_eq!(new, text.replace("old", "new"));
        assert!(between(text, "z", "").is_err());
    }
}
