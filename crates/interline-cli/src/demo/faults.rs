//! What goes wrong on purpose.

use std::collections::BTreeMap;

/// How handling an event fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// At the first attempt.
    Once,
    /// By a panic, at the first attempt.
    Panic,
    /// At every attempt until the handler is repaired.
    Always,
    /// At the first attempt and for good, until the handler is repaired.
    Refused,
}

impl Fault {
    /// Whether the event becomes a dead letter before the repair.
    pub(super) fn is_poison(self) -> bool {
        matches!(self, Self::Always | Self::Refused)
    }
}

/// The order in which faults are spread over the events.
const PLAN: [Fault; 8] = [
    Fault::Once,
    Fault::Always,
    Fault::Panic,
    Fault::Once,
    Fault::Refused,
    Fault::Once,
    Fault::Panic,
    Fault::Always,
];

/// Which events fail, by their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(BTreeMap<usize, Fault>);

impl Faults {
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// A few of `events`, spread evenly; the same for the same number of events.
    pub(super) fn planned(events: usize) -> Self {
        let place = |at: usize| events * (2 * at + 1) / (2 * PLAN.len());
        let plan = PLAN.iter().enumerate();
        Self(plan.map(|(at, fault)| (place(at), *fault)).collect())
    }

    pub(super) fn of(&self, sequence: usize) -> Option<Fault> {
        self.0.get(&sequence).copied()
    }

    pub(super) fn is_poison(&self, sequence: usize) -> bool {
        self.of(sequence).is_some_and(Fault::is_poison)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_many_fail_in_every_way() {
        let faults = Faults::planned(273);
        assert_eq!(faults.0.len(), PLAN.len());
        assert!(faults.0.keys().all(|sequence| *sequence < 273));
        let poison = faults
            .0
            .keys()
            .filter(|sequence| faults.is_poison(**sequence));
        assert_eq!(poison.count(), 3);
    }
}
