//! Who owns which partition, and that a former owner can no longer change anything.

use std::collections::BTreeSet;
use std::time::Duration;

use interline_core::{
    Admin, Checkpoint, Committed, Control, Flow, Instance, Partition, Pattern, Position, Progress,
    Range, SubscribeSpec, Suspect, Transport,
};
use tokio::time::Instant;

use super::{lapsing, scenario, two_members};
use crate::member::{Member, Seen, records_of};
use crate::scene::{Scene, interleaved, key_of, number_of};
use crate::{Breach, Harness, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(two_members_share, two_members),
    scenario!(more_members_than_partitions, two_members),
    scenario!(ownership_passes_on_join, two_members),
    scenario!(ownership_passes_on_leave, two_members),
    scenario!(ownership_passes_on_close),
    scenario!(ownership_passes_on_kill),
    scenario!(ownership_passes_when_a_lease_lapses, lapsing),
    scenario!(a_deaf_member_loses_what_is_revoked, two_members),
    scenario!(a_former_owner_is_stale, two_members),
    scenario!(a_checkpoint_comes_back_whole),
    scenario!(fences_grow),
    scenario!(an_instance_takes_its_place_back),
    scenario!(a_replaced_instance_is_stale, two_members),
    scenario!(flow_stops_and_opens),
    scenario!(a_leaving_member_gets_nothing_back, two_members),
];

fn spec(scene: &Scene<'_>) -> SubscribeSpec {
    SubscribeSpec::new(
        scene.group.clone(),
        vec![Pattern::exact(scene.topic.as_str())],
    )
}

async fn member<'a>(scene: &Scene<'a>) -> Verdict<Member<'a>> {
    // A connection of its own, as another process would have.
    let transport = scene.harness.connect().await?;
    Member::join(scene.harness, &transport, spec(scene)).await
}

/// The events of a list of records.
fn found(records: &[(Partition, interline_core::Recorded)]) -> Verdict<BTreeSet<(String, u64)>> {
    let event = |envelope| Ok((key_of(envelope), number_of(envelope)?));
    records
        .iter()
        .map(|(_, record)| event(&record.envelope))
        .collect()
}

fn disjoint(members: &[&Member<'_>], partitions: usize) -> Verdict {
    let owned: Vec<_> = members.iter().flat_map(|m| m.owned().into_keys()).collect();
    let apart: BTreeSet<_> = owned.iter().collect();
    check_eq!(owned.len(), apart.len(), "a partition has two owners");
    check_eq!(owned.len(), partitions, "owned partitions");
    Ok(())
}

/// Two members own half of the partitions each, and get each event once between them.
async fn two_members_share(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 6).await?;
    let (one, two) = (member(&scene).await?, member(&scene).await?);
    one.owns(3).await?;
    two.owns(3).await?;
    disjoint(&[&one, &two], 6)?;
    let before = (
        records_of(&one.seen.all()).len(),
        records_of(&two.seen.all()).len(),
    );
    check_eq!(before, (0, 0), "records of an empty topic");
    let events = interleaved(30, 5);
    scene.publish(&events).await?;
    let all = || {
        let mut all = records_of(&one.seen.all());
        all.extend(records_of(&two.seen.all()));
        all
    };
    let enough = || async { Ok(all().len() >= events.len()) };
    harness.eventually("every event", enough).await?;
    check_eq!(all().len(), events.len(), "records");
    check_eq!(found(&all())?, events.into_iter().collect(), "events");
    one.leave().await?;
    two.leave().await
}

/// A member more than there are partitions owns none, and takes over when another leaves.
async fn more_members_than_partitions(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let one = member(&scene).await?;
    one.owns(1).await?;
    let two = member(&scene).await?;
    scene.publish(&interleaved(1, 1)).await?;
    one.records(1).await?;
    check_eq!(two.owned().len(), 0, "partitions of the second member");
    one.leave().await?;
    two.owns(1).await?;
    scene.publish(&[("late".to_owned(), 1)]).await?;
    let records = two.records(1).await?;
    check_eq!(
        key_of(&records[0].1.envelope),
        "late",
        "what the second member reads"
    );
    two.leave().await
}

