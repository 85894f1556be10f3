//! From pictures of a group to what this member should do.

use std::collections::{BTreeMap, BTreeSet};

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
type Class = Vec<(Topic, Seen, Holder)>;

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

    /// Takes the picture of one topic.
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
        let names = self.names(picture);
        let mut class = sight.classes.remove(&names).unwrap_or_default();
        for (index, lease) in (0..).zip(&picture.partitions) {
            let own = self.own(topic, index, lease, &names, sight);
            let holder = own.unwrap_or_else(|| self.holder(lease, &names));
            let Lease { fence, token, .. } = *lease;
            let seen = Seen {
                index,
                fence,
                token,
            };
            class.push((topic.clone(), seen, holder));
        }
        sight.classes.insert(names, class);
        sight.calls(topic).leave = self.formers(picture);
        Ok(())
    }

    /// Who shares the partitions: members without their sessions, sorted.
    fn names(&self, picture: &Picture) -> Vec<String> {
        let live = picture.live.iter().map(MemberId::instance);
        let me = (!self.leaving).then_some(self.me.instance());
        let names: BTreeSet<&str> = live.chain(me).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Sessions of this instance that are over and own nothing any more.
    fn formers(&self, picture: &Picture) -> Vec<MemberId> {
        let former = |member: &&MemberId| {
            let owns = |lease: &Lease| lease.owner.as_ref() == Some(*member);
            member.instance() == self.me.instance()
                && **member != self.me
                && !picture.partitions.iter().any(owns)
        };
        picture.live.iter().filter(former).cloned().collect()
    }

    /// What a picture tells of a partition that this member has to do with, put right; `None` if
    /// it is the others' matter.
    fn own(
        &mut self,
        topic: &Topic,
        index: u32,
        lease: &Lease,
        names: &[String],
        sight: &mut Sight,
    ) -> Option<Holder> {
        let slot = self.topics.get_mut(topic)?.slot(index)?;
        if slot.changed > sight.look.changes {
            return Some(Holder::Passing);
        }
        let mine = lease.owner.as_ref() == Some(&self.me);
        let same = |fence: Fence| mine && fence == lease.fence;
        match slot.state {
            State::Held { fence, .. } if same(fence) => {
                return Some(place_of(self.me.instance(), names));
            }
            State::Revoking { fence, .. } if same(fence) => {
                if !lease.passing {
                    sight.calls(topic).revoke.push((index, fence));
                }
                return Some(Holder::Passing);
            }
            State::Giving { fence, .. } if same(fence) => return Some(Holder::Passing),
            State::None => {}
            _ => slot.lose(&mut self.out),
        }
        mine.then(|| {
            sight.orphans.push((topic.clone(), index, lease.fence));
            Holder::Free { stale: false }
        })
    }

    /// Who has a partition that is not this member's.
    fn holder(&self, lease: &Lease, names: &[String]) -> Holder {
        match &lease.owner {
            None => Holder::Free {
                // A little more than a tick: whom it is due to has looked by then, if it lives.
                stale: lease.free_for > self.timing.tick * 5 / 4,
            },
            // What this instance had before it was started again.
            Some(owner) if owner.instance() == self.me.instance() => Holder::Free { stale: true },
            Some(_) if lease.passing => Holder::Passing,
            Some(owner) => place_of(owner.instance(), names),
        }
    }

    /// Applies the fair-share rule to each class.
    fn share(&mut self, sight: &mut Sight, complete: bool, now: Instant) {
        if self.leaving {
            return;
        }
        for (names, mut class) in std::mem::take(&mut sight.classes) {
            // Everybody's order, and partition by partition: a member gets some of each topic,
            // and not one topic while another gets the one with all the events.
            class.sort_unstable_by(|(a, x, _), (b, y, _)| (x.index, a).cmp(&(y.index, b)));
            let holders: Vec<_> = class.iter().map(|(.., holder)| *holder).collect();
            let Holder::Member(me) = place_of(self.me.instance(), &names) else {
                continue;
            };
            let Plan { claim, revoke } = plan(me, names.len(), &holders);
            for (topic, seen, _) in claim.into_iter().map(|at| &class[at]) {
                let others =
                    |(of, index, _): &(Topic, u32, Fence)| of != topic || *index != seen.index;
                sight.orphans.retain(others);
                sight.calls(topic).claim.push(*seen);
            }
            for at in revoke.into_iter().filter(|_| complete) {
                let (topic, seen, _) = &class[at];
                if self.revoke(topic, *seen, now) {
                    sight.calls(topic).revoke.push((seen.index, seen.fence));
                }
            }
        }
    }

    /// Starts to give a partition up, and says whether its release is waited for.
    fn revoke(&mut self, topic: &Topic, seen: Seen, now: Instant) -> bool {
        let until = now + self.timing.revoke;
        let known = self.topics.get_mut(topic);
        let slot = known.and_then(|known| known.slot(seen.index));
        // By the fence: it may just have been lost for want of answers.
        slot.filter(|slot| slot.fence() == Some(seen.fence))
            .is_some_and(|slot| slot.revoke(seen.fence, until, &mut self.out))
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

fn place_of(name: &str, names: &[String]) -> Holder {
    match names.binary_search_by(|known| known.as_str().cmp(name)) {
        Ok(place) => Holder::Member(place),
        // It is leaving.
        Err(_) => Holder::Passing,
    }
}

impl Sight {
    fn calls(&mut self, topic: &Topic) -> &mut Calls {
        self.calls.entry(topic.clone()).or_default()
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
