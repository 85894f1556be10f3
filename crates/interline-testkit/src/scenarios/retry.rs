//! Attempts: how many, when, and what counts as one.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use interline_bus::{BatchOptions, Context, Handled, Item};
use interline_core::{Pattern, Topic};
use interline_reliability::{Fail, Policy, Retry};
use tokio::time::Instant;

use super::scenario;
use crate::checker::{attempts_of, each_once, in_key_order_but_for, one_at_a_time};
use crate::event::Noted;
use crate::scene::{Run, Runs, Scene, crash, interleaved, made_topic, noting, read_all};
use crate::{Harness, Journal, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(attempts_are_counted_and_never_early),
    scenario!(a_permanent_failure_is_not_retried),
    scenario!(a_handler_may_ask_for_a_delay),
    scenario!(a_long_delay_goes_through_the_return_topic),
    scenario!(a_panic_is_one_attempt),
    scenario!(a_timeout_is_one_attempt),
    scenario!(a_handler_that_never_ends_is_given_up),
    scenario!(attempts_survive_a_crash),
    scenario!(a_rerun_publishes_the_same_ids),
    scenario!(a_batch_holds_one_event_of_a_key),
    scenario!(a_delivery_dropped_unsettled_is_retried),
];

fn one() -> Vec<(String, u64)> {
    interleaved(1, 1)
}

/// Exactly as many attempts as the policy says, each at least the delay after the one before.
async fn attempts_are_counted_and_never_early(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&one()).await?;
    let runs = Runs::default();
    let base = Duration::from_millis(150);
    let retry = Retry::exponential().max(4).base(base).jitter(false);
    let act = |run: Run| async move { Err(format!("attempt {}", run.attempt).transient()) };
    let group = scene.builder().retry(retry);
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    let letters = scene.letters(1).await?;
    scene.drain(workers).await?;
    let runs = runs.all();
    let began: Vec<_> = attempts_of(&runs, "key-0", 0).collect();
    let numbers: Vec<_> = began.iter().map(|run| run.attempt).collect();
    check_eq!(numbers, [1, 2, 3, 4], "attempts");
    for (pair, made) in began.windows(2).zip(1..) {
        let waited = pair[1].at.duration_since(pair[0].at);
        let least = retry.delay(made, 1.0);
        check!(
            waited >= least,
            "attempt {} came after {waited:?}, not {least:?}",
            made + 1
        );
    }
    check_eq!(letters[0].cause.attempts, 4, "attempts of the dead letter");
    check_eq!(
        letters[0].cause.text,
        "attempt 4",
        "cause of the dead letter"
    );
    Ok(())
}

/// What cannot succeed becomes a dead letter after one attempt.
async fn a_permanent_failure_is_not_retried(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&one()).await?;
    let runs = Runs::default();
    let act = |_| async { Err("declined".permanent()) };
    let workers = scene.start(&runs, 0, act).await?;
    let letters = scene.letters(1).await?;
    scene.drain(workers).await?;
    check_eq!(attempts_of(&runs.all(), "key-0", 0).count(), 1, "attempts");
    check_eq!(letters[0].cause.kind, "permanent", "kind");
    check_eq!(letters[0].cause.text, "declined", "cause");
    Ok(())
}

/// The delay that a handler asks for is kept.
async fn a_handler_may_ask_for_a_delay(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&one()).await?;
    let runs = Runs::default();
    let delay = Duration::from_millis(1_500);
    let act = move |run: Run| async move {
        if run.attempt == 1 {
            Err("busy".retry_after(delay))
        } else {
            Ok(())
        }
    };
    let workers = scene.start(&runs, 0, act).await?;
    scene.succeeded(&runs, 1).await?;
    scene.drain(workers).await?;
    let runs = runs.all();
    let began: Vec<_> = attempts_of(&runs, "key-0", 0).map(|run| run.at).collect();
    check_eq!(began.len(), 2, "attempts");
    let waited = began[1].duration_since(began[0]);
    check!(waited >= delay, "the second attempt came after {waited:?}");
    Ok(())
}

