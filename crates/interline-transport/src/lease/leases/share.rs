//! From pictures of a group to what this member should do.

use std::collections::BTreeMap;

use interline_core::{Fence, Partition, Topic};
use tokio::time::Instant;

use super::slot::{Out, Slot, State};
use super::{Known, Leases, Look};
use crate::balance::{Holder, Plan, plan};
use crate::lease::{End, Entry, Lease, MemberId, Picture, Seen};

/// What to ask the store of one topic for, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Partitions to release; the answers go to [`Leases::released`].
    pub release: Vec<Entry>,
    /// Partitions of which to note that they will be released.
    pub revoke: Vec<(u32, Fence)>,
    /// Partitions to claim; what is granted goes to [`Leases::claimed`].
    pub claim: Vec<Seen>,
    /// Members to remove: this one's former sessions.
    pub leave: Vec<MemberId>,
}

impl Calls {
    /// Whether there is nothing to ask for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Partitions that the same members share: all of them, unless members of the group read
/// different topics.
#[derive(Debug, Default)]
struct Class {
    places: Vec<(Topic, Seen)>,
    holders: Vec<Holder>,
}

/// What one look has brought, being worked on.
#[derive(Debug)]
struct Sight {
    look: Look,
    classes: BTreeMap<Vec<String>, Class>,
    /// Partitions that the store gives to this member, which knows nothing of it: a lost answer,
    /// or what it has given up for want of answers.
    orphans: Vec<(Topic, u32, Fence)>,
    calls: BTreeMap<Topic, Calls>,
}

impl Leases {
    /// Takes the answers of a look, by topic, and says what to ask for. Topics whose store did
    /// not answer are left out.
    ///
    /// # Errors
    /// The membership is over: another process has it, or the group was deleted.
    pub fn looked(
        &mut self,
        look: Look,
        now: Instant,
        pictures: &[(Topic, Picture)],
    ) -> Result<Vec<(Topic, Calls)>, End> {
        let mut sight = Sight {
            look,
            classes: BTreeMap::new(),
            orphans: Vec::new(),
            calls: BTreeMap::new(),
        };
        if let Some(newer) = self.newer_session(pictures) {
            return self.yield_to(newer, pictures);
        }
        for (topic, picture) in pictures {
            self.see(topic, picture, &mut sight)?;
        }
        self.joined |= !pictures.is_empty();
        self.expire(now);
        // What is not seen may be the others' share: then nothing is given up for them.
        let complete = pictures.len() == self.topics.len();
        self.share(&mut sight, complete, now);
        self.release_orphans(&mut sight);
        self.give_up(&mut sight.calls);
        self.set_due();
        sight.calls.retain(|_, calls| !calls.is_empty());
        Ok(sight.calls.into_iter().collect())
    }

    fn newer_session(&self, pictures: &[(Topic, Picture)]) -> Option<u64> {
        let live = pictures.iter().flat_map(|(_, picture)| &picture.live);
        let same = live.filter(|member| member.instance() == self.me.instance());
        let newest = same.map(MemberId::session).max()?;
        (newest > self.me.session()).then_some(newest)
    }

    /// A member that has just come takes a higher session than one that was started when the
    /// host's clock was ahead; one that was there before is replaced.
    fn yield_to(
        &mut self,
        newer: u64,
        pictures: &[(Topic, Picture)],
    ) -> Result<Vec<(Topic, Calls)>, End> {
        if self.joined {
            self.lose_all();
            return Err(End::Replaced);
        }
        let former = self.me.clone();
        self.me = former.after(newer);
        let leave = |(topic, _): &(Topic, Picture)| {
            let leave = vec![former.clone()];
            let calls = Calls {
                leave,
                ..Calls::default()
            };
            (topic.clone(), calls)
        };
        Ok(pictures.iter().map(leave).collect())
    }

    fn see(&mut self, topic: &Topic, picture: &Picture, sight: &mut Sight) -> Result<(), End> {
        let Some(known) = self.topics.get_mut(topic) else {
            return Ok(());
        };
        if picture.partitions.is_empty() {
            self.lose_all();
            return Err(End::Forgotten);
        }
        known.fit(topic, picture.partitions.len(), &mut self.out);
        known.renewed = Some(sight.look.at);
        let mut names: Vec<String> = picture
            .live
            .iter()
            .map(|m| m.instance().to_owned())
            .collect();
        if !self.leaving {
            names.push(self.me.instance().to_owned());
        }
        names.sort_unstable();
        names.dedup();
        let mut holders = Vec::with_capacity(picture.partitions.len());
        for (index, lease) in (0..).zip(&picture.partitions) {
            holders.push(self.holder(topic, index, lease, &names, sight));
        }
        let formers = picture.live.iter().filter(|member| {
            let former = member.instance() == self.me.instance() && **member != self.me;
            let owns = |lease: &Lease| lease.owner.as_ref() == Some(member);
            former && !picture.partitions.iter().any(owns)
        });
        let calls = sight.calls.entry(topic.clone()).or_default();
        calls.leave.extend(formers.cloned());
        let class = sight.classes.entry(names).or_default();
        class.holders.append(&mut holders);
        let seen = (0..).zip(&picture.partitions);
        class.places.extend(seen.map(|(index, lease)| {
            let Lease { fence, token, .. } = *lease;
            (
                topic.clone(),
                Seen {
                    index,
                    fence,
                    token,
                },
            )
        }));
        Ok(())
    }

