//! What the feed tells next.

use std::time::Duration;

use interline_core::{Checkpoint, Signal};
use tokio::time::Instant;

use super::Leases;
use super::slot::{Notice, State, What};

impl Leases {
    /// The next signal about ownership: notices of one kind together, without those that have
    /// become untrue or that concern what the feed never spoke of.
    pub fn tell(&mut self, now: Instant) -> Option<Signal> {
        loop {
            let what = self.out.notices.front()?.what;
            let mut told = Told::default();
            while let Some(notice) = self.out.notices.pop_front_if(|notice| notice.what == what) {
                self.add(notice, now, &mut told);
            }
            let partitions = told.partitions;
            match what {
                What::Assigned if !told.checkpoints.is_empty() => {
                    return Some(Signal::Assigned(told.checkpoints));
                }
                What::Revoking if !partitions.is_empty() => {
                    return Some(Signal::Revoking {
                        partitions,
                        deadline: told.deadline,
                    });
                }
                What::Lost if !partitions.is_empty() => return Some(Signal::Lost { partitions }),
                _ => {}
            }
        }
    }

    fn add(&mut self, notice: Notice, now: Instant, told: &mut Told) {
        let Notice {
            partition,
            fence,
            what,
            gone,
        } = notice;
        if gone {
            return told.partitions.push(partition);
        }
        let Some(slot) = self.slot_mut(&partition) else {
            return;
        };
        let known = slot.told == Some(fence);
        match (what, &slot.state) {
            (
                What::Assigned,
                State::Held {
                    fence: held,
                    progress,
                },
            ) if *held == fence => {
                told.checkpoints.push(Checkpoint {
                    partition,
                    fence,
                    progress: progress.clone(),
                });
                slot.told = Some(fence);
            }
            (What::Revoking, State::Revoking { until, .. }) if known => {
                told.deadline = until.saturating_duration_since(now);
                told.partitions.push(partition);
            }
            (What::Lost, _) if known => {
                slot.told = None;
                told.partitions.push(partition);
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Told {
    checkpoints: Vec<Checkpoint>,
    partitions: Vec<interline_core::Partition>,
    deadline: Duration,
}
