//! What must hold, in the order in which the store does things.

use std::collections::BTreeMap;
use std::fmt;

use interline_core::{Fence, Position, Progress, Topic};
use interline_transport::lease::{Grant, MemberId};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// A fence was granted that is not higher than all before it.
    FenceRepeated,
    /// A checkpoint was applied that was not of the last owner.
    StaleApplied,
    /// A checkpoint went back.
    WentBack,
    /// Two members whose clocks are right act on a partition at the same time.
    TwoAct,
    /// A partition was without owner for too long.
    Unowned,
    /// Shares are not even although nothing happens any more.
    Uneven,
    /// A partition moved although nothing happens any more.
    Restless,
    /// Two processes of one instance go on.
    Twins,
}

/// Where and when it was broken.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) breach: Breach,
    pub(crate) what: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.breach, self.what)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Checker {
    owners: BTreeMap<(Topic, u32), (MemberId, Fence)>,
    frontiers: BTreeMap<(Topic, u32), Option<Position>>,
    pub(crate) grants: usize,
    pub(crate) applied: usize,
    pub(crate) stale: usize,
    pub(crate) found: Vec<Found>,
}

impl Checker {
    pub(crate) fn breach(&mut self, breach: Breach, what: String) {
        self.found.push(Found { breach, what });
    }

    pub(crate) fn granted(&mut self, now: u64, topic: &Topic, member: &MemberId, grant: &Grant) {
        self.grants += 1;
        let place = (topic.clone(), grant.index);
        let what = format!(
            "at {now} {topic}/{} to {member}: {}",
            grant.index, grant.fence
        );
        let before = self.owners.insert(place, (member.clone(), grant.fence));
        if let Some((former, fence)) = before.filter(|(_, fence)| *fence >= grant.fence) {
            self.breach(
                Breach::FenceRepeated,
                format!("{what} after {fence} of {former}"),
            );
        }
    }

    pub(crate) fn applied(
        &mut self,
        now: u64,
        topic: &Topic,
        member: &MemberId,
        index: u32,
        fence: Fence,
        progress: Option<&Progress>,
    ) {
        self.applied += 1;
        let place = (topic.clone(), index);
        let what = format!("at {now} {topic}/{index} by {member} under {fence}");
        if self.owners.get(&place) != Some(&(member.clone(), fence)) {
            let owner = self.owners.get(&place);
            self.breach(Breach::StaleApplied, format!("{what}, owned by {owner:?}"));
        }
        if let Some(progress) = progress {
            let former = self.frontiers.insert(place, progress.frontier).flatten();
            if former > progress.frontier {
                self.breach(Breach::WentBack, format!("{what}: {former:?}"));
            }
        }
    }
}
