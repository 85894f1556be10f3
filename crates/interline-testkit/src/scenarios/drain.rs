//! Ending in order: drain, pause, close.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use interline_core::{
    Budget, Control, ErrorKind, Feed, Outgoing, Partition, Pattern, Publisher, PublisherOptions,
    ReadSpec, Reader, Start, SubscribeSpec, Transport, Until,
};
use interline_reliability::{Fail, Retry};
use tokio::time::Instant;

use super::{scenario, two_members};
use crate::checker::{attempts_of, each_once};
use crate::scene::{Run, Runs, Scene, What, event, gated, interleaved, key_of, noting};
use crate::{Breach, Gate, Harness, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(a_drain_waits_for_what_runs),
    scenario!(a_drain_names_what_did_not_finish),
    scenario!(a_drain_lets_held_events_go_at_once),
    scenario!(a_draining_member_gets_nothing_back, two_members),
    scenario!(a_drain_stores_everything_settled),
    scenario!(dropped_workers_release),
    scenario!(groups_drain_together),
    scenario!(pause_and_resume),
    scenario!(closing_twice_is_fine),
    scenario!(closing_wakes_who_waits),
    scenario!(closing_resolves_every_receipt),
];

/// Handlers that run when the drain begins finish and count; nothing new starts.
async fn a_drain_waits_for_what_runs(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let events = interleaved(20, 1);
    scene.publish(&events).await?;
    let (runs, gate) = (Runs::default(), Arc::new(Gate::shut()));
    let act = gated(&gate, |_| true);
    let group = scene.builder().lanes(8);
    let workers = group
        .on_raw("*", noting(&runs, 0, act.clone()))
        .start()
        .await?;
    harness
        .until("eight runs", &runs, |all| (all.len() == 8).then_some(()))
        .await?;
    let mut draining = Box::pin(workers.drain(harness.deadline()));
    let begun = poll_fn(|cx| Poll::Ready(draining.as_mut().poll(cx).is_pending())).await;
    check!(begun, "the drain ended before what runs");
    let draining = tokio::spawn(draining);
    gate.open();
    let drained = harness.within("the drain", draining).await?;
    let report = drained.map_err(|error| Breach::new(error.to_string()))??;
    check!(
        report.unfinished.is_empty(),
        "unfinished: {:?}",
        report.unfinished
    );
    let done = runs
        .all()
        .iter()
        .filter(|run| run.what == What::Succeeded)
        .count();
    check_eq!(done, runs.all().len() / 2, "runs that ended well");
    let next = scene.start_other(&runs, 1, act).await?;
    scene.finish(next).await?;
    each_once(&runs.all(), &events)
}