/// A member that joins gets its share, with what the former owner had settled.
async fn ownership_passes_on_join(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 4).await?;
    let first = interleaved(20, 2);
    scene.publish(&first).await?;
    let one = member(&scene).await?;
    one.records(first.len()).await?;
    let two = member(&scene).await?;
    two.owns(2).await?;
    one.owns(2).await?;
    disjoint(&[&one, &two], 4)?;
    let released = |seen: &Seen| matches!(seen, Seen::Released(Committed::Applied));
    check_eq!(
        one.seen
            .see(|seen| seen.iter().filter(|s| released(s)).count()),
        2,
        "released"
    );
    let second: Vec<_> = first.iter().map(|(key, n)| (key.clone(), n + 2)).collect();
    scene.publish(&second).await?;
    let both = || records_of(&one.seen.all()).len() + records_of(&two.seen.all()).len();
    let enough = || async { Ok(both() >= first.len() + second.len()) };
    harness.eventually("every event", enough).await?;
    check_eq!(
        both(),
        first.len() + second.len(),
        "records: released ones were read again"
    );
    one.leave().await?;
    two.leave().await
}

/// The partitions of a member that leaves pass on at once, with what it had settled.
async fn ownership_passes_on_leave(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 4).await?;
    let (one, two) = (member(&scene).await?, member(&scene).await?);
    one.owns(2).await?;
    two.owns(2).await?;
    let events = interleaved(20, 2);
    scene.publish(&events).await?;
    let both = || records_of(&one.seen.all()).len() + records_of(&two.seen.all()).len();
    let enough = || async { Ok(both() >= events.len()) };
    harness.eventually("every event", enough).await?;
    let first = records_of(&one.seen.all()).len();
    one.leave().await?;
    two.owns(4).await?;
    scene.publish(&[("last".to_owned(), 0)]).await?;
    let rest = events.len() - first + 1;
    let records = two.records(rest).await?;
    check_eq!(records.len(), rest, "records: settled ones were read again");
    two.leave().await
}

/// A member that closes without releasing gives everything up at once, without a checkpoint.
async fn ownership_passes_on_close(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let events = interleaved(6, 1);
    scene.publish(&events).await?;
    let one = member(&scene).await?;
    one.records(events.len()).await?;
    let begun = Instant::now();
    one.control.close(harness.deadline()).await?;
    let two = member(&scene).await?;
    let records = two.records(events.len()).await?;
    let took = begun.elapsed();
    check!(
        took < harness.lease_time(),
        "a closed member kept its partitions for {took:?}"
    );
    check_eq!(found(&records)?, events.into_iter().collect(), "events");
    two.leave().await
}

/// The partitions of a member that dies pass on when its lease is over; what it had committed is
/// not read again, what it had not is.
async fn ownership_passes_on_kill(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene
        .publish(&[("a".to_owned(), 0), ("a".to_owned(), 1)])
        .await?;
    let one = member(&scene).await?;
    one.records(2).await?;
    one.commit().await?;
    scene
        .publish(&[("a".to_owned(), 2), ("a".to_owned(), 3)])
        .await?;
    one.records(4).await?;
    one.kill().await?;
    let two = member(&scene).await?;
    let records = two.records(2).await?;
    let wanted: BTreeSet<_> = [("a".to_owned(), 2), ("a".to_owned(), 3)].into();
    check_eq!(found(&records)?, wanted, "what the next owner reads");
    two.leave().await
}

/// A member that is silent for longer than its lease loses everything, is told so, and its late
/// checkpoint is stale.
async fn ownership_passes_when_a_lease_lapses(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(2, 1)).await?;
    let one = member(&scene).await?;
    one.records(2).await?;
    let owned: Vec<_> = one.owned().into_values().collect();
    one.reads(false);
    let two = member(&scene).await?;
    two.owns(1).await?;
    two.records(2).await?;
    for checkpoint in owned {
        let answer = one.try_commit(checkpoint).await?;
        check_eq!(answer, Committed::Stale, "the late checkpoint");
    }
    one.reads(true);
    let lost = |seen: &[Seen]| seen.iter().any(|s| matches!(s, Seen::Lost)).then_some(());
    one.until("the news of the loss", lost).await?;
    two.commit().await?;
    two.leave().await
}

