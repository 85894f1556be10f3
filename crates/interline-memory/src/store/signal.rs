//! What a feed tells next.

use std::time::Duration;

use interline_core::{Batch, Budget, Checkpoint, Fence, Flow, Result, Signal};
use tokio::time::Instant;

use super::member::{Member, Notice, What};
use super::state::Slot;

/// The next signal about ownership: notices of one kind together, without those that have become
/// untrue or that concern what the feed never spoke of.
pub(super) fn tell(member: &mut Member, id: u64, slots: &[Slot], now: Instant) -> Option<Signal> {
    let owned = |slot: &Slot, fence: Fence| {
        let owner = slot
            .owner
            .as_ref()
            .filter(|o| o.member == id && o.fence == fence);
        owner.map(|owner| owner.revoking)
    };
    while let Some(Notice { what, .. }) = member.notices.front().copied() {
        let (mut checkpoints, mut partitions) = (Vec::new(), Vec::new());
        let mut deadline = Duration::ZERO;
        while let Some(notice) = member.notices.pop_front_if(|notice| notice.what == what) {
            let Notice {
                slot: at, fence, ..
            } = notice;
            let slot = &slots[at];
            let told = member.told.get(&at) == Some(&fence);
            match (what, owned(slot, fence)) {
                (What::Assigned, Some(_)) => {
                    member.told.insert(at, fence);
                    checkpoints.push(Checkpoint {
                        partition: slot.partition.clone(),
                        fence,
                        progress: slot.progress.clone(),
                    });
                }
                (What::Revoking, Some(Some(until))) if told => {
                    deadline = until.saturating_duration_since(now);
                    partitions.push(slot.partition.clone());
                }
                (What::Lost, _) if told => {
                    member.told.remove(&at);
                    partitions.push(slot.partition.clone());
                }
                _ => {}
            }
        }
        match what {
            What::Assigned if !checkpoints.is_empty() => {
                return Some(Signal::Assigned(checkpoints));
            }
            What::Revoking if !partitions.is_empty() => {
                return Some(Signal::Revoking {
                    partitions,
                    deadline,
                });
            }
            What::Lost if !partitions.is_empty() => return Some(Signal::Lost { partitions }),
            _ => {}
        }
    }
    None
}

/// Records of one of the member's partitions, each in its turn.
pub(super) fn read(
    member: &mut Member,
    slots: &mut [Slot],
    budget: Budget,
) -> Result<Option<Batch>> {
    for _ in 0..member.owned.len() {
        member.turn = (member.turn + 1) % member.owned.len();
        let at = member.owned[member.turn];
        let Slot {
            log,
            partition,
            owner,
            ..
        } = &mut slots[at];
        let Some(owner) = owner else { continue };
        if owner.revoking.is_some() || owner.flow == Flow::Stopped {
            continue;
        }
        if owner.next == log.end(partition.index) {
            continue;
        }
        let records = log.read(partition.index, owner.next, u64::MAX, budget)?;
        if !records.is_empty() {
            owner.next += records.len() as u64;
            return Ok(Some(Batch {
                partition: partition.clone(),
                fence: owner.fence,
                records,
            }));
        }
    }
    Ok(None)
}
