//! What happened to each event, as the handlers saw it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The account of one run: what was published, and every effect in the order of its happening.
#[derive(Debug)]
pub(super) struct Ledger {
    events: Vec<Entry>,
    /// Of each key the number of the last event that had its first effect.
    last: HashMap<String, usize>,
    /// How many events have an effect.
    pub(super) handled: usize,
    /// How many events are dead letters without an effect.
    dead: usize,
    /// How many effects happened beyond the first of an event.
    pub(super) duplicates: usize,
    /// How many first effects came after that of a later event of their key.
    pub(super) out_of_order: usize,
    first_publish: Option<Instant>,
    last_effect: Option<Instant>,
    latencies: Vec<Duration>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    published: Option<Instant>,
    dead: bool,
    effects: usize,
}

impl Ledger {
    pub(super) fn new(events: usize) -> Self {
        Self {
            events: vec![Entry::default(); events],
            last: HashMap::new(),
            handled: 0,
            dead: 0,
            duplicates: 0,
            out_of_order: 0,
            first_publish: None,
            last_effect: None,
            latencies: Vec::with_capacity(events),
        }
    }

    /// Notes that an event is about to be published.
    pub(super) fn published(&mut self, sequence: usize) {
        let now = Instant::now();
        self.first_publish.get_or_insert(now);
        if let Some(entry) = self.events.get_mut(sequence) {
            entry.published = Some(now);
        }
    }

    /// Notes that an event became a dead letter.
    pub(super) fn died(&mut self, sequence: usize) {
        if let Some(entry) = self.events.get_mut(sequence)
            && !std::mem::replace(&mut entry.dead, true)
            && entry.effects == 0
        {
            self.dead += 1;
        }
    }

    /// Notes an effect. An event that was dead gave up the order of its key and is not measured.
    pub(super) fn effect(&mut self, sequence: usize, key: Option<&str>) {
        let Some(entry) = self.events.get_mut(sequence) else {
            return;
        };
        entry.effects += 1;
        if entry.effects > 1 {
            self.duplicates += 1;
            return;
        }
        self.handled += 1;
        if entry.dead {
            self.dead -= 1;
            return;
        }
        let now = Instant::now();
        self.last_effect = Some(now);
        let published = entry.published.unwrap_or(now);
        self.latencies.push(now.duration_since(published));
        if let Some(key) = key {
            let last = self.last.entry(key.to_owned()).or_insert(sequence);
            match *last <= sequence {
                true => *last = sequence,
                false => self.out_of_order += 1,
            }
        }
    }

    /// How many events have an effect or are dead letters.
    pub(super) fn ended(&self) -> usize {
        self.handled + self.dead
    }

    /// The numbers of the events without an effect.
    pub(super) fn lost(&self) -> Vec<usize> {
        let events = self.events.iter().enumerate();
        events
            .filter(|(_, entry)| entry.effects == 0)
            .map(|(sequence, _)| sequence)
            .collect()
    }

    /// Events handled a second, from the first publish to the last effect before the redrive.
    pub(super) fn rate(&self) -> f64 {
        match (self.first_publish, self.last_effect) {
            (Some(first), Some(last)) if last > first => {
                self.latencies.len() as f64 / last.duration_since(first).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// The latency in milliseconds that `share` of the events stayed within.
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        let latency = sorted.get(rank.max(1) - 1).copied().unwrap_or_default();
        latency.as_secs_f64() * 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_first_effects_of_events_that_did_not_die() {
        let mut ledger = Ledger::new(6);
        ledger.died(1);
        for sequence in [0, 2, 0, 4, 3, 1] {
            ledger.published(sequence);
            ledger.effect(sequence, Some("k"));
        }
        assert_eq!((ledger.handled, ledger.duplicates), (5, 1));
        assert_eq!(ledger.out_of_order, 1, "3 came after 4; 1 had died");
        assert_eq!(ledger.lost(), [5]);
        assert_eq!(ledger.ended(), 5);
        assert!(ledger.percentile(0.5) <= ledger.percentile(0.99));
    }
}