    /// Who has a partition, as the picture says and as is known here; what the picture tells of
    /// this member's own partitions is put right.
    fn holder(
        &mut self,
        topic: &Topic,
        index: u32,
        lease: &Lease,
        names: &[String],
        sight: &mut Sight,
    ) -> Holder {
        let me = &self.me;
        let Some(slot) = self
            .topics
            .get_mut(topic)
            .and_then(|known| known.slot(index))
        else {
            return Holder::Passing;
        };
        if slot.changed > sight.look.changes {
            return Holder::Passing;
        }
        let mine = lease.owner.as_ref() == Some(me);
        match slot.state {
            State::Held { fence, .. } if mine && fence == lease.fence => {
                return member(names, me.instance());
            }
            State::Revoking { fence, .. } if mine && fence == lease.fence => {
                if !lease.passing {
                    let calls = sight.calls.entry(topic.clone()).or_default();
                    calls.revoke.push((index, fence));
                }
                return Holder::Passing;
            }
            State::Giving { fence, .. } if mine && fence == lease.fence => return Holder::Passing,
            State::None => {}
            _ => slot.lose(&mut self.out),
        }
        if mine {
            sight.orphans.push((topic.clone(), index, lease.fence));
            return Holder::Free { stale: false };
        }
        match &lease.owner {
            None => Holder::Free {
                // A little more than a tick: whom it is due to has looked by then, if it lives.
                stale: lease.free_for > self.timing.tick * 5 / 4,
            },
            // What this instance had before it was started again.
            Some(owner) if owner.instance() == me.instance() => Holder::Free { stale: true },
            Some(_) if lease.passing => Holder::Passing,
            Some(owner) => member(names, owner.instance()),
        }
    }

    /// Applies the fair-share rule to each class.
    fn share(&mut self, sight: &mut Sight, complete: bool, now: Instant) {
        if self.leaving {
            return;
        }
        for (names, class) in &sight.classes {
            let Ok(me) = names.binary_search_by(|name| name.as_str().cmp(self.me.instance()))
            else {
                continue;
            };
            let Plan { claim, revoke } = plan(me, names.len(), &class.holders);
            for at in claim {
                let (topic, seen) = &class.places[at];
                sight
                    .orphans
                    .retain(|(of, index, _)| of != topic || *index != seen.index);
                let calls = sight.calls.entry(topic.clone()).or_default();
                calls.claim.push(*seen);
            }
            for at in revoke.into_iter().filter(|_| complete) {
                let (topic, seen) = &class.places[at];
                let slot = self
                    .topics
                    .get_mut(topic)
                    .and_then(|known| known.slot(seen.index));
                let until = now + self.timing.revoke;
                // By the fence: it may just have been lost for want of answers.
                let held = slot.filter(|slot| slot.fence() == Some(seen.fence));
                if held.is_some_and(|slot| slot.revoke(seen.fence, until, &mut self.out)) {
                    let calls = sight.calls.entry(topic.clone()).or_default();
                    calls.revoke.push((seen.index, seen.fence));
                }
            }
        }
    }

    fn release_orphans(&mut self, sight: &mut Sight) {
        for (topic, index, fence) in sight.orphans.drain(..) {
            let slot = self
                .topics
                .get_mut(&topic)
                .and_then(|known| known.slot(index));
            if let Some(slot) = slot.filter(|slot| matches!(slot.state, State::None)) {
                slot.give(fence, None, false, &mut self.out);
            }
        }
    }

    /// Adds the releases that the stores have yet to hear of.
    pub(super) fn give_up(&mut self, calls: &mut BTreeMap<Topic, Calls>) {
        for (topic, known) in &mut self.topics {
            for (index, slot) in (0..).zip(&mut known.slots) {
                if let State::Giving {
                    fence,
                    progress,
                    busy: busy @ false,
                } = &mut slot.state
                {
                    *busy = true;
                    let entry = Entry {
                        index,
                        fence: *fence,
                        progress: progress.clone(),
                    };
                    calls.entry(topic.clone()).or_default().release.push(entry);
                }
            }
        }
    }
}

fn member(names: &[String], name: &str) -> Holder {
    match names.binary_search_by(|known| known.as_str().cmp(name)) {
        Ok(place) => Holder::Member(place),
        // It is leaving.
        Err(_) => Holder::Passing,
    }
}

impl Known {
    /// Makes place for the partitions; a topic that was made anew with another number begins anew.
    fn fit(&mut self, topic: &Topic, partitions: usize, out: &mut Out) {
        if self.slots.len() == partitions {
            return;
        }
        self.remove(out);
        let partition = |index| Slot::new(Partition::new(topic.clone(), index));
        self.slots = (0..).take(partitions).map(partition).collect();
    }
}
