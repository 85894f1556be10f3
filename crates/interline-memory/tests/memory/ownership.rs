//! Who owns what: joining, leaving, dying, sleeping, and the fences between.

use std::collections::BTreeMap;
use std::time::Duration;

use interline_core::{
    Admin as _, Budget, Checkpoint, Committed, Control as _, ErrorKind, Feed as _, Fence, Instance,
    Partition, Position, Signal, Transport as _,
};
use interline_memory::Transport;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::{Instant, advance, timeout};

use crate::common::{Member, memory, publish, spec, topic};

const LEASE: Duration = Duration::from_secs(15);

/// Takes every signal that is there without waiting.
async fn drain(member: &mut Member, release: bool) {
    while let Ok(Ok(signal)) = timeout(Duration::ZERO, member.feed.next(Budget::default())).await {
        match signal {
            Signal::Assigned(all) => member.owned.extend(all),
            Signal::Lost { partitions } => {
                member
                    .owned
                    .retain(|own| !partitions.contains(&own.partition));
            }
            Signal::Revoking { partitions, .. } if release => member.release(&partitions).await,
            Signal::Revoking { .. } | Signal::Batch(_) => {}
        }
    }
}

async fn drain_all(members: &mut [&mut Member]) {
    // What one releases, another may be given.
    for _ in 0..3 {
        for member in &mut *members {
            drain(member, true).await;
        }
    }
}