/// At the deadline what still runs is dropped, named, and runs again elsewhere.
async fn a_drain_names_what_did_not_finish(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(3, 1);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |run: Run| async move {
        if run.member == 0 && run.key == "key-1" {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let workers = scene.start(&runs, 0, act).await?;
    scene.succeeded(&runs, 2).await?;
    let report = workers.drain(Duration::from_millis(500)).await?;
    check_eq!(report.unfinished.len(), 1, "unfinished deliveries");
    let stuck = &report.unfinished[0];
    check_eq!(
        stuck.partition,
        Partition::new(scene.topic.clone(), 0),
        "its partition"
    );
    check_eq!(stuck.ty.as_str(), "conformance.noted", "its type");
    let text = report
        .into_result()
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    check!(
        text.contains("conformance.noted"),
        "the error names nothing: {text}"
    );
    let ends = runs.see(|all| all.iter().filter(|run| run.what == What::Dropped).count());
    check_eq!(ends, 1, "dropped runs");
    let next = scene.start_other(&runs, 1, act).await?;
    scene.finish(next).await?;
    each_once(&runs.all(), &events)
}

/// A drain does not wait for retries: held events pass to the next owner at once, with their
/// attempts.
async fn a_drain_lets_held_events_go_at_once(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(2, 1)).await?;
    let runs = Runs::default();
    let act = |run: Run| async move {
        if run.member == 0 && run.key == "key-0" {
            Err("later".transient())
        } else {
            Ok(())
        }
    };
    let group = scene.builder().retry(Retry::fixed(Duration::from_secs(40)));
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    scene.succeeded(&runs, 1).await?;
    harness
        .until("the failure", &runs, |all| {
            all.iter().any(|run| run.what == What::Failed).then_some(())
        })
        .await?;
    let begun = Instant::now();
    scene.drain(workers).await?;
    let took = begun.elapsed();
    check!(
        took < Duration::from_secs(20),
        "the drain waited {took:?} for a retry"
    );
    let next = scene.start_other(&runs, 1, act).await?;
    scene.finish(next).await?;
    let runs = runs.all();
    let again = attempts_of(&runs, "key-0", 0).find(|run| run.member == 1);
    check_eq!(
        again.map(|run| run.attempt),
        Some(2),
        "the next owner's first attempt"
    );
    each_once(&runs, &interleaved(2, 1))
}

/// While a member finishes what runs, it gets nothing new: another handles what is published.
async fn a_draining_member_gets_nothing_back(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 4).await?;
    let (runs, gate) = (Runs::default(), Arc::new(Gate::shut()));
    let act = gated(&gate, |run| run.member == 0);
    let group = scene.other().await?;
    let first = group.on_raw("*", noting(&runs, 0, act.clone()));
    let first = first.start().await?;
    scene.publish(&[("stuck".to_owned(), 0)]).await?;
    harness
        .until("a stuck run", &runs, |all| all.first().map(|_| ()))
        .await?;
    let group = scene.other().await?;
    let second = group.on_raw("*", noting(&runs, 1, act)).start().await?;
    // Long enough for whoever passes partitions on one by one, short enough for the others.
    let mut draining = Box::pin(first.drain(harness.deadline() / 4));
    let begun = poll_fn(|cx| Poll::Ready(draining.as_mut().poll(cx).is_pending())).await;
    check!(begun, "the drain ended before what runs");
    let draining = tokio::spawn(draining);
    let late = interleaved(24, 1);
    scene.publish(&late).await?;
    let records = scene.records().await?;
    let home = records.iter().find(|(_, r)| key_of(&r.envelope) == "stuck");
    let home = home.map(|(partition, _)| *partition);
    let flowing = records.iter().filter(|(at, _)| Some(*at) != home).count();
    let done = |all: &[Run]| {
        let mut late = all
            .iter()
            .filter(|run| run.key != "stuck" && run.what == What::Succeeded);
        late.nth(flowing - 1).map(|_| ())
    };
    check!(flowing > 0, "24 keys share one of four partitions");
    harness.until("what is not stuck", &runs, done).await?;
    gate.open();
    let drained = harness.within("the drain", draining).await?;
    drained.map_err(|error| Breach::new(error.to_string()))??;
    scene.finish(second).await?;
    let runs = runs.all();
    let late_of_first = runs
        .iter()
        .find(|run| run.member == 0 && run.key != "stuck");
    check!(
        late_of_first.is_none(),
        "a member that drains ran {late_of_first:?}"
    );
    each_once(&runs, &[late, vec![("stuck".to_owned(), 0)]].concat())
}

/// After a drain everything that was settled is stored: the next owner runs nothing again.
async fn a_drain_stores_everything_settled(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let runs = Runs::default();
    let mut all = Vec::new();
    for round in 0..4 {
        let events: Vec<_> = (0..30)
            .map(|n| (format!("round-{round}-{}", n % 7), n / 7))
            .collect();
        scene.publish(&events).await?;
        all.extend(events);
        let group = scene.other().await?;
        let handler = noting(&runs, round, |_| async { Ok(()) });
        let workers = group.on_raw("*", handler).start().await?;
        scene.succeeded(&runs, all.len()).await?;
        // At once, before the cadence would have stored a checkpoint.
        scene.drain(workers).await?;
    }
    each_once(&runs.all(), &all)
}

/// Workers that are dropped without a drain still give their partitions up at once.
async fn dropped_workers_release(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let events = interleaved(6, 1);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let handler = |member| noting(&runs, member, |_| async { Ok(()) });
    let workers = scene.other().await?.on_raw("*", handler(0)).start().await?;
    scene.succeeded(&runs, events.len()).await?;
    let begun = Instant::now();
    drop(workers);
    let next = scene.other().await?.on_raw("*", handler(1)).start().await?;
    scene.publish(&[("late".to_owned(), 0)]).await?;
    scene.succeeded(&runs, events.len() + 1).await?;
    let took = begun.elapsed();
    check!(
        took < harness.lease_time(),
        "dropped workers kept their partitions for {took:?}"
    );
    scene.drain(next).await.map(|_| ())
}

/// Workers of several groups have one lifecycle.
async fn groups_drain_together(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(3, 2);
    scene.publish(&events).await?;
    let (one, two) = (Runs::default(), Runs::default());
    let first = scene
        .builder()
        .on_raw("*", noting(&one, 0, |_| async { Ok(()) }))
        .start()
        .await?;
    let name = harness.fresh_group("second")?;
    let group = scene.bus.group(name.as_str()).topics(scene.topic.as_str());
    let second = group
        .on_raw("*", noting(&two, 0, |_| async { Ok(()) }))
        .start()
        .await?;
    let workers = first.and(second);
    scene.succeeded(&one, events.len()).await?;
    scene.succeeded(&two, events.len()).await?;
    check!(
        workers.is_healthy(),
        "healthy workers say that they are not"
    );
    let report = scene.drain(workers).await?;
    check_eq!(
        report.stats.handled,
        2 * events.len() as u64,
        "handled by both"
    );
    Ok(())
}

