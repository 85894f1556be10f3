//! Where readings start and end, and that they disturb nobody.

use std::time::Duration;

use interline_core::{
    Admin, Budget, ErrorKind, EventId, Feed, Outgoing, Partition, Pattern, Position, ReadSpec,
    Reader, Recorded, Signal, Start, SubscribeSpec, Timestamp, Topic, TopicSpec, Transport, Until,
};
use tokio::time::timeout;

use super::{manage_topics, no_start_at_time, scenario, start_at_time};
use crate::checker::each_once;
use crate::member::{Member, records_of};
use crate::scene::{Runs, Scene, event, interleaved, key_of, noting, number_of, read_all};
use crate::{Breach, Harness, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(starts_at_the_earliest),
    scenario!(starts_at_the_latest),
    scenario!(starts_at_a_time, start_at_time),
    scenario!(starts_at_a_position),
    scenario!(a_start_counts_for_a_new_group_only),
    scenario!(a_lost_position_is_an_error),
    scenario!(start_at_a_time_is_refused_if_undeclared, no_start_at_time),
    scenario!(reader_ends_where_it_should),
    scenario!(reader_waits_for_more),
    scenario!(reader_ends_at_a_time, start_at_time),
    scenario!(replay_beside_a_live_group),
    scenario!(two_groups_get_everything),
    scenario!(broadcast_reaches_every_instance),
    scenario!(budget_bounds_a_signal),
    scenario!(patterns_choose_topics, manage_topics),
    scenario!(a_topic_that_appears_is_read_from_its_start, manage_topics),
    scenario!(a_deleted_topic_ends_its_reading, manage_topics),
];

fn spec(scene: &Scene<'_>, start: Start) -> SubscribeSpec {
    let topics = vec![Pattern::exact(scene.topic.as_str())];
    let mut spec = SubscribeSpec::new(scene.group.clone(), topics);
    spec.start = start;
    spec
}

fn read_spec(scene: &Scene<'_>, start: Start, until: Until) -> ReadSpec {
    ReadSpec {
        topics: vec![Pattern::exact(scene.topic.as_str())],
        start,
        until,
    }
}