/// A member that does not answer a revocation in time loses the partition all the same.
async fn a_deaf_member_loses_what_is_revoked(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let transport = harness.connect().await?;
    let one = Member::join_deaf(harness, &transport, spec(&scene)).await?;
    one.until("both partitions", |seen| {
        let assigned = seen.iter().filter(|seen| matches!(seen, Seen::Assigned(_)));
        (assigned.count() == 2).then_some(())
    })
    .await?;
    let two = member(&scene).await?;
    let revoked = one
        .until("the revocation", |seen| {
            seen.iter().find_map(|seen| match seen {
                Seen::Revoking(partition, time) if *time > Duration::ZERO => {
                    Some(partition.clone())
                }
                _ => None,
            })
        })
        .await?;
    two.owns(1).await?;
    check!(
        two.owned().contains_key(&revoked),
        "another partition passed on than was revoked"
    );
    two.leave().await
}

/// Once a partition has a new owner, nothing that the former one stores has any effect.
async fn a_former_owner_is_stale(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(1, 4)).await?;
    let one = member(&scene).await?;
    one.records(4).await?;
    let late: Vec<_> = one.owned().into_values().collect();
    let [late] = late.as_slice() else {
        return Err(Breach::new("one partition should be owned"));
    };
    let former = one.control.clone();
    let back_to = |progress: Progress| Checkpoint {
        progress,
        ..late.clone()
    };
    former.leave();
    former.release(vec![back_to(Progress::default())]).await?;
    let two = member(&scene).await?;
    two.records(4).await?;
    two.commit().await?;
    let far = Progress {
        frontier: Some(Position(0, 1_000)),
        ..Progress::default()
    };
    for checkpoint in [late.clone(), back_to(far)] {
        let answers = former.commit(vec![checkpoint.clone()]).await?;
        check_eq!(answers, [Committed::Stale], "a former owner's commit");
        let answers = former.release(vec![checkpoint]).await?;
        check_eq!(answers, [Committed::Stale], "a former owner's release");
    }
    scene.publish(&[("after".to_owned(), 0)]).await?;
    let records = two.records(5).await?;
    check_eq!(
        key_of(&records[4].1.envelope),
        "after",
        "what the new owner reads next"
    );
    two.commit().await?;
    let settled = two.owned();
    two.leave().await?;
    let three = member(&scene).await?;
    three.owns(1).await?;
    for (partition, stored) in settled {
        let found = three.checkpoint(&partition)?.progress.frontier;
        check_eq!(
            found,
            stored.progress.frontier,
            "the stored frontier of {partition}"
        );
    }
    three.leave().await
}

/// Everything in a checkpoint comes back: frontier, ranges beyond it, attempts and marks.
async fn a_checkpoint_comes_back_whole(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(1, 12)).await?;
    let one = member(&scene).await?;
    let records = one.records(12).await?;
    let at: Vec<Position> = records.iter().map(|(_, record)| record.position).collect();
    let progress = Progress {
        frontier: Some(at[1]),
        done: vec![
            Range {
                first: at[3],
                last: at[5],
            },
            Range {
                first: at[8],
                last: at[8],
            },
        ],
        attempts: vec![(at[2], 3), (at[6], 1)],
        unclean: 2,
        suspect: Some(Suspect {
            position: at[2],
            deaths: 1,
        }),
    };
    let partition = records[0].0.clone();
    let checkpoint = Checkpoint {
        progress: progress.clone(),
        ..one.checkpoint(&partition)?
    };
    one.commit_these(vec![checkpoint]).await?;
    one.kill().await?;
    let two = member(&scene).await?;
    let found = two
        .until("an assignment", |seen| {
            seen.iter().find_map(|seen| match seen {
                Seen::Assigned(checkpoint) => Some(checkpoint.progress.clone()),
                _ => None,
            })
        })
        .await?;
    check_eq!(found, progress, "the progress of the next owner");
    let next = two.records(1).await?;
    check_eq!(
        next[0].1.position,
        at[2],
        "the first record after the frontier"
    );
    two.records(10).await?;
    two.leave().await
}

/// Each assignment of a partition has a higher fence than the last.
async fn fences_grow(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let mut last = None;
    for round in 0..4 {
        let member = member(&scene).await?;
        member.owns(1).await?;
        let fence = member.owned().into_values().next().map(|c| c.fence);
        check!(
            fence > last,
            "fence {fence:?} after {last:?} in round {round}"
        );
        last = fence;
        member.leave().await?;
    }
    Ok(())
}

