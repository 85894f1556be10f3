//! Back-pressure and dropped futures.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use interline_core::{
    AnyFeed, AnyPublisher, Batch, Budget, Checkpoint, Control, Feed, Flow, Outgoing, Pattern,
    Publisher, PublisherOptions, ReadSpec, Reader, Signal, Start, SubscribeSpec, Transport, Until,
};

use super::scenario;
use crate::checker::{each_once, in_key_order};
use crate::member::{Member, Seen};
use crate::scene::{Runs, Scene, event, gated, interleaved, noting, number_of};
use crate::{Breach, Gate, Harness, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(a_slow_consumer_bounds_what_is_read),
    scenario!(a_stop_holds_what_was_read_ahead),
    scenario!(a_large_backlog_is_handled),
    scenario!(a_dropped_next_loses_no_signal),
    scenario!(a_dropped_read_loses_no_record),
    scenario!(a_dropped_commit_does_no_harm),
    scenario!(a_dropped_receipt_cancels_nothing),
    scenario!(a_dropped_enqueue_sends_nothing),
];

/// Polls once; the future is dropped if it is not ready.
fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(ready) => Some(ready),
        Poll::Pending => None,
    }
}

/// A publisher far faster than the consumer: what the group holds stays within its window, and
/// everything is handled in the end.
async fn a_slow_consumer_bounds_what_is_read(harness: &Harness) -> Verdict {
    const WINDOW: usize = 64;
    let scene = Scene::new(harness, 1).await?;
    let (runs, gate) = (Runs::default(), Arc::new(Gate::shut()));
    let act = gated(&gate, |_| true);
    let group = scene.builder().window(WINDOW, 1 << 20).lanes(4);
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    let bounded = || {
        let stats = workers.stats();
        check!(
            stats.live <= WINDOW,
            "{} deliveries beyond a window of {WINDOW}",
            stats.live
        );
        // What was on its way when the flow stopped: a signal handed over and one being made. A
        // transport that reads ahead keeps to itself what it has read beyond that.
        let most = WINDOW + 2 * Budget::default().events;
        let read = usize::try_from(stats.delivered).unwrap_or(usize::MAX);
        check!(
            read <= most,
            "{read} records were read, and none is handled"
        );
        Ok(())
    };
    let events = interleaved(50, 200);
    let (first, rest) = events.split_at(500);
    scene.publish(first).await?;
    // A group that has not begun proves nothing. It need not fill its window: a flow that stopped
    // with more than half of it live, be it for the first records, stays stopped until they go.
    let is_full = || std::future::ready(Ok(workers.stats().live > WINDOW / 2));
    harness.eventually("the window to fill", is_full).await?;
    for events in rest.chunks(500) {
        scene.publish(events).await?;
        bounded()?;
    }
    gate.open();
    scene.succeeded(&runs, events.len()).await?;
    scene.drain(workers).await?;
    in_key_order(&runs.all())?;
    each_once(&runs.all(), &events)
}

/// A transport may read ahead of its owner, but what it has read of a stopped partition it keeps
/// to itself: the owner stopped because it has no room.
async fn a_stop_holds_what_was_read_ahead(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let events = interleaved(12, 50);
    scene.publish(&events).await?;
    let (mut feed, control) = scene.transport.subscribe(spec(&scene)).await?;
    let assigned = harness.within("an assignment", feed.next(Budget::default()));
    check!(
        matches!(assigned.await??, Signal::Assigned(_)),
        "no assignment"
    );
    // While this goes to the server and back, there is time to read ahead.
    scene.publish(&interleaved(12, 1)).await?;
    let stored = scene.records().await?;
    let few = Budget {
        events: 10,
        ..Budget::default()
    };
    let first = next_batch(harness, &mut feed, few).await?;
    let (stopped, fence) = (first.partition, first.fence);
    control.flow(&stopped, fence, Flow::Stopped);
    let of_stopped = stored.iter().filter(|(at, _)| *at == stopped.index).count();
    let of_other = stored.len() - of_stopped;
    check!(
        of_stopped > 3 * few.events,
        "twelve keys share two partitions"
    );
    let (mut read, mut other) = (first.records.len(), 0);
    while other < of_other {
        let batch = next_batch(harness, &mut feed, few).await?;
        let count = if batch.partition == stopped {
            &mut read
        } else {
            &mut other
        };
        *count += batch.records.len();
        check!(
            read <= 2 * few.events,
            "{read} records came of a partition that was stopped after {}",
            first.records.len()
        );
    }
    control.flow(&stopped, fence, Flow::Open);
    while read < of_stopped {
        let batch = next_batch(harness, &mut feed, few).await?;
        read += batch.records.len();
    }
    check_eq!((read, other), (of_stopped, of_other), "records");
    Ok(())
}

/// The next records of a feed.
async fn next_batch(harness: &Harness, feed: &mut AnyFeed, budget: Budget) -> Verdict<Batch> {
    loop {
        let next = harness.within("records", feed.next(budget)).await??;
        if let Signal::Batch(batch) = next {
            return Ok(batch);
        }
    }
}

/// A group that starts behind 20,000 events handles each once.
async fn a_large_backlog_is_handled(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 4).await?;
    let events = interleaved(100, 200);
    for events in events.chunks(1_000) {
        scene.publish(events).await?;
    }
    let runs = Runs::default();
    let handler = noting(&runs, 0, |_| async { Ok(()) });
    let workers = scene.builder().on_raw("*", handler).start().await?;
    scene.succeeded(&runs, events.len()).await?;
    scene.finish(workers).await?;
    in_key_order(&runs.all())?;
    each_once(&runs.all(), &events)
}