fn numbers(records: &[(Partition, Recorded)]) -> Verdict<Vec<u64>> {
    let numbers = records
        .iter()
        .map(|(_, record)| number_of(&record.envelope));
    let mut numbers = numbers.collect::<Verdict<Vec<_>>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

fn events(numbers: std::ops::Range<u64>) -> Vec<(String, u64)> {
    numbers
        .map(|number| (format!("key-{}", number % 5), number))
        .collect()
}

/// Everything that a reading gives until its end.
async fn read(scene: &Scene<'_>, start: Start, until: Until) -> Verdict<Vec<u64>> {
    let mut reader = scene.transport.read(read_spec(scene, start, until)).await?;
    let mut records = Vec::new();
    let next = async {
        while let Some(batch) = reader.next(Budget::default()).await? {
            let partition = batch.partition.clone();
            records.extend(
                batch
                    .records
                    .into_iter()
                    .map(|record| (partition.clone(), record)),
            );
        }
        Verdict::Ok(())
    };
    scene.harness.within("the end of a reading", next).await??;
    numbers(&records)
}

/// A new group reads what was published before it was there, and what comes after.
async fn starts_at_the_earliest(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    scene.publish(&events(0..20)).await?;
    let member = Member::join(harness, &scene.transport, spec(&scene, Start::Earliest)).await?;
    member.records(20).await?;
    scene.publish(&events(20..40)).await?;
    let records = member.records(40).await?;
    check_eq!(numbers(&records)?, (0..40).collect::<Vec<_>>(), "events");
    member.leave().await
}

/// A group that starts at the latest reads only what comes after it was given its partitions.
async fn starts_at_the_latest(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    scene.publish(&events(0..20)).await?;
    let member = Member::join(harness, &scene.transport, spec(&scene, Start::Latest)).await?;
    member
        .until("an assignment", |seen| seen.first().map(|_| ()))
        .await?;
    scene.publish(&events(20..40)).await?;
    let records = member.records(20).await?;
    check_eq!(numbers(&records)?, (20..40).collect::<Vec<_>>(), "events");
    member.leave().await
}

/// A group and a reader that start at a time read what was stored then or later.
async fn starts_at_a_time(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let moments = published_apart(&scene, 3).await?;
    let start = Start::Time(Timestamp::from_unix_millis(moments[1]));
    let member = Member::join(harness, &scene.transport, spec(&scene, start.clone())).await?;
    let records = member.records(2).await?;
    check_eq!(numbers(&records)?, [1, 2], "events of the group");
    check_eq!(
        read(&scene, start, Until::End).await?,
        [1, 2],
        "events of the reader"
    );
    member.leave().await
}

/// Publishes events whose times of storing differ, and returns those.
async fn published_apart(scene: &Scene<'_>, count: u64) -> Verdict<Vec<i64>> {
    let mut moments = Vec::new();
    while (moments.len() as u64) < count {
        scene
            .publish(&events(moments.len() as u64..moments.len() as u64 + 1))
            .await?;
        let records = scene.records().await?;
        moments = records.iter().map(|(_, record)| record.stored_at).collect();
        let last = moments.last().copied().unwrap_or_default();
        let probe = scene.harness.fresh_topic("conf.clock")?;
        // The store's clock is asked by storing something until it has moved on.
        let moved = || async {
            let outgoing = Outgoing::new(probe.clone(), event("t", 0)?.with_id(EventId::new()));
            let _stored = scene.outcomes(vec![outgoing]).await?;
            let probes = read_all(scene.harness, &scene.transport, &probe).await?;
            Ok(probes.iter().any(|(_, record)| record.stored_at > last))
        };
        scene
            .harness
            .eventually("the store's clock to move on", moved)
            .await?;
    }
    Ok(moments)
}

/// A group and a reader that start at positions read strictly after them; partitions that are
/// not named are read from the start.
async fn starts_at_a_position(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    scene.publish(&events(0..30)).await?;
    let records = scene.records().await?;
    let of = |partition: u32| records.iter().filter(move |(at, _)| *at == partition);
    let Some((named, third)) = of(0).nth(2).or_else(|| of(1).nth(2)) else {
        return Err(Breach::new("too few records to start at one"));
    };
    let at = (Partition::new(scene.topic.clone(), *named), third.position);
    let wanted = |(partition, record): &&(u32, Recorded)| {
        partition != named || record.position > third.position
    };
    let wanted = records
        .iter()
        .filter(wanted)
        .map(|(_, record)| number_of(&record.envelope));
    let mut wanted = wanted.collect::<Verdict<Vec<_>>>()?;
    wanted.sort_unstable();
    let start = Start::At(vec![at]);
    check_eq!(
        read(&scene, start.clone(), Until::End).await?,
        wanted,
        "events of the reader"
    );
    let member = Member::join(harness, &scene.transport, spec(&scene, start)).await?;
    let found = member.records(wanted.len()).await?;
    check_eq!(numbers(&found)?, wanted, "events of the group");
    member.leave().await
}

/// A group with a checkpoint goes on from it, whatever start the next member names.
async fn a_start_counts_for_a_new_group_only(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    scene.publish(&events(0..10)).await?;
    let first = Member::join(harness, &scene.transport, spec(&scene, Start::Earliest)).await?;
    first.records(10).await?;
    first.leave().await?;
    scene.publish(&events(10..20)).await?;
    for start in [Start::Latest, Start::Earliest] {
        let member = Member::join(harness, &scene.transport, spec(&scene, start)).await?;
        let records = member.records(10).await?;
        check_eq!(numbers(&records)?, (10..20).collect::<Vec<_>>(), "events");
        member.kill().await?;
        harness
            .eventually("the dead member's lease to end", || async {
                let groups = scene.transport.admin().groups(Some(&scene.topic)).await?;
                let mine = groups.iter().find(|info| info.group == scene.group);
                Ok(mine.is_none_or(|info| info.members == 0))
            })
            .await?;
    }
    Ok(())
}

/// A position past the end, or below what is kept, is `PositionLost`, never a silent jump.
async fn a_lost_position_is_an_error(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&events(0..5)).await?;
    let beyond = Position(u64::MAX >> 16, u64::MAX >> 16);
    let start = Start::At(vec![(Partition::new(scene.topic.clone(), 0), beyond)]);
    let reading = async {
        let spec = read_spec(&scene, start.clone(), Until::Forever);
        let mut reader = scene.transport.read(spec).await?;
        reader.next(Budget::default()).await.map(|_| ())
    };
    let read = harness.within("the end of a reading", reading).await?;
    check_eq!(
        read.err().map(|e| e.kind()),
        Some(ErrorKind::PositionLost),
        "the reader's end"
    );
    let joining = async {
        let (mut feed, _control) = scene.transport.subscribe(spec(&scene, start)).await?;
        loop {
            if let Signal::Batch(_) = feed.next(Budget::default()).await? {
                return Ok(());
            }
        }
    };
    let joined: interline_core::Result<()> = harness.within("the end of a feed", joining).await?;
    check_eq!(
        joined.err().map(|e| e.kind()),
        Some(ErrorKind::PositionLost),
        "the feed's end"
    );
    Ok(())
}