/// A member that comes back under its instance gets its partitions without waiting for its lease.
async fn an_instance_takes_its_place_back(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let instance = Instance::new(Harness::fresh("instance"))?;
    let named = || {
        let mut spec = spec(&scene);
        spec.instance = Some(instance.clone());
        spec
    };
    let (first, second) = (harness.connect().await?, harness.connect().await?);
    let one = Member::join(harness, &first, named()).await?;
    one.owns(3).await?;
    one.kill().await?;
    let begun = Instant::now();
    let two = Member::join(harness, &second, named()).await?;
    two.owns(3).await?;
    let took = begun.elapsed();
    check!(
        took < harness.lease_time() / 2,
        "the place was given back after {took:?}"
    );
    two.leave().await
}

/// An instance that was started a second time owns nothing under its first start any more. Until
/// that one hears of it it takes itself for the owner: then the store alone refuses its checkpoint.
async fn a_replaced_instance_is_stale(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(1, 5)).await?;
    let mut spec = spec(&scene);
    spec.instance = Some(Instance::new(Harness::fresh("instance"))?);
    let mut former: Option<(Member<'_>, Checkpoint)> = None;
    // Several times, since now and then the former one hears of it first.
    for _ in 0..4 {
        let transport = harness.connect().await?;
        let member = Member::join(harness, &transport, spec.clone()).await?;
        member.owns(1).await?;
        if let Some((former, late)) = former.take() {
            let answer = former.try_commit(late).await?;
            check_eq!(answer, Committed::Stale, "the checkpoint of a former start");
        }
        let records = member.records(5).await?;
        let late = member.checkpoint(&records[0].0)?;
        former = Some((member, late));
    }
    let Some((last, _)) = former else {
        return Ok(());
    };
    last.commit().await?;
    last.leave().await
}

/// A partition whose flow is stopped gives no records, the others do, and it goes on without a
/// gap.
async fn flow_stops_and_opens(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let one = member(&scene).await?;
    one.owns(2).await?;
    let events = interleaved(12, 1);
    scene.publish(&events).await?;
    let first = one.records(events.len()).await?;
    let partition = first[0].0.clone();
    let fence = one.checkpoint(&partition)?.fence;
    let of = |seen: &[Seen], stopped: bool| {
        let records = records_of(seen);
        records
            .iter()
            .filter(|(at, _)| (*at == partition) == stopped)
            .count()
    };
    let before = (of(&one.seen.all(), true), of(&one.seen.all(), false));
    check!(before.1 > 0, "twelve keys share one of two partitions");
    one.control.flow(&partition, fence, Flow::Stopped);
    // Stopping twice, and under another fence, changes nothing.
    one.control.flow(&partition, fence, Flow::Stopped);
    one.control.flow(&partition, fence + 1_000, Flow::Open);
    scene
        .publish(
            &events
                .iter()
                .map(|(k, _)| (k.clone(), 1))
                .collect::<Vec<_>>(),
        )
        .await?;
    one.until("the other partition's records", |seen| {
        (of(seen, false) == 2 * before.1).then_some(())
    })
    .await?;
    check_eq!(
        one.seen.see(|seen| of(seen, true)),
        before.0,
        "records while stopped"
    );
    one.control.flow(&partition, fence, Flow::Open);
    let all = one.records(2 * events.len()).await?;
    check_eq!(all.len(), 2 * events.len(), "records");
    one.leave().await
}

/// A member that has said that it leaves gets nothing that it releases back.
async fn a_leaving_member_gets_nothing_back(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 4).await?;
    let (one, two) = (member(&scene).await?, member(&scene).await?);
    one.owns(2).await?;
    two.owns(2).await?;
    let assigned = |member: &Member<'_>| {
        let is = |seen: &&Seen| matches!(seen, Seen::Assigned(_));
        member.seen.see(|seen| seen.iter().filter(is).count())
    };
    let before = assigned(&one);
    one.control.leave();
    for checkpoint in one.owned().into_values() {
        one.control.release(vec![checkpoint]).await?;
    }
    two.owns(4).await?;
    check_eq!(
        assigned(&one),
        before,
        "assignments of a member that leaves"
    );
    let groups = scene.transport.admin().groups(Some(&scene.topic)).await?;
    check!(
        groups.iter().any(|info| info.group == scene.group),
        "the group is not listed"
    );
    one.control.close(harness.deadline()).await?;
    two.leave().await
}
