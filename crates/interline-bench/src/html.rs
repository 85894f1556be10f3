//! The rows as a page for people: ours over raw as bars, latencies as curves.

use std::fmt::{self, Write as _};

use crate::latency::Waits;
use crate::report::{Row, Unit};

const HEAD: &str = include_str!("head.html");

/// The whole page.
pub(crate) fn page(rows: &[Row], machine: &str) -> String {
    let mut page = format!("{HEAD}<p>{machine}</p>\n");
    for rows in rows.chunk_by(|a, b| a.transport == b.transport) {
        // Writing to a string does not fail.
        let _ = section(&mut page, rows);
    }
    page
}

fn section(page: &mut String, rows: &[Row]) -> fmt::Result {
    writeln!(page, "<h2>{}</h2>", rows[0].transport)?;
    bars(page, rows)?;
    let waits = rows
        .iter()
        .filter_map(|row| Some((row.path, row.waits.as_ref()?)));
    let waits: Vec<(&str, &Waits)> = waits.collect();
    if !waits.is_empty() {
        curves(page, &waits)?;
    }
    Ok(())
}

/// Where bars begin, how wide a ratio of 1 is, and how high a row is.
const LEFT: f64 = 330.0;
const ONE: f64 = 220.0;
const LINE: f64 = 26.0;

/// A longer bar is cut off; its figure stands beside it.
const LONGEST: f64 = 1.6;