/// A delay beyond the longest hold gives up the key's order: the event comes back through the
/// return topic, to its own group alone, with its attempts and not before its time.
async fn a_long_delay_goes_through_the_return_topic(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(1, 3);
    scene.publish(&events).await?;
    let (runs, others) = (Runs::default(), Runs::default());
    let delay = Duration::from_millis(1_500);
    let act = move |run: Run| async move {
        let late = run.number == 0 && run.attempt == 1;
        if late {
            Err("closed".retry_after(delay))
        } else {
            Ok(())
        }
    };
    let group = scene.builder().max_hold(Duration::from_millis(200));
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    let other = scene.bus.group(harness.fresh_group("other")?.as_str());
    let other = other.topics(scene.topic.as_str());
    let other = other
        .on_raw("*", noting(&others, 0, |_| async { Ok(()) }))
        .start()
        .await?;
    scene.succeeded(&runs, 3).await?;
    let report = scene.drain(workers).await?;
    scene.succeeded(&others, 3).await?;
    scene.drain(other).await?;
    check_eq!(report.stats.returned, 1, "returned");
    each_once(&others.all(), &events)?;
    let runs = runs.all();
    each_once(&runs, &events)?;
    in_key_order_but_for(&runs, &|_, number| number == 0)?;
    let began: Vec<_> = attempts_of(&runs, "key-0", 0).collect();
    check_eq!(began.len(), 2, "attempts");
    check_eq!(began[1].attempt, 2, "the number of the second attempt");
    let waited = began[1].at.duration_since(began[0].at);
    // The due time crosses the wire in whole milliseconds.
    check!(
        waited + Duration::from_millis(2) >= delay,
        "it came back after {waited:?}"
    );
    Ok(())
}

/// A handler that panics fails one attempt; the others of the group go on.
async fn a_panic_is_one_attempt(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let events = interleaved(5, 4);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |run: Run| async move {
        // Unwinds as a panic does, without the noise of the panic hook.
        if run.number == 1 && run.attempt == 1 {
            std::panic::resume_unwind(Box::new("boom"));
        }
        Ok(())
    };
    let group = scene
        .builder()
        .retry(Retry::fixed(Duration::from_millis(20)));
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    scene.succeeded(&runs, events.len()).await?;
    let report = scene.drain(workers).await?;
    check_eq!(report.stats.panicked, 5, "panics");
    check_eq!(report.stats.dead_lettered, 0, "dead letters");
    each_once(&runs.all(), &events)
}

/// An attempt beyond the timeout is dropped and counts as one; the next may succeed.
async fn a_timeout_is_one_attempt(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(3, 2);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |run: Run| async move {
        if run.key == "key-1" && run.attempt == 1 {
            pending::<()>().await;
        }
        Ok(())
    };
    let group = scene.builder().timeout(Duration::from_millis(300));
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    scene.succeeded(&runs, events.len()).await?;
    let report = scene.drain(workers).await?;
    check_eq!(report.stats.timed_out, 2, "timeouts");
    let runs = runs.all();
    one_at_a_time(&runs)?;
    each_once(&runs, &events)
}

/// An event whose handler never ends becomes a dead letter, and its key goes on.
async fn a_handler_that_never_ends_is_given_up(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(2, 3);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let stuck = |key: &str, number| key == "key-0" && number == 1;
    let act = move |run: Run| async move {
        if stuck(&run.key, run.number) {
            pending::<()>().await;
        }
        Ok(())
    };
    let retry = Retry::fixed(Duration::from_millis(50)).max(2);
    let group = scene
        .builder()
        .timeout(Duration::from_millis(200))
        .retry(retry);
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    let letters = scene.letters(1).await?;
    scene.succeeded(&runs, events.len() - 1).await?;
    scene.drain(workers).await?;
    check_eq!(letters[0].cause.kind, "timeout", "kind");
    check_eq!(letters[0].cause.attempts, 2, "attempts");
    in_key_order_but_for(&runs.all(), &stuck)
}

/// The attempts of an event that is being retried are stored: the next owner goes on counting.
async fn attempts_survive_a_crash(harness: &Harness) -> Verdict {
    let transport = harness.connect().await?;
    let (faulty, faults) = crate::Faulty::over(transport);
    let scene = Scene::over(harness, interline_core::AnyTransport::new(faulty), 1).await?;
    scene.publish(&one()).await?;
    let runs = Runs::default();
    let act = |run: Run| async move {
        if run.attempt < 3 {
            return Err("again".retry_after(Duration::from_millis(10)));
        }
        if run.member == 0 {
            Err("much later".retry_after(Duration::from_secs(50)))
        } else {
            Ok(())
        }
    };
    let workers = scene.start(&runs, 0, act).await?;
    harness
        .until(
            "a checkpoint with the attempts",
            faults.checkpoints(),
            |stored| {
                let tried = |stored: &crate::Stored| {
                    stored
                        .checkpoint
                        .progress
                        .attempts
                        .iter()
                        .any(|(_, made)| *made == 3)
                };
                stored.iter().any(tried).then_some(())
            },
        )
        .await?;
    crash(harness, workers, &runs, 0).await?;
    let next = scene.start_other(&runs, 1, act).await?;
    scene.succeeded(&runs, 1).await?;
    scene.drain(next).await?;
    let runs = runs.all();
    let again = attempts_of(&runs, "key-0", 0).find(|run| run.member == 1);
    check_eq!(
        again.map(|run| run.attempt),
        Some(4),
        "the next owner's first attempt"
    );
    Ok(())
}

