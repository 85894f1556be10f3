use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A group as a store keeps it, with members that act one after another.
#[derive(Debug)]
struct Model {
    owners: Vec<Option<usize>>,
    passing: Vec<bool>,
    free_ticks: Vec<u32>,
    live: Vec<usize>,
    moves: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Join,
    Leave(prop::sample::Index),
}

impl Model {
    fn new(partitions: usize) -> Self {
        Self {
            owners: vec![None; partitions],
            passing: vec![false; partitions],
            free_ticks: vec![0; partitions],
            live: Vec::new(),
            moves: 0,
        }
    }

    fn picture(&self) -> Vec<Holder> {
        (0..self.owners.len())
            .map(|at| match self.owners[at] {
                None => Holder::Free {
                    stale: self.free_ticks[at] > 1,
                },
                Some(_) if self.passing[at] => Holder::Passing,
                Some(owner) => Holder::Member(self.live.iter().position(|m| *m == owner).unwrap()),
            })
            .collect()
    }

    /// Every live member looks once, in the order of `shuffle`; what was revoked in the tick
    /// before is released first.
    fn tick(&mut self, shuffle: usize) {
        for at in 0..self.owners.len() {
            if self.passing[at] {
                (self.owners[at], self.passing[at]) = (None, false);
            }
        }
        let count = self.live.len();
        for turn in 0..count {
            let me = (turn + shuffle) % count;
            let plan = plan(me, count, &self.picture());
            assert!(plan.claim.is_empty() || plan.revoke.is_empty());
            self.moves += plan.claim.len();
            for at in plan.claim {
                assert_eq!(self.owners[at], None);
                (self.owners[at], self.free_ticks[at]) = (Some(self.live[me]), 0);
            }
            for at in plan.revoke {
                assert_eq!(self.owners[at], Some(self.live[me]));
                self.passing[at] = true;
            }
        }
        for at in 0..self.owners.len() {
            self.free_ticks[at] += u32::from(self.owners[at].is_none());
            assert!(count == 0 || self.free_ticks[at] <= 2, "free for too long");
        }
    }

    fn change(&mut self, change: &Change, fresh: usize) {
        match change {
            Change::Join => self.live.push(fresh),
            Change::Leave(index) if !self.live.is_empty() => {
                let gone = self.live.remove(index.index(self.live.len()));
                for at in 0..self.owners.len() {
                    if self.owners[at] == Some(gone) {
                        (self.owners[at], self.passing[at]) = (None, false);
                        self.free_ticks[at] = 0;
                    }
                }
            }
            Change::Leave(_) => {}
        }
    }

    fn assert_fair(&self) {
        let (floor, ceil) = (
            self.owners.len() / self.live.len(),
            self.owners.len().div_ceil(self.live.len()),
        );
        for member in &self.live {
            let held = self.owners.iter().filter(|o| **o == Some(*member)).count();
            assert!((floor..=ceil).contains(&held), "{held} of {floor}..={ceil}");
        }
        assert!(self.owners.iter().all(Option::is_some));
        assert!(!self.passing.contains(&true));
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Join),
        any::<prop::sample::Index>().prop_map(Change::Leave)
    ]
}

proptest! {
    #[test]
    fn shares_become_fair_and_then_rest(
        partitions in 1_usize..40,
        changes in vec((change(), 0_usize..4, any::<usize>()), 1..30),
    ) {
        let mut model = Model::new(partitions);
        for (fresh, (change, ticks, shuffle)) in changes.iter().enumerate() {
            model.change(change, fresh);
            for turn in 0..*ticks {
                model.tick(shuffle.wrapping_add(turn) % 97);
            }
        }
        if model.live.is_empty() {
            model.change(&Change::Join, usize::MAX);
        }
        for turn in 0..6 {
            model.tick(turn);
        }
        model.assert_fair();
        let moves = model.moves;
        for turn in 0..5 {
            model.tick(turn);
        }
        prop_assert_eq!(model.moves, moves, "a settled group moves nothing");
    }

    /// A joiner gets its share at the price of its share.
    #[test]
    fn joining_moves_no_more_than_it_must(partitions in 1_usize..60, before in 1_usize..12) {
        let mut model = Model::new(partitions);
        model.live = (0..before).collect();
        for turn in 0..6 {
            model.tick(turn);
        }
        model.assert_fair();
        let moves = model.moves;
        model.change(&Change::Join, before);
        for turn in 0..6 {
            model.tick(turn);
        }
        model.assert_fair();
        prop_assert_eq!(model.moves - moves, partitions / (before + 1));
    }

    /// Members that look at the same time neither claim the same nor give up too much.
    #[test]
    fn members_with_one_picture_agree(
        holders in vec(prop_oneof![
            (0_usize..9).prop_map(Holder::Member),
            Just(Holder::Free { stale: false }),
            Just(Holder::Passing),
        ], 1..40),
        live in 1_usize..9,
    ) {
        let holders: Vec<_> = holders
            .into_iter()
            .map(|holder| match holder {
                Holder::Member(member) if member >= live => Holder::Passing,
                other => other,
            })
            .collect();
        let plans: Vec<_> = (0..live).map(|me| plan(me, live, &holders)).collect();
        let mut held = vec![0; live];
        let mut taken = vec![false; holders.len()];
        for (me, plan) in plans.iter().enumerate() {
            held[me] += holders.iter().filter(|h| **h == Holder::Member(me)).count();
            for at in &plan.claim {
                prop_assert!(!taken[*at], "{at} is claimed twice");
                taken[*at] = true;
                held[me] += 1;
            }
            held[me] -= plan.revoke.len();
        }
        let floor = holders.len() / live;
        let ceil = holders.len().div_ceil(live);
        for (me, plan) in plans.iter().enumerate() {
            prop_assert!(plan.claim.is_empty() || held[me] <= ceil);
            prop_assert!(plan.revoke.is_empty() || held[me] >= floor);
        }
        let lacks: usize = held.iter().map(|held| floor.saturating_sub(*held)).sum();
        let passing = holders.iter().filter(|h| **h == Holder::Passing).count();
        let left = holders.iter().zip(&taken);
        let left = left.filter(|(h, taken)| matches!(h, Holder::Free { .. }) && !**taken).count();
        let revoked: usize = plans.iter().map(|plan| plan.revoke.len()).sum();
        let claimed = plans.iter().any(|plan| !plan.claim.is_empty());
        prop_assert!(claimed || lacks <= passing + left + revoked, "{lacks} are lacking");
    }
}

#[test]
fn twelve_over_five_leaves_nobody_empty() {
    let mut model = Model::new(12);
    model.live = vec![0];
    model.tick(0);
    model.live = vec![0, 1, 2, 3, 4];
    for turn in 0..3 {
        model.tick(turn);
    }
    model.assert_fair();
}

#[test]
fn a_member_that_is_not_live_does_nothing() {
    assert_eq!(plan(3, 2, &[Holder::Free { stale: true }]), Plan::default());
    assert_eq!(plan(0, 0, &[Holder::Passing]), Plan::default());
}