/// A pause starts nothing new and keeps the partitions; resuming goes on where it stopped.
async fn pause_and_resume(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let runs = Runs::default();
    let handler = noting(&runs, 0, |_| async { Ok(()) });
    let workers = scene.builder().on_raw("*", handler).start().await?;
    scene.publish(&interleaved(4, 1)).await?;
    scene.succeeded(&runs, 4).await?;
    workers.pause();
    // A command is taken in the order of asking: a second member sees what a paused one leaves.
    let owned = workers.stats().partitions;
    scene.publish(&interleaved(4, 2).split_off(4)).await?;
    let waited = tokio::time::timeout(Duration::from_millis(700), scene.succeeded(&runs, 5)).await;
    check!(waited.is_err(), "an event ran during the pause");
    check_eq!(
        workers.stats().partitions,
        owned,
        "partitions during the pause"
    );
    workers.resume();
    scene.succeeded(&runs, 8).await?;
    scene.drain(workers).await?;
    each_once(&runs.all(), &interleaved(4, 2))
}

fn spec(scene: &Scene<'_>) -> SubscribeSpec {
    SubscribeSpec::new(
        scene.group.clone(),
        vec![Pattern::exact(scene.topic.as_str())],
    )
}

/// Closing a membership or a connection twice is fine; afterwards every handle says `Closed`.
async fn closing_twice_is_fine(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let transport = harness.connect().await?;
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let (mut feed, control) = transport.subscribe(spec(&scene)).await?;
    for _ in 0..2 {
        harness
            .within("the end of a membership", control.close(harness.deadline()))
            .await??;
    }
    let after = harness
        .within("a closed feed", feed.next(Budget::default()))
        .await?;
    check_eq!(
        after.err().map(|e| e.kind()),
        Some(ErrorKind::Closed),
        "a closed feed"
    );
    for _ in 0..2 {
        harness
            .within(
                "the end of a connection",
                transport.close(harness.deadline()),
            )
            .await??;
    }
    let batch = vec![Outgoing::new(scene.topic.clone(), event("closed", 0)?)];
    let published = harness
        .within("an answer", publisher.enqueue(batch))
        .await?;
    check_eq!(
        published.err().map(|e| e.kind()),
        Some(ErrorKind::Closed),
        "a closed publisher"
    );
    let joined = transport.subscribe(spec(&scene)).await;
    check_eq!(
        joined.err().map(|e| e.kind()),
        Some(ErrorKind::Closed),
        "subscribing when closed"
    );
    check!(
        scene.records().await?.is_empty(),
        "a closed publisher stored an event"
    );
    // A connection of its own is not touched by that of another.
    scene.publish(&interleaved(1, 1)).await
}

/// Who waits in a feed or a reader is woken by a close, with `Closed`.
async fn closing_wakes_who_waits(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let transport = harness.connect().await?;
    let (mut feed, control) = transport.subscribe(spec(&scene)).await?;
    let _assigned = harness
        .within("an assignment", feed.next(Budget::default()))
        .await??;
    let mut reader = transport
        .read(ReadSpec {
            topics: vec![Pattern::exact(scene.topic.as_str())],
            start: Start::Earliest,
            until: Until::Forever,
        })
        .await?;
    let feeding = async {
        loop {
            if let Err(error) = feed.next(Budget::default()).await {
                return error.kind();
            }
        }
    };
    let reading = async {
        let ended = reader.next(Budget::default()).await;
        ended.err().map(|error| error.kind())
    };
    let closing = async {
        // Both wait by now, or find out at once.
        tokio::task::yield_now().await;
        control.close(harness.deadline()).await?;
        transport.close(harness.deadline()).await
    };
    let all = async { tokio::join!(feeding, reading, closing) };
    let (fed, read, closed) = harness.within("a close to wake who waits", all).await?;
    closed?;
    check_eq!(fed, ErrorKind::Closed, "the feed's end");
    check_eq!(read, Some(ErrorKind::Closed), "the reader's end");
    Ok(())
}

/// After a close every receipt is resolved, and what it says is true.
async fn closing_resolves_every_receipt(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let transport = harness.connect().await?;
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let mut receipts = Vec::new();
    for number in 0..200 {
        let batch = vec![Outgoing::new(scene.topic.clone(), event("close", number)?)];
        receipts.push(publisher.enqueue(batch).await?);
    }
    harness
        .within(
            "the end of a connection",
            transport.close(harness.deadline()),
        )
        .await??;
    let all = futures_util::future::join_all(receipts);
    let outcomes = harness.within("every receipt", all).await?;
    let stored = outcomes
        .iter()
        .flatten()
        .filter(|outcome| outcome.is_ok())
        .count();
    check_eq!(
        stored,
        200,
        "events stored before the deadline of the close"
    );
    check_eq!(scene.records().await?.len(), 200, "records");
    Ok(())
}