/// Ours over raw, a bar for each row that has both, and other rows in words.
fn bars(page: &mut String, rows: &[Row]) -> fmt::Result {
    let height = LINE * rows.len() as f64 + 24.0;
    writeln!(page, r#"<svg viewBox="0 0 900 {height}" role="img">"#)?;
    let (x, end) = (LEFT + ONE, height - 20.0);
    writeln!(
        page,
        r#"<line class="one" x1="{x}" x2="{x}" y1="0" y2="{end}"/>"#
    )?;
    let below = height - 6.0;
    writeln!(
        page,
        r#"<text class="axis" x="{x}" y="{below}" text-anchor="middle">as raw</text>"#
    )?;
    for (at, row) in rows.iter().enumerate() {
        bar(page, row, LINE * at as f64)?;
    }
    writeln!(page, "</svg>")
}

fn bar(page: &mut String, row: &Row, top: f64) -> fmt::Result {
    let middle = top + 17.0;
    let (x, path, payload) = (LEFT - 8.0, row.path, row.payload);
    writeln!(
        page,
        r#"<text x="{x}" y="{middle}" text-anchor="end">{path}, {payload} B</text>"#
    )?;
    let verdict = row.verdict().replace('<', "&lt;");
    let state = match row.met {
        Some(true) => "met",
        Some(false) => "below",
        None => "open",
    };
    let Some(ratio) = row.ratio else {
        let figure = row.figure(row.ours);
        return writeln!(
            page,
            r#"<text class="{state}" x="{LEFT}" y="{middle}">{figure}<title>{verdict}</title></text>"#
        );
    };
    let (width, bar_top) = (ratio.min(LONGEST) * ONE, top + 5.0);
    writeln!(
        page,
        r#"<rect class="{state}" x="{LEFT}" y="{bar_top}" width="{width:.1}" height="16"><title>{verdict}</title></rect>"#
    )?;
    if let Some(wanted) = row.wanted_ratio {
        let (x, end) = (LEFT + wanted * ONE, top + 24.0);
        writeln!(
            page,
            r#"<line class="wanted" x1="{x}" x2="{x}" y1="{}" y2="{end}"/>"#,
            top + 2.0
        )?;
    }
    let better = match row.unit {
        Unit::Rate => "",
        Unit::Time => ", less is better",
    };
    let x = LEFT + LONGEST * ONE + 8.0;
    writeln!(
        page,
        r#"<text class="axis" x="{x}" y="{middle}">{ratio:.2}{better}</text>"#
    )
}

/// Latencies from the fastest to the slowest event. Each nine takes as much room as the one
/// before it, as tails are what matters.
fn curves(page: &mut String, all: &[(&str, &Waits)]) -> fmt::Result {
    let plot = Plot::of(all);
    writeln!(page, r#"<svg viewBox="0 0 900 270" role="img">"#)?;
    plot.grid(page)?;
    for (at, (path, waits)) in all.iter().enumerate() {
        let points = waits.curve.iter();
        let points = points.map(|(part, us)| format!("{:.1},{:.1}", plot.x(*part), plot.y(*us)));
        let points = points.collect::<Vec<_>>().join(" ");
        writeln!(page, r#"<polyline class="curve{at}" points="{points}"/>"#)?;
        let (x, y) = (RIGHT + 12.0, TOP + 16.0 + 40.0 * at as f64);
        let path = path.trim_end_matches(", p99 in us");
        writeln!(
            page,
            r#"<text class="curve{at}" x="{x}" y="{y}">{path}</text>"#
        )?;
        let (Waits { p50, p99, p999, .. }, y) = (waits, y + 16.0);
        let figures = format!("p50 {p50:.0}, p99 {p99:.0}, p99.9 {p999:.0} us");
        writeln!(
            page,
            r#"<text class="axis" x="{x}" y="{y}">{figures}</text>"#
        )?;
    }
    writeln!(page, "</svg>")
}

/// Where the plot of curves begins and ends.
const BEGIN: f64 = 60.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 234.0;

/// What it shows: powers of ten in microseconds, and so many nines.
struct Plot {
    least: f64,
    most: f64,
    nines: f64,
}

impl Plot {
    fn of(all: &[(&str, &Waits)]) -> Self {
        let points = || all.iter().flat_map(|(_, waits)| &waits.curve);
        let (least, most) = points().fold((f64::MAX, 1.0), |(least, most), (_, us)| {
            (f64::min(least, *us), f64::max(most, *us))
        });
        Self {
            least: least.log10().floor(),
            most: most.log10().ceil(),
            nines: points().map(|(part, _)| nines(*part)).fold(1.0, f64::max),
        }
    }

    fn x(&self, part: f64) -> f64 {
        BEGIN + (RIGHT - BEGIN) * nines(part) / self.nines
    }

    fn y(&self, us: f64) -> f64 {
        let height = (self.most - self.least).max(1.0);
        TOP + (BOTTOM - TOP) * (self.most - us.log10()) / height
    }

    fn grid(&self, page: &mut String) -> fmt::Result {
        for power in self.least as i32..=self.most as i32 {
            let (y, left) = (self.y(10_f64.powi(power)), BEGIN - 6.0);
            let (label, below) = (in_words(power), y + 4.0);
            writeln!(
                page,
                r#"<line class="grid" x1="{BEGIN}" x2="{RIGHT}" y1="{y:.1}" y2="{y:.1}"/>
<text class="axis" x="{left}" y="{below:.1}" text-anchor="end">{label}</text>"#
            )?;
        }
        for percent in [0.0, 50.0, 90.0, 99.0, 99.9, 99.99] {
            let (x, below) = (self.x(percent / 100.0), BOTTOM + 16.0);
            if x < RIGHT + 1.0 {
                writeln!(
                    page,
                    r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{BOTTOM}"/>
<text class="axis" x="{x:.1}" y="{below}" text-anchor="middle">{percent} %</text>"#
                )?;
            }
        }
        Ok(())
    }
}

/// How many nines a part has: 1 for 90 of 100, 2 for 99.
fn nines(part: f64) -> f64 {
    -(1.0 - part).log10()
}

/// So many microseconds, as a power of ten.
fn in_words(power: i32) -> String {
    match power {
        ..3 => format!("{} us", 10_f64.powi(power)),
        3..6 => format!("{} ms", 10_f64.powi(power - 3)),
        _ => format!("{} s", 10_f64.powi(power - 6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_takes_as_much_room() {
        let places = [0.0, 0.9, 0.99, 0.999].map(nines);
        let expected = [0.0, 1.0, 2.0, 3.0];
        let is_near = |(at, place): (usize, &f64)| (place - expected[at]).abs() < 1e-9;
        assert!(places.iter().enumerate().all(is_near), "{places:?}");
        assert_eq!(
            [in_words(2), in_words(4), in_words(6)],
            ["100 us", "10 ms", "1 s"]
        );
    }
}