fn spec(scene: &Scene<'_>) -> SubscribeSpec {
    SubscribeSpec::new(
        scene.group.clone(),
        vec![Pattern::exact(scene.topic.as_str())],
    )
}

/// A feed whose `next` is dropped again and again gives every record once, in order.
async fn a_dropped_next_loses_no_signal(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let (mut feed, _control) = scene.transport.subscribe(spec(&scene)).await?;
    let budget = Budget {
        events: 3,
        ..Budget::default()
    };
    let mut numbers = Vec::new();
    let mut published = 0;
    let reading = async {
        while numbers.len() < 60 {
            if published < 60 {
                scene.publish(&[("one".to_owned(), published)]).await?;
                published += 1;
            }
            let signal = match once(feed.next(budget)) {
                Some(signal) => signal?,
                None => tokio::select! {
                    biased;
                    () = tokio::task::yield_now() => continue,
                    signal = feed.next(budget) => signal?,
                },
            };
            if let Signal::Batch(batch) = signal {
                for record in batch.records {
                    numbers.push(number_of(&record.envelope)?);
                }
            }
        }
        Verdict::Ok(())
    };
    harness.within("60 records", reading).await??;
    check_eq!(numbers, (0..60).collect::<Vec<_>>(), "records");
    Ok(())
}

/// The same of a reader.
async fn a_dropped_read_loses_no_record(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let mut reader = scene
        .transport
        .read(ReadSpec {
            topics: vec![Pattern::exact(scene.topic.as_str())],
            start: Start::Earliest,
            until: Until::Forever,
        })
        .await?;
    let budget = Budget {
        events: 3,
        ..Budget::default()
    };
    let mut numbers = Vec::new();
    let mut published = 0;
    let reading = async {
        while numbers.len() < 60 {
            if published < 60 {
                scene.publish(&[("one".to_owned(), published)]).await?;
                published += 1;
            }
            let batch = match once(reader.next(budget)) {
                Some(batch) => batch?,
                None => tokio::select! {
                    biased;
                    () = tokio::task::yield_now() => continue,
                    batch = reader.next(budget) => batch?,
                },
            };
            let Some(batch) = batch else {
                return Err(Breach::new("a reading without an end ended"));
            };
            for record in batch.records {
                numbers.push(number_of(&record.envelope)?);
            }
        }
        Verdict::Ok(())
    };
    harness.within("60 records", reading).await??;
    check_eq!(numbers, (0..60).collect::<Vec<_>>(), "records");
    Ok(())
}

/// Commits that are dropped on their way may or may not be stored; a later one counts all the
/// same, and nothing goes back.
async fn a_dropped_commit_does_no_harm(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(1, 10)).await?;
    let transport = harness.connect().await?;
    let member = Member::join(harness, &transport, spec(&scene)).await?;
    let records = member.records(10).await?;
    let owned = member.checkpoint(&records[0].0)?;
    let up_to = |at: usize| {
        let mut checkpoint: Checkpoint = owned.clone();
        checkpoint.progress.frontier = Some(records[at].1.position);
        checkpoint
    };
    for at in 0..5 {
        drop(once(member.control.commit(vec![up_to(at)])));
    }
    member.commit_these(vec![up_to(7)]).await?;
    member.kill().await?;
    let next = Member::join(harness, &scene.transport, spec(&scene)).await?;
    let found = next
        .until("an assignment", |seen| {
            seen.iter().find_map(|seen| match seen {
                Seen::Assigned(checkpoint) => Some(checkpoint.progress.frontier),
                _ => None,
            })
        })
        .await?;
    check_eq!(found, Some(records[7].1.position), "the stored frontier");
    next.leave().await
}

async fn publisher(scene: &Scene<'_>) -> Verdict<AnyPublisher> {
    Ok(scene
        .transport
        .publisher(PublisherOptions::default())
        .await?)
}

/// Events whose receipts are dropped are stored all the same.
async fn a_dropped_receipt_cancels_nothing(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let publisher = publisher(&scene).await?;
    for number in 0..100 {
        let batch = vec![Outgoing::new(
            scene.topic.clone(),
            event("dropped", number)?,
        )];
        drop(publisher.enqueue(batch).await?);
    }
    let left = harness
        .within("a flush", publisher.flush(harness.deadline()))
        .await??;
    check!(left.is_empty(), "{} events have no outcome", left.len());
    let numbers = scene.records().await?;
    let numbers: Verdict<Vec<_>> = numbers
        .iter()
        .map(|(_, r)| number_of(&r.envelope))
        .collect();
    check_eq!(numbers?, (0..100).collect::<Vec<_>>(), "stored events");
    Ok(())
}

/// A publish that is dropped before it was accepted has sent nothing.
async fn a_dropped_enqueue_sends_nothing(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let publisher = publisher(&scene).await?;
    let batch = |number| {
        Verdict::Ok(vec![Outgoing::new(
            scene.topic.clone(),
            event("x", number)?,
        )])
    };
    drop(publisher.enqueue(batch(0)?));
    let sent: BTreeSet<u64> = match once(publisher.enqueue(batch(1)?)) {
        Some(receipt) => {
            harness.within("an outcome", receipt?).await?;
            [1, 2].into()
        }
        None => [2].into(),
    };
    for outcome in publisher.enqueue(batch(2)?).await?.await {
        check!(outcome.is_ok(), "{outcome:?}");
    }
    harness
        .within("a flush", publisher.flush(harness.deadline()))
        .await??;
    let found = scene.records().await?;
    let found: Verdict<BTreeSet<_>> = found.iter().map(|(_, r)| number_of(&r.envelope)).collect();
    check_eq!(found?, sent, "stored events");
    Ok(())
}