/// A transport that cannot start at a time says `Unsupported`, naming itself.
async fn start_at_a_time_is_refused_if_undeclared(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&events(0..1)).await?;
    let start = Start::Time(Timestamp::now());
    let name = scene.transport.capabilities().transport;
    let read = scene
        .transport
        .read(read_spec(&scene, start.clone(), Until::End))
        .await;
    let joined = scene.transport.subscribe(spec(&scene, start)).await;
    for error in [read.err(), joined.err()] {
        let Some(error) = error else {
            return Err(Breach::new("what is not declared was not refused"));
        };
        check_eq!(error.kind(), ErrorKind::Unsupported, "kind of {error}");
        check_eq!(error.transport(), Some(name), "transport of {error}");
    }
    Ok(())
}

/// A reader until the end gives what was there when it began, and then `None`, again and again.
async fn reader_ends_where_it_should(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    check!(
        read(&scene, Start::Earliest, Until::End).await?.is_empty(),
        "an empty topic gave events"
    );
    scene.publish(&events(0..50)).await?;
    let mut reader = scene
        .transport
        .read(read_spec(&scene, Start::Earliest, Until::End))
        .await?;
    scene.publish(&events(50..60)).await?;
    let mut found = 0;
    while let Some(batch) = harness
        .within("a batch", reader.next(Budget::default()))
        .await??
    {
        found += batch.records.len();
    }
    check_eq!(found, 50, "events until the end");
    let again = harness
        .within("the end", reader.next(Budget::default()))
        .await??;
    check!(again.is_none(), "a reading went on after its end");
    Ok(())
}

/// A reader without an end waits, and gives what comes.
async fn reader_waits_for_more(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&events(0..1)).await?;
    let mut reader = scene
        .transport
        .read(read_spec(&scene, Start::Latest, Until::Forever))
        .await?;
    let early = timeout(Duration::from_millis(300), reader.next(Budget::default())).await;
    check!(early.is_err(), "a reader at the latest gave {early:?}");
    scene.publish(&events(1..2)).await?;
    let batch = harness
        .within("a record", reader.next(Budget::default()))
        .await??;
    let records = batch.map(|batch| batch.records).unwrap_or_default();
    check_eq!(records.len(), 1, "records");
    check_eq!(number_of(&records[0].envelope)?, 1, "number");
    Ok(())
}

