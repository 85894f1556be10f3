//! `interline demo --check`: compares what was written down with what was published.

use std::path::Path;

use serde::Serialize;

use super::faults::Faults;
use super::intake::Effect;
use super::ledger::Ledger;
use super::webhooks::Webhooks;
use crate::output;
use crate::stop::{Exit, Stop};

/// The lines of a file of effects, brought to account.
pub(super) struct Effects {
    ledger: Ledger,
    /// Lines that name no event of the scene.
    unknown: usize,
}

/// The comparison.
#[derive(Debug, Serialize)]
struct Comparison {
    published: usize,
    handled: usize,
    duplicates: usize,
    lost: usize,
    out_of_order: usize,
    unknown: usize,
}

impl Effects {
    /// The effects in the file; a missing file holds none, and a last line without its break is
    /// still being written.
    pub(super) fn read(file: &Path, events: usize) -> Result<Self, Stop> {
        Self::compare(file, events, |_| true, |_| false)
    }

    fn compare(
        file: &Path,
        events: usize,
        known: impl Fn(&Effect) -> bool,
        unordered: impl Fn(usize) -> bool,
    ) -> Result<Self, Stop> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Stop::failed(format!("{}: {error}", file.display()))),
        };
        let mut ledger = Ledger::new(events);
        let mut unknown = 0;
        (0..events)
            .filter(|at| unordered(*at))
            .for_each(|at| ledger.died(at));
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            let effect: Effect = serde_json::from_str(line).map_err(|_| {
                let line = format!("{}: line {}: this is no effect", file.display(), at + 1);
                Stop::new(Exit::Invalid, line)
            })?;
            match effect.sequence < events && known(&effect) {
                true => ledger.effect(effect.sequence, effect.key.as_deref()),
                false => unknown += 1,
            }
        }
        Ok(Self { ledger, unknown })
    }

    /// The numbers of the events without an effect.
    pub(super) fn lost(&self) -> Vec<usize> {
        self.ledger.lost()
    }
}

/// Compares and shows; it fails if something is lost, out of order or unknown.
pub(super) fn run(
    file: &Path,
    webhooks: &Webhooks,
    faults: &Faults,
    json: bool,
) -> Result<Exit, Stop> {
    if !file.exists() {
        let line = format!("{}: there is no such file of effects", file.display());
        return Err(Stop::new(Exit::NotFound, line));
    }
    let known = |effect: &Effect| {
        let id = webhooks.id(effect.sequence);
        id.is_ok_and(|id| id.to_string() == effect.id)
            && webhooks.key(effect.sequence) == effect.key.as_deref()
    };
    // An event that dies comes back behind later ones of its key, as it should.
    let unordered = |sequence| faults.is_poison(sequence);
    let effects = Effects::compare(file, webhooks.len(), known, unordered)?;
    let (lost, ledger) = (effects.lost(), &effects.ledger);
    let found = Comparison {
        published: webhooks.len(),
        handled: ledger.handled,
        duplicates: ledger.duplicates,
        lost: lost.len(),
        out_of_order: ledger.out_of_order,
        unknown: effects.unknown,
    };
    match json {
        true => output::print_json(&found)?,
        false => output::print(&format!(
            "published     {:>10}\nhandled       {:>10}\nduplicates    {:>10}\n\
             out of order  {:>10}\nunknown       {:>10}\nlost          {:>10}\n",
            found.published,
            found.handled,
            found.duplicates,
            found.out_of_order,
            found.unknown,
            found.lost
        ))?,
    }
    if found.lost + found.out_of_order + found.unknown == 0 {
        return Ok(Exit::Done);
    }
    let first = lost
        .first()
        .map_or(String::new(), |sequence| format!(" (first: {sequence})"));
    Err(Stop::failed(format!(
        "{} events lost{first}, {} out of order, {} unknown",
        found.lost, found.out_of_order, found.unknown
    )))
}
