//! Administration: topics to order, lag, reset and deletion.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use interline_core::{
    Admin, Ensured, ErrorKind, GroupInfo, Pattern, Start, SubscribeSpec, Topic, TopicSpec,
    Transport,
};

use super::{manage_topics, scenario};
use crate::member::Member;
use crate::scene::{Run, Runs, Scene, gated, interleaved};
use crate::{Breach, Gate, Harness, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(topics_are_made_to_order, manage_topics),
    scenario!(topics_are_listed),
    scenario!(lag_is_told),
    scenario!(lag_leaves_out_what_is_done_beyond_the_frontier),
    scenario!(a_live_group_is_not_reset),
    scenario!(a_reset_moves_a_group),
    scenario!(a_deleted_group_starts_anew),
    scenario!(listings_leave_out_what_goes_meanwhile, manage_topics),
];

/// A topic is made once; what differs later is reported and changed by nobody.
async fn topics_are_made_to_order(harness: &Harness) -> Verdict {
    let transport = harness.connect().await?;
    let admin = transport.admin();
    let topic = harness.fresh_topic("conf.made")?;
    let spec = |partitions| vec![TopicSpec::new(topic.clone()).partitions(partitions)];
    check_eq!(
        admin.ensure(spec(3)).await?,
        [Ensured::Created],
        "the first time"
    );
    check_eq!(
        admin.ensure(spec(3)).await?,
        [Ensured::Exists],
        "the second time"
    );
    let Ok([Ensured::Drift(lines)]) = <[_; 1]>::try_from(admin.ensure(spec(5)).await?) else {
        return Err(Breach::new("another number of partitions is no drift"));
    };
    check!(
        lines.len() == 1 && lines[0].contains("partitions"),
        "drift: {lines:?}"
    );
    let known = admin.topics(&Pattern::exact(topic.as_str())).await?;
    check_eq!(
        known.first().map(|info| info.partitions),
        Some(3),
        "partitions"
    );
    Ok(())
}

/// Topics are listed by pattern, sorted, with their partitions; a deleted one is gone.
async fn topics_are_listed(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    scene.publish(&interleaved(2, 2)).await?;
    let admin = scene.transport.admin();
    let known = admin.topics(&Pattern::exact(scene.topic.as_str())).await?;
    check_eq!(known.len(), 1, "topics of the name");
    check_eq!(known[0].topic, scene.topic, "name");
    check!(
        known[0].events.is_none_or(|events| events >= 4),
        "events {:?}",
        known[0].events
    );
    let all = admin.topics(&Pattern::ANY).await?;
    let names: Vec<&Topic> = all.iter().map(|info| &info.topic).collect();
    check!(names.is_sorted(), "topics are not sorted");
    check!(names.contains(&&scene.topic), "a topic is not among all");
    let none = admin.topics(&Pattern::exact("no.such.topic")).await?;
    check!(none.is_empty(), "a topic that nobody made: {none:?}");
    Ok(())
}

async fn group(scene: &Scene<'_>) -> Verdict<GroupInfo> {
    let groups = scene.transport.admin().groups(Some(&scene.topic)).await?;
    let mine = groups.into_iter().find(|info| info.group == scene.group);
    mine.ok_or_else(|| Breach::new("the group is not listed"))
}

fn lag(info: &GroupInfo) -> u64 {
    info.partitions
        .iter()
        .filter_map(|partition| partition.lag)
        .sum()
}

async fn member<'a>(scene: &Scene<'a>) -> Verdict<Member<'a>> {
    let spec = SubscribeSpec::new(
        scene.group.clone(),
        vec![Pattern::exact(scene.topic.as_str())],
    );
    Member::join(scene.harness, &scene.transport, spec).await
}

/// Events that are done behind one that is not are no lag.
async fn lag_leaves_out_what_is_done_beyond_the_frontier(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(10, 1)).await?;
    let (runs, gate) = (Runs::default(), Arc::new(Gate::shut()));
    let stays = |run: &Run| run.key == "key-0" || run.key == "key-5";
    let workers = scene.start(&runs, 0, gated(&gate, stays)).await?;
    // A group is listed once it has a member or a checkpoint.
    let done = || async { Ok(group(&scene).await.is_ok_and(|info| lag(&info) == 2)) };
    harness.eventually("a lag of two", done).await?;
    gate.open();
    scene.finish(workers).await?;
    Ok(())
}

/// The lag of a group is what it has not settled; its members and owners are told.
async fn lag_is_told(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    scene.publish(&interleaved(10, 1)).await?;
    let one = member(&scene).await?;
    one.records(10).await?;
    one.commit().await?;
    let info = group(&scene).await?;
    check_eq!((lag(&info), info.members), (0, 1), "lag and members");
    check!(
        info.partitions.iter().all(|p| p.owner.is_some()),
        "a partition without owner"
    );
    scene.publish(&interleaved(10, 2).split_off(10)).await?;
    one.records(20).await?;
    let unsettled = || async { Ok(lag(&group(&scene).await?) == 10) };
    harness.eventually("a lag of ten", unsettled).await?;
    one.commit().await?;
    let settled = || async { Ok(lag(&group(&scene).await?) == 0) };
    harness.eventually("no lag", settled).await?;
    one.leave().await?;
    let empty = || async { Ok(group(&scene).await?.members == 0) };
    harness.eventually("a group without members", empty).await?;
    let unknown = harness.fresh_topic("conf.unknown")?;
    let asked = scene.transport.admin().groups(Some(&unknown)).await;
    check_eq!(
        asked.err().map(|e| e.kind()),
        Some(ErrorKind::NotFound),
        "groups of no topic"
    );
    Ok(())
}