/// A reader until a time gives what was stored before it.
async fn reader_ends_at_a_time(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let moments = published_apart(&scene, 3).await?;
    let until = Until::Time(Timestamp::from_unix_millis(moments[2]));
    check_eq!(
        read(&scene, Start::Earliest, until).await?,
        [0, 1],
        "events before the time"
    );
    Ok(())
}

/// A replay reads everything again while a group works, and neither notices the other.
async fn replay_beside_a_live_group(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let events = interleaved(5, 10);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let workers = scene
        .builder()
        .on_raw("*", noting(&runs, 0, |_| async { Ok(()) }))
        .start()
        .await?;
    scene.succeeded(&runs, events.len()).await?;
    let pattern = Pattern::exact(scene.topic.as_str());
    let mut replay = scene.bus.replay(pattern).until_end().open().await?;
    let mut found = Vec::new();
    while let Some(record) = harness.within("a record", replay.next()).await?? {
        found.push((key_of(&record.envelope), number_of(&record.envelope)?));
    }
    found.sort_unstable();
    let mut wanted = events.clone();
    wanted.sort_unstable();
    check_eq!(found, wanted, "replayed events");
    scene.finish(workers).await?;
    each_once(&runs.all(), &events)
}

/// Two groups each get every event.
async fn two_groups_get_everything(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let events = interleaved(4, 10);
    let mut groups = Vec::new();
    for _ in 0..2 {
        let runs = Runs::default();
        let name = harness.fresh_group("each")?;
        let group = scene.bus.group(name.as_str()).topics(scene.topic.as_str());
        let workers = group
            .on_raw("*", noting(&runs, 0, |_| async { Ok(()) }))
            .start()
            .await?;
        groups.push((runs, workers));
    }
    scene.publish(&events).await?;
    for (runs, workers) in groups {
        scene.succeeded(&runs, events.len()).await?;
        scene.drain(workers).await?;
        each_once(&runs.all(), &events)?;
    }
    Ok(())
}

/// Every instance of a broadcast gets every event from its start on, and leaves no group behind.
async fn broadcast_reaches_every_instance(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    scene.publish(&[("before".to_owned(), 0)]).await?;
    let name = Harness::fresh("all");
    let mut instances = Vec::new();
    for _ in 0..3 {
        let runs = Runs::default();
        let group = scene.bus.broadcast(&name).topics(scene.topic.as_str());
        let workers = group
            .on_raw("*", noting(&runs, 0, |_| async { Ok(()) }))
            .start()
            .await?;
        instances.push((runs, workers));
    }
    let admin = scene.transport.admin();
    for (_, workers) in &instances {
        let given = || async { Ok(workers.stats().partitions > 0) };
        harness
            .eventually("partitions of a broadcast", given)
            .await?;
    }
    let events = interleaved(3, 5);
    scene.publish(&events).await?;
    for (runs, workers) in instances {
        scene.succeeded(&runs, events.len()).await?;
        scene.drain(workers).await?;
        each_once(&runs.all(), &events)?;
    }
    let left = admin.groups(Some(&scene.topic)).await?;
    let left = left
        .iter()
        .filter(|info| info.group.as_str().starts_with(&name));
    check_eq!(left.count(), 0, "groups that the broadcast left behind");
    Ok(())
}