async fn owners(transport: &Transport) -> BTreeMap<Partition, Option<String>> {
    let groups = transport.admin().groups(Some(&topic("t"))).await.unwrap();
    let all = groups.into_iter().flat_map(|group| group.partitions);
    all.map(|lag| (lag.partition, lag.owner)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_joiner_gets_its_share_at_once_and_a_leaver_gives_his_back() {
    let transport = memory("").await;
    let mut one = Member::join(&transport, spec("g", &["t"])).await;
    drain(&mut one, true).await;
    assert_eq!(one.owned.len(), 12);
    let mut two = Member::join(&transport, spec("g", &["t"])).await;
    drain_all(&mut [&mut one, &mut two]).await;
    assert_eq!((one.owned.len(), two.owned.len()), (6, 6));
    let mut three = Member::join(&transport, spec("g", &["t"])).await;
    drain_all(&mut [&mut one, &mut two, &mut three]).await;
    assert_eq!(three.owned.len(), 4);
    two.control.close(Duration::ZERO).await.unwrap();
    drain_all(&mut [&mut one, &mut three]).await;
    assert_eq!((one.owned.len(), three.owned.len()), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn what_is_released_passes_on_and_late_checkpoints_are_stale() {
    let transport = memory("partitions=2").await;
    let mut one = Member::join(&transport, spec("g", &["t"])).await;
    drain(&mut one, true).await;
    let before = one.owned.clone();
    let mut two = Member::join(&transport, spec("g", &["t"])).await;
    let Signal::Revoking {
        partitions,
        deadline,
    } = one.next().await
    else {
        panic!("a surplus is revoked")
    };
    assert_eq!((partitions.len(), deadline), (1, Duration::from_secs(10)));
    publish(&transport, "t", 0..20).await;
    let last = one.checkpoint(&partitions[0], Some(Position::from(1)));
    let results = one.control.release(vec![last.clone()]).await.unwrap();
    assert_eq!(results, [Committed::Applied]);
    let Signal::Assigned(given) = two.next().await else {
        panic!("what was released is assigned")
    };
    assert_eq!(given[0].progress, last.progress);
    assert!(given[0].fence > before.iter().map(|own| own.fence).max().unwrap());
    for checkpoint in before {
        let stale = checkpoint.partition == partitions[0];
        let result = one.control.commit(vec![checkpoint]).await.unwrap();
        let expected = if stale {
            Committed::Stale
        } else {
            Committed::Applied
        };
        assert_eq!(result, [expected]);
    }
    // No record of what was revoked follows.
    for _ in 0..20 {
        if let Ok(Ok(Signal::Batch(batch))) = timeout(
            Duration::ZERO,
            one.feed.next(Budget {
                events: 1,
                bytes: 1,
            }),
        )
        .await
        {
            assert_ne!(batch.partition, partitions[0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_release_in_time_is_told_that_it_is_lost() {
    let transport = memory("partitions=2").await;
    let mut one = Member::join(&transport, spec("g", &["t"])).await;
    drain(&mut one, true).await;
    let mut two = Member::join(&transport, spec("g", &["t"])).await;
    let begin = Instant::now();
    let Signal::Revoking { partitions, .. } = one.next().await else {
        panic!("a surplus is revoked")
    };
    let late = one.checkpoint(&partitions[0], None);
    let (lost, given) = tokio::join!(one.next(), two.next());
    assert!(matches!(lost, Signal::Lost { partitions: lost } if lost == partitions));
    assert!(matches!(given, Signal::Assigned(given) if given[0].partition == partitions[0]));
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_eq!(
        one.control.release(vec![late]).await.unwrap(),
        [Committed::Stale]
    );
}

#[tokio::test(start_paused = true)]
async fn the_dead_are_replaced_after_their_lease() {
    let transport = memory("").await;
    let mut one = Member::join(&transport, spec("g", &["t"])).await;
    let mut two = Member::join(&transport, spec("g", &["t"])).await;
    drain_all(&mut [&mut one, &mut two]).await;
    let begin = Instant::now();
    drop(one);
    while two.owned.len() < 12 {
        two.next().await;
    }
    let took = begin.elapsed();
    assert!(
        took >= LEASE && took <= LEASE + Duration::from_secs(1),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_handle_alone_keeps_a_member_until_it_stops_asking() {
    let transport = memory("").await;
    let mut one = Member::join(&transport, spec("g", &["t"])).await;
    drain(&mut one, true).await;
    let Member {
        mut feed, control, ..
    } = one;
    drop(control);
    for _ in 0..60 {
        advance(Duration::from_secs(1)).await;
        assert!(
            timeout(Duration::ZERO, feed.next(Budget::default()))
                .await
                .is_err()
        );
    }
    assert!(owners(&transport).await.values().all(Option::is_some));
    advance(LEASE).await;
    assert!(owners(&transport).await.values().all(Option::is_none));
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_learns_of_its_loss_and_joins_again() {
    let transport = memory("").await;
    let mut one = Member::join(&transport, spec("g", &["t"])).await;
    let mut two = Member::join(&transport, spec("g", &["t"])).await;
    drain_all(&mut [&mut one, &mut two]).await;
    let late = one.owned[0].clone();
    for _ in 0..16 {
        advance(Duration::from_secs(1)).await;
        drain(&mut two, true).await;
    }
    assert_eq!(two.owned.len(), 12);
    let result = one.control.commit(vec![late]).await.unwrap();
    assert_eq!(result, [Committed::Stale]);
    assert!(matches!(one.next().await, Signal::Lost { partitions } if partitions.len() == 6));
    drain_all(&mut [&mut one, &mut two]).await;
    assert_eq!((one.owned.len(), two.owned.len()), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn an_instance_takes_its_old_membership_over_at_once() {
    let transport = memory("").await;
    let mut named = spec("g", &["t"]);
    named.instance = Some(Instance::new("pod-1").unwrap());
    let mut old = Member::join(&transport, named.clone()).await;
    let mut other = Member::join(&transport, spec("g", &["t"])).await;
    drain_all(&mut [&mut old, &mut other]).await;
    let before: Vec<_> = old.owned.iter().map(|own| own.partition.clone()).collect();
    let mut new = Member::join(&transport, named.clone()).await;
    drain(&mut new, true).await;
    let after: Vec<_> = new.owned.iter().map(|own| own.partition.clone()).collect();
    assert_eq!(before, after);
    let stale = old.owned.clone();
    assert!(matches!(old.next().await, Signal::Lost { partitions } if partitions == before));
    let error = old.feed.next(Budget::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.to_string().contains("instance"), "{error}");
    let results = old.control.commit(stale).await.unwrap();
    assert!(results.iter().all(|result| *result == Committed::Stale));
    drop((old, new));
    // Nor does a crash cost a restarting instance its lease.
    let mut again = Member::join(&transport, named).await;
    drain_all(&mut [&mut again, &mut other]).await;
    assert_eq!((again.owned.len(), other.owned.len()), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_keeps_what_it_has_and_gets_nothing_back() {
    let transport = memory("").await;
    let mut one = Member::join(&transport, spec("g", &["t"])).await;
    let mut two = Member::join(&transport, spec("g", &["t"])).await;
    drain_all(&mut [&mut one, &mut two]).await;
    one.control.leave();
    drain_all(&mut [&mut one, &mut two]).await;
    assert_eq!((one.owned.len(), two.owned.len()), (6, 6));
    let some: Vec<_> = one
        .owned
        .iter()
        .take(4)
        .map(|own| own.partition.clone())
        .collect();
    one.release(&some).await;
    drain_all(&mut [&mut one, &mut two]).await;
    assert_eq!((one.owned.len(), two.owned.len()), (2, 10));
}

#[tokio::test(start_paused = true)]
async fn new_topics_of_a_pattern_are_shared_and_start_at_the_earliest() {
    let transport = memory("partitions=4").await;
    let mut watching = spec("g", &["shop.**"]);
    watching.start = interline_core::Start::Latest;
    let mut one = Member::join(&transport, watching.clone()).await;
    let mut two = Member::join(&transport, watching).await;
    drain_all(&mut [&mut one, &mut two]).await;
    assert_eq!((one.owned.len(), two.owned.len()), (0, 0));
    publish(&transport, "shop.a", 0..100).await;
    publish(&transport, "other", 0..100).await;
    publish(&transport, "shop.a.g.retry", 100..110).await;
    publish(&transport, "shop.a.other.retry", 0..10).await;
    publish(&transport, "shop.a.g.dlq", 0..10).await;
    let mut seen = Vec::new();
    while seen.len() < 110 {
        for member in [&mut one, &mut two] {
            while let Ok(Ok(signal)) =
                timeout(Duration::ZERO, member.feed.next(Budget::default())).await
            {
                match signal {
                    Signal::Assigned(all) => member.owned.extend(all),
                    Signal::Revoking { partitions, .. } => member.release(&partitions).await,
                    Signal::Batch(batch) => {
                        seen.extend(batch.records.iter().map(crate::common::payload));
                    }
                    Signal::Lost { .. } => panic!("nothing is lost"),
                }
            }
        }
    }
    seen.sort_by_key(|id| id.parse::<u64>().unwrap());
    let sent: Vec<_> = (0..110).map(|id| id.to_string()).collect();
    assert_eq!(seen, sent);
    assert_eq!((one.owned.len(), two.owned.len()), (4, 4));
}

#[derive(Clone, Debug)]
enum Act {
    Join,
    Close(usize),
    Leave(usize),
    Die(usize),
    Sleep(usize),
    Wake(usize),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Join),
        1 => (0_usize..8).prop_map(Act::Close),
        1 => (0_usize..8).prop_map(Act::Leave),
        1 => (0_usize..8).prop_map(Act::Die),
        1 => (0_usize..8).prop_map(Act::Sleep),
        1 => (0_usize..8).prop_map(Act::Wake),
        4 => (0_u64..6_000).prop_map(Act::Pass),
    ]
}

struct Simulation {
    transport: Transport,
    members: Vec<(Member, bool)>,
    fences: BTreeMap<Partition, Fence>,
    release: bool,
}

impl Simulation {
    async fn act(&mut self, act: &Act) {
        let at = |n: &usize, len: usize| if len == 0 { None } else { Some(n % len) };
        let len = self.members.len();
        match act {
            Act::Join if len < 6 => {
                let member = Member::join(&self.transport, spec("g", &["t"])).await;
                self.members.push((member, true));
            }
            Act::Close(n) => {
                if let Some(at) = at(n, len) {
                    let (member, _) = self.members.remove(at);
                    member.control.close(Duration::ZERO).await.unwrap();
                }
            }
            Act::Leave(n) => {
                if let Some(at) = at(n, len) {
                    let (mut member, _) = self.members.remove(at);
                    member.control.leave();
                    let all: Vec<_> = member.owned.iter().map(|o| o.partition.clone()).collect();
                    member.release(&all).await;
                    member.control.close(Duration::ZERO).await.unwrap();
                }
            }
            Act::Die(n) => {
                if let Some(at) = at(n, len) {
                    self.members.remove(at);
                }
            }
            Act::Sleep(n) | Act::Wake(n) => {
                if let Some(at) = at(n, len) {
                    self.members[at].1 = matches!(act, Act::Wake(_));
                }
            }
            Act::Pass(millis) => advance(Duration::from_millis(*millis)).await,
            Act::Join => {}
        }
    }

    /// Every member that is awake reads, and nobody is given an old fence. Checkpoints are stored
    /// before too, by those who do not know yet what they have lost.
    async fn look(&mut self) {
        self.store().await;
        for (member, awake) in &mut self.members {
            let before: Vec<Fence> = member.owned.iter().map(|own| own.fence).collect();
            if *awake {
                drain(member, self.release).await;
            }
            for own in member
                .owned
                .iter()
                .filter(|own| !before.contains(&own.fence))
            {
                let known = self.fences.entry(own.partition.clone()).or_default();
                assert!(own.fence > *known, "a fence comes once");
                *known = own.fence;
            }
        }
        self.store().await;
    }

    /// Of all who believe that they own a partition at most one may store a checkpoint.
    async fn store(&self) {
        let mut applied: BTreeMap<Partition, usize> = BTreeMap::new();
        for (member, _) in self.members.iter().filter(|(_, awake)| *awake) {
            let all: Vec<Checkpoint> = member.owned.clone();
            let results = member.control.commit(all.clone()).await.unwrap();
            for (own, result) in all.into_iter().zip(results) {
                *applied.entry(own.partition).or_default() +=
                    usize::from(result == Committed::Applied);
            }
        }
        assert!(applied.values().all(|owners| *owners <= 1), "{applied:?}");
    }

    /// With everybody awake for longer than a lease and a revocation, all is owned and fair.
    async fn settle(&mut self) {
        if self.members.is_empty() {
            self.act(&Act::Join).await;
        }
        for (_, awake) in &mut self.members {
            *awake = true;
        }
        for _ in 0..28 {
            self.look().await;
            advance(Duration::from_secs(1)).await;
        }
        self.look().await;
        let (count, shares): (usize, Vec<usize>) = (
            self.members.len(),
            self.members
                .iter()
                .map(|(member, _)| member.owned.len())
                .collect(),
        );
        assert_eq!(shares.iter().sum::<usize>(), 12, "{shares:?}");
        let fair = 12 / count..=12_usize.div_ceil(count);
        assert!(
            shares.iter().all(|share| fair.contains(share)),
            "{shares:?}"
        );
        assert!(owners(&self.transport).await.values().all(Option::is_some));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn there_are_never_two_owners_and_nothing_stays_free(
        acts in vec(act(), 1..60),
        release in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut simulation = Simulation {
                transport: memory("").await,
                members: Vec::new(),
                fences: BTreeMap::new(),
                release,
            };
            for act in &acts {
                simulation.act(act).await;
                simulation.look().await;
            }
            simulation.settle().await;
        });
    }
}
