//! An earlier run to compare with.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::Result;
use crate::report::{Row, Unit};

/// What is compared of an earlier row.
#[derive(Debug, Deserialize)]
struct Known {
    transport: String,
    path: String,
    payload: usize,
    ours: f64,
    ratio: Option<f64>,
    spread: f64,
}

/// The rows of an earlier run.
#[derive(Debug)]
pub(crate) struct Baseline(HashMap<(String, String, usize), Known>);

/// What became of a row since.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    was: f64,
    is: f64,
    /// How far both runs' rounds lie apart: less tells nothing.
    spread: f64,
    pub(crate) is_worse: bool,
}

impl Baseline {
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read(file).map_err(|error| explain(&error))?;
        Ok(Self::parse(&text).map_err(|error| explain(&error))?)
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let rows: Vec<Known> = serde_json::from_slice(text)?;
        let rows = rows.into_iter();
        let rows = rows.map(|row| ((row.transport.clone(), row.path.clone(), row.payload), row));
        Ok(Self(rows.collect()))
    }

    /// The ratio is compared where there is one, since both of its sides were measured together.
    pub(crate) fn change(&self, row: &Row) -> Option<Change> {
        let name = (row.transport.to_owned(), row.path.to_owned(), row.payload);
        let known = self.0.get(&name)?;
        let (was, is) = known.ratio.zip(row.ratio).unwrap_or((known.ours, row.ours));
        let spread = row.spread.max(known.spread);
        Some(Change {
            was,
            is,
            spread,
            is_worse: match row.unit {
                Unit::Rate => is < was * (1.0 - spread),
                Unit::Time => is > was * (1.0 + spread),
            },
        })
    }

    /// A table for people.
    pub(crate) fn print(&self, rows: &[Row]) {
        println!("\nsince the baseline");
        for row in rows {
            let name = format!("{:<9} {:<44} {:>5}", row.transport, row.path, row.payload);
            match self.change(row) {
                Some(change) => {
                    let mark = if change.is_worse { "WORSE" } else { "" };
                    let (was, is) = (change.was, change.is);
                    let spread = change.spread * 100.0;
                    println!("{name} {was:>12.2} -> {is:>12.2}, spread {spread:.0}%  {mark}");
                }
                None => println!("{name} is new"),
            }
        }
    }
}