/// A signal carries no more records than its budget, and one even if that is larger.
async fn budget_bounds_a_signal(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&events(0..30)).await?;
    let (mut feed, _control) = scene
        .transport
        .subscribe(spec(&scene, Start::Earliest))
        .await?;
    let mut found = 0;
    for budget in [
        Budget {
            events: 7,
            bytes: usize::MAX,
        },
        Budget {
            events: 100,
            bytes: 1,
        },
    ] {
        let least = if budget.bytes == 1 { 30 } else { 10 };
        while found < least {
            let signal = harness.within("a signal", feed.next(budget)).await??;
            let Signal::Batch(batch) = signal else {
                continue;
            };
            let (records, bytes) = (batch.records.len(), budget.bytes);
            check!(
                records <= budget.events,
                "{records} records for {}",
                budget.events
            );
            check!(bytes > 1 || records == 1, "{records} records for one byte");
            for record in &batch.records {
                check_eq!(number_of(&record.envelope)?, found, "the next record");
                found += 1;
            }
        }
    }
    check_eq!(found, 30, "records");
    Ok(())
}

/// A pattern reads the topics that fit it, and never a dead-letter or return topic.
async fn patterns_choose_topics(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let base = Harness::fresh("pattern");
    let names = [
        format!("{base}.a"),
        format!("{base}.b"),
        format!("{base}.b.c"),
        base.clone(),
    ];
    let mut batch = Vec::new();
    for (number, name) in (0..).zip(&names) {
        let topic = Topic::new(name)?;
        let spec = TopicSpec::new(topic.clone()).partitions(1);
        let other = harness.fresh_group("other")?;
        let system = [topic.dlq(&other), topic.retry(&other)];
        scene.transport.admin().ensure(vec![spec]).await?;
        batch.push(Outgoing::new(topic, event("p", number)?));
        for topic in system {
            scene
                .transport
                .admin()
                .ensure(vec![TopicSpec::new(topic.clone()).partitions(1)])
                .await?;
            batch.push(Outgoing::new(topic, event("p", 99)?));
        }
    }
    for outcome in scene.outcomes(batch).await? {
        check!(outcome.is_ok(), "{outcome:?}");
    }
    for (pattern, wanted) in [
        (format!("{base}.*"), vec![0, 1]),
        (format!("{base}.**"), vec![0, 1, 2]),
    ] {
        let group = harness.fresh_group("pattern")?;
        let spec = SubscribeSpec::new(group, vec![Pattern::new(&pattern)?]);
        let member = Member::join(harness, &scene.transport, spec).await?;
        let records = member.records(wanted.len()).await?;
        check_eq!(numbers(&records)?, wanted, "events of {pattern}");
        member.leave().await?;
    }
    Ok(())
}

/// A topic that appears under a live pattern is read from its first event.
async fn a_topic_that_appears_is_read_from_its_start(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let base = Harness::fresh("appears");
    let first = Topic::new(format!("{base}.first"))?;
    let make = |topic: &Topic| vec![TopicSpec::new(topic.clone()).partitions(1)];
    scene.transport.admin().ensure(make(&first)).await?;
    let mut spec = SubscribeSpec::new(
        scene.group.clone(),
        vec![Pattern::new(format!("{base}.*"))?],
    );
    spec.start = Start::Latest;
    let member = Member::join(harness, &scene.transport, spec).await?;
    member.owns(1).await?;
    let second = Topic::new(format!("{base}.second"))?;
    scene.transport.admin().ensure(make(&second)).await?;
    let outgoing = Outgoing::new(second.clone(), event("new", 7)?);
    let _stored = scene.outcomes(vec![outgoing]).await?;
    let records = member.records(1).await?;
    check_eq!(records[0].0.topic, second, "topic");
    member.leave().await
}

/// Deleting a topic ends a reading that names it, with a typed error, and makes it missing.
async fn a_deleted_topic_ends_its_reading(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&events(0..3)).await?;
    let member = Member::join(harness, &scene.transport, spec(&scene, Start::Earliest)).await?;
    member.records(3).await?;
    scene.transport.admin().delete_topic(&scene.topic).await?;
    let kind = member.ended().await?;
    check_eq!(kind, ErrorKind::NotFound, "the feed's end");
    check_eq!(records_of(&member.seen.all()).len(), 3, "records");
    scene.transport.admin().delete_topic(&scene.topic).await?;
    Ok(())
}