/// A group with a live member is neither reset nor deleted.
async fn a_live_group_is_not_reset(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(1, 3)).await?;
    let one = member(&scene).await?;
    one.records(3).await?;
    let admin = scene.transport.admin();
    let reset = admin
        .reset(&scene.group, &scene.topic, Start::Earliest)
        .await;
    check_eq!(
        reset.err().map(|e| e.kind()),
        Some(ErrorKind::Invalid),
        "resetting a live group"
    );
    let deleted = admin.delete_group(&scene.group).await;
    check_eq!(
        deleted.err().map(|e| e.kind()),
        Some(ErrorKind::Invalid),
        "deleting a live group"
    );
    one.leave().await
}

/// A group without members is moved, forwards and back.
async fn a_reset_moves_a_group(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(1, 6)).await?;
    let one = member(&scene).await?;
    let records = one.records(6).await?;
    one.leave().await?;
    let admin = scene.transport.admin();
    let after_second = Start::At(vec![(records[1].0.clone(), records[1].1.position)]);
    for (start, expected) in [(Start::Earliest, 6), (after_second, 4)] {
        reset(&scene, start.clone()).await?;
        let next = member(&scene).await?;
        let found = next.records(expected).await?;
        check_eq!(found.len(), expected, "records after a reset to {start:?}");
        next.leave().await?;
    }
    reset(&scene, Start::Latest).await?;
    check_eq!(
        lag(&group(&scene).await?),
        0,
        "lag after a reset to the latest"
    );
    let missing = harness.fresh_topic("conf.unknown")?;
    let asked = admin.reset(&scene.group, &missing, Start::Earliest).await;
    check_eq!(
        asked.err().map(|e| e.kind()),
        Some(ErrorKind::NotFound),
        "resetting in no topic"
    );
    Ok(())
}

/// Resets as soon as the server has noticed that the last member left.
async fn reset(scene: &Scene<'_>, start: Start) -> Verdict {
    let admin = scene.transport.admin();
    let done = || async {
        match admin.reset(&scene.group, &scene.topic, start.clone()).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Invalid => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    scene.harness.eventually("a reset", done).await
}

/// A deleted group is gone, and starts anew when a member joins.
async fn a_deleted_group_starts_anew(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(1, 3)).await?;
    let one = member(&scene).await?;
    one.records(3).await?;
    one.leave().await?;
    let admin = scene.transport.admin();
    let deleted = || async {
        match admin.delete_group(&scene.group).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Invalid => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    harness
        .eventually("the group to be deleted", deleted)
        .await?;
    admin.delete_group(&scene.group).await?;
    let groups = admin.groups(Some(&scene.topic)).await?;
    check!(
        groups.iter().all(|info| info.group != scene.group),
        "a deleted group is listed"
    );
    let again = member(&scene).await?;
    again.records(3).await?;
    tokio::time::timeout(Duration::from_secs(30), again.leave())
        .await
        .map_err(|_| Breach::new("leaving took half a minute"))?
}

/// Topics that are deleted while topics and groups are listed make no listing fail.
async fn listings_leave_out_what_goes_meanwhile(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let admin = scene.transport.admin();
    let mut topics = Vec::new();
    for _ in 0..16 {
        topics.push(harness.fresh_topic("conf.going")?);
    }
    let specs = topics.iter().cloned().map(TopicSpec::new);
    admin
        .ensure(specs.map(|spec| spec.partitions(1)).collect())
        .await?;
    let patterns = topics.iter().map(|topic| Pattern::exact(topic.as_str()));
    let spec = SubscribeSpec::new(scene.group.clone(), patterns.collect());
    let one = Member::join(harness, &scene.transport, spec).await?;
    one.owns(topics.len()).await?;
    one.commit().await?;
    one.leave().await?;
    let deleting = async {
        for topic in &topics {
            admin.delete_topic(topic).await?;
        }
        Ok::<_, Breach>(())
    };
    let listing = (0..4).map(|_| list_on(scene.transport.admin()));
    tokio::select! {
        deleted = deleting => deleted,
        failed = try_join_all(listing) => failed.map(drop),
    }
}

/// Lists topics and groups until that fails.
async fn list_on(admin: impl Admin) -> Verdict {
    loop {
        admin.groups(None).await?;
        admin.topics(&Pattern::ANY).await?;
        // Memory answers without waiting.
        tokio::task::yield_now().await;
    }
}