/// What a handler publishes has the same id in every attempt, and names its cause.
async fn a_rerun_publishes_the_same_ids(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let target = made_topic(harness, &scene.transport, 1).await?;
    scene.publish(&one()).await?;
    let to = target.clone();
    let handler = move |context: Context| {
        let to = to.clone();
        async move {
            for number in 0..2 {
                let noted = Noted {
                    key: "child".to_owned(),
                    number,
                };
                let _stored = context.publish(noted).topic(to.clone()).await?;
            }
            if context.attempt() == 1 {
                Err("after publishing".transient())
            } else {
                Ok(())
            }
        }
    };
    let workers = scene.builder().on_raw("*", handler).start().await?;
    scene.finish(workers).await?;
    let parent = scene.records().await?.remove(0).1.envelope;
    let children = read_all(harness, &scene.transport, &target).await?;
    let mut ids: Vec<_> = children
        .iter()
        .map(|(_, child)| child.envelope.id().clone())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    check_eq!(ids.len(), 2, "different ids of two published events");
    for (_, child) in children {
        let cause = child.envelope.causation_id().map(str::to_owned);
        check_eq!(cause, Some(parent.id().to_string()), "the cause");
    }
    Ok(())
}

/// A batch handler never has two events of a key in one batch, and each event its own outcome.
async fn a_batch_holds_one_event_of_a_key(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events: Vec<_> = (0..40_u32)
        .map(|n| Noted {
            key: format!("key-{}", n % 8),
            number: n / 8,
        })
        .collect();
    for noted in &events {
        let _stored = scene
            .bus
            .publish(noted.clone())
            .topic(scene.topic.clone())
            .await?;
    }
    let handled: Arc<Journal<Vec<Noted>>> = Arc::default();
    let journal = Arc::clone(&handled);
    let handler = move |batch: Vec<Item<Noted>>| {
        let retried = |item: &Item<Noted>| item.event.number == 2 && item.context.attempt() == 1;
        let outcomes = batch.iter().map(|item| match retried(item) {
            true => Err("again".transient()),
            false => Ok(()),
        });
        let outcomes: Vec<Handled> = outcomes.collect();
        let done = batch.into_iter().filter(|item| !retried(item));
        journal.note(done.map(|item| item.event).collect());
        async move { outcomes }
    };
    let options = BatchOptions {
        max_size: 5,
        max_wait: Duration::from_millis(20),
    };
    let group = scene
        .builder()
        .retry(Retry::fixed(Duration::from_millis(10)));
    let workers = group.on_batch(options, handler).start().await?;
    scene.finish(workers).await?;
    let batches = handled.all();
    let mut next = std::collections::BTreeMap::<String, u32>::new();
    for batch in &batches {
        check!(batch.len() <= 5, "a batch of {}", batch.len());
        for noted in batch {
            let expected = next.entry(noted.key.clone()).or_default();
            check_eq!(noted.number, *expected, "the next event of {}", noted.key);
            *expected += 1;
        }
        let mut keys: Vec<_> = batch.iter().map(|noted| &noted.key).collect();
        keys.sort_unstable();
        keys.dedup();
        check_eq!(keys.len(), batch.len(), "different keys of a batch");
    }
    check_eq!(
        batches.iter().map(Vec::len).sum::<usize>(),
        events.len(),
        "events"
    );
    check!(
        batches.iter().any(|batch| batch.len() > 1),
        "every batch held one event"
    );
    Ok(())
}

/// A delivery of the raw layer that is dropped unsettled is tried again.
async fn a_delivery_dropped_unsettled_is_retried(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&one()).await?;
    let group = scene.builder().policy(quick());
    let (workers, mut deliveries) = group.deliveries().await?;
    let begun = Instant::now();
    for attempt in 1..=3 {
        let delivery = harness.within("a delivery", deliveries.next()).await?;
        let Some(delivery) = delivery else {
            check!(false, "the deliveries ended after {:?}", begun.elapsed());
            break;
        };
        check_eq!(delivery.attempt(), attempt, "attempt");
        match attempt {
            1 => drop(delivery),
            2 => delivery.fail("said no".transient()),
            _ => delivery.ack(),
        }
    }
    scene.finish(workers).await?;
    let closed = harness
        .within("the end of deliveries", deliveries.next())
        .await?;
    check!(closed.is_none(), "a delivery after the drain");
    let dlq: Topic = scene.topic.dlq(&scene.group);
    let pattern = Pattern::exact(dlq.as_str());
    let mut letters = scene.bus.replay(pattern).until_end().open().await?;
    check!(
        letters.next().await?.is_none(),
        "a dead letter of an event that succeeded"
    );
    Ok(())
}

fn quick() -> Policy {
    let mut policy = Policy::default();
    policy.retry = Retry::fixed(Duration::from_millis(20));
    policy
}
