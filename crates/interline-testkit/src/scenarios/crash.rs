//! Crashes: nothing is lost, and what runs again is bounded.

use std::sync::Arc;
use std::time::Duration;

use interline_core::{AnyTransport, Committed};
use interline_reliability::{Fail, MemoryInbox, Policy};

use super::scenario;
use crate::checker::{attempts_of, each_once, in_key_order, none_missing, succeeded};
use crate::scene::{Run, Runs, Scene, crash, gated, interleaved, noting};
use crate::{
    CommitFault, Faults, Faulty, Gate, Harness, Scenario, Stored, Verdict, check, check_eq,
};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(an_effect_before_a_crash_runs_again_without_an_inbox),
    scenario!(an_effect_before_a_crash_runs_once_with_an_inbox),
    scenario!(an_inbox_recognises_an_event_published_twice),
    scenario!(what_was_running_in_a_crash_runs_again),
    scenario!(what_is_committed_does_not_run_again),
    scenario!(what_is_done_beyond_the_frontier_does_not_run_again),
    scenario!(a_checkpoint_never_outgrows_its_ranges),
    scenario!(commits_that_fail_lose_nothing),
    scenario!(a_stale_commit_gives_the_partition_up),
    scenario!(a_crash_loop_buries_its_cause),
];

/// A scene over a layer of faults, and the handle of those.
async fn faulty(harness: &Harness, partitions: u32) -> Verdict<(Scene<'_>, Faults)> {
    let (faulty, faults) = Faulty::over(harness.connect().await?);
    let scene = Scene::over(harness, AnyTransport::new(faulty), partitions).await?;
    Ok((scene, faults))
}

/// An effect whose checkpoint was not stored before the crash happens again: at least once.
async fn an_effect_before_a_crash_runs_again_without_an_inbox(harness: &Harness) -> Verdict {
    let (scene, faults) = faulty(harness, 1).await?;
    let events = interleaved(2, 3);
    let runs = Runs::default();
    let handler = |member| noting(&runs, member, |_| async { Ok(()) });
    let workers = scene.builder().on_raw("*", handler(0)).start().await?;
    warmed_up(&scene, &runs).await?;
    faults.commits().set(false);
    scene.publish(&events).await?;
    scene.succeeded(&runs, events.len() + 1).await?;
    crash(harness, workers, &runs, 0).await?;
    let workers = scene.other().await?.on_raw("*", handler(1)).start().await?;
    scene.succeeded(&runs, 2 * events.len() + 1).await?;
    scene.finish(workers).await?;
    let runs = after_warm_up(&runs);
    in_key_order(&runs)?;
    none_missing(&runs, &events)?;
    check_eq!(
        succeeded(&runs).count(),
        2 * events.len(),
        "effects of a crash before the checkpoint"
    );
    Ok(())
}

/// Handles a first event and stores that, so that nothing but what follows is undecided.
async fn warmed_up(scene: &Scene<'_>, runs: &Runs) -> Verdict {
    scene.publish(&[(WARM_UP.to_owned(), 0)]).await?;
    scene.succeeded(runs, 1).await?;
    scene.settled().await
}

const WARM_UP: &str = "warm-up";

/// The runs but for that of the first event.
fn after_warm_up(runs: &Runs) -> Vec<Run> {
    let mut runs = runs.all();
    runs.retain(|run| run.key != WARM_UP);
    runs
}

/// With an inbox the same crash leaves each effect once.
async fn an_effect_before_a_crash_runs_once_with_an_inbox(harness: &Harness) -> Verdict {
    let (scene, faults) = faulty(harness, 1).await?;
    let events = interleaved(2, 3);
    let (runs, inbox) = (Runs::default(), Arc::new(MemoryInbox::default()));
    let handler = |member| noting(&runs, member, |_| async { Ok(()) });
    let mut policy = Policy::default();
    policy.inbox = Some(inbox);
    let group = scene.builder().policy(policy.clone());
    let workers = group.on_raw("*", handler(0)).start().await?;
    warmed_up(&scene, &runs).await?;
    faults.commits().set(false);
    scene.publish(&events).await?;
    scene.succeeded(&runs, events.len() + 1).await?;
    crash(harness, workers, &runs, 0).await?;
    let group = scene.other().await?.policy(policy);
    let workers = group.on_raw("*", handler(1)).start().await?;
    scene.settled().await?;
    let report = scene.drain(workers).await?;
    check_eq!(
        report.stats.duplicates,
        events.len() as u64,
        "events that the inbox knew"
    );
    each_once(&after_warm_up(&runs), &events)
}

/// An event that is in the topic twice under one id has one effect with an inbox.
async fn an_inbox_recognises_an_event_published_twice(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let envelope = crate::scene::event("twice", 0)?;
    // On two topics it is two events to any transport, and one to the inbox.
    let second = crate::scene::made_topic(harness, &scene.transport, 1).await?;
    let topics = [scene.topic.clone(), second.clone()];
    let batch = topics.map(|topic| interline_core::Outgoing::new(topic, envelope.clone()));
    for outcome in scene.outcomes(batch.into()).await? {
        check!(outcome.is_ok(), "{outcome:?}");
    }
    let runs = Runs::default();
    let group = scene
        .builder()
        .topics(second.as_str())
        .dedupe(MemoryInbox::default());
    let handler = noting(&runs, 0, |run: Run| async move {
        // A failed attempt is no effect: it must not be taken for a duplicate.
        if run.attempt == 1 {
            Err("again".transient())
        } else {
            Ok(())
        }
    });
    let workers = group.on_raw("*", handler).start().await?;
    let known = || async { Ok(workers.stats().duplicates == 1) };
    harness.eventually("the duplicate", known).await?;
    scene.drain(workers).await?;
    each_once(&runs.all(), &[("twice".to_owned(), 0)])
}

/// Events whose handlers were running when the process died run again elsewhere, even if other
/// events behind them were settled and stored meanwhile.
async fn what_was_running_in_a_crash_runs_again(harness: &Harness) -> Verdict {
    let (scene, faults) = faulty(harness, 1).await?;
    let events = interleaved(12, 1);
    scene.publish(&events).await?;
    let (runs, gate) = (Runs::default(), Arc::new(Gate::shut()));
    let act = gated(&gate, |run| run.member == 0 && run.key != "key-11");
    let workers = scene.start(&runs, 0, act.clone()).await?;
    scene.succeeded(&runs, 1).await?;
    let last = scene
        .records()
        .await?
        .pop()
        .map(|(_, record)| record.position);
    harness
        .until(
            "a checkpoint of what was settled",
            faults.checkpoints(),
            |all| {
                let stored = |Stored {
                                  checkpoint, answer, ..
                              }: &Stored| {
                    let mine = checkpoint.partition.topic == scene.topic;
                    let done = last.is_some_and(|last| checkpoint.progress.is_done(last));
                    mine && done && *answer == Committed::Applied
                };
                all.iter().any(stored).then_some(())
            },
        )
        .await?;
    crash(harness, workers, &runs, 0).await?;
    let workers = scene.start_other(&runs, 1, act).await?;
    scene.finish(workers).await?;
    each_once(&runs.all(), &events)
}

/// What was settled before the last stored checkpoint does not run again after a crash.
async fn what_is_committed_does_not_run_again(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let (first, second) = (interleaved(8, 5), interleaved(8, 10).split_off(40));
    scene.publish(&first).await?;
    let runs = Runs::default();
    let handler = |member| noting(&runs, member, |_| async { Ok(()) });
    let workers = scene.other().await?.on_raw("*", handler(0)).start().await?;
    scene.succeeded(&runs, first.len()).await?;
    scene.settled().await?;
    crash(harness, workers, &runs, 0).await?;
    scene.publish(&second).await?;
    let workers = scene.other().await?.on_raw("*", handler(1)).start().await?;
    scene.succeeded(&runs, first.len() + second.len()).await?;
    scene.finish(workers).await?;
    each_once(&runs.all(), &interleaved(8, 10))
}

/// Events that were done beyond one that was not do not run again: the checkpoint names them.
async fn what_is_done_beyond_the_frontier_does_not_run_again(harness: &Harness) -> Verdict {
    let (scene, faults) = faulty(harness, 1).await?;
    let events = interleaved(10, 1);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let blocked = Arc::new(Gate::shut());
    let stays = |run: &Run| run.member == 0 && (run.key == "key-0" || run.key == "key-5");
    let act = gated(&blocked, stays);
    let workers = scene.start(&runs, 0, act.clone()).await?;
    scene.succeeded(&runs, 8).await?;
    let last = scene
        .records()
        .await?
        .pop()
        .map(|(_, record)| record.position);
    harness
        .until("a checkpoint with ranges", faults.checkpoints(), |all| {
            let whole = |Stored {
                             checkpoint, answer, ..
                         }: &Stored| {
                let reaches = checkpoint.progress.done.last().map(|range| range.last) == last;
                *answer == Committed::Applied && reaches
            };
            all.iter().any(whole).then_some(())
        })
        .await?;
    crash(harness, workers, &runs, 0).await?;
    let workers = scene.start_other(&runs, 1, act).await?;
    scene.finish(workers).await?;
    each_once(&runs.all(), &events)
}

/// Every second event is stuck, so that each of the others is a range of its own: no more are run
/// than the checkpoint has ranges for, and everything goes on once the stuck ones do.
async fn a_checkpoint_never_outgrows_its_ranges(harness: &Harness) -> Verdict {
    let (scene, faults) = faulty(harness, 1).await?;
    let most = scene.bus.capabilities().max_ranges;
    let events = interleaved(3 * most, 1);
    scene.publish(&events).await?;
    let (runs, stuck) = (Runs::default(), Arc::new(Gate::shut()));
    let stays = |run: &Run| run.key.ends_with(['0', '2', '4', '6', '8']);
    let handler = noting(&runs, 0, gated(&stuck, stays));
    let group = scene.builder().lanes(events.len());
    let workers = group.on_raw("*", handler).start().await?;
    let largest = |all: &[Stored]| {
        let ranges = all.iter().map(|s| s.checkpoint.progress.done.len());
        ranges.max().unwrap_or(0)
    };
    let many = |all: &[Stored]| (largest(all) >= most / 4).then_some(());
    let what = "a checkpoint with many ranges";
    harness.until(what, faults.checkpoints(), many).await?;
    stuck.open();
    scene.finish(workers).await?;
    each_once(&runs.all(), &events)?;
    let largest = largest(&faults.checkpoints().all());
    check!(largest <= most, "{largest} ranges where {most} fit");
    Ok(())
}

/// Commits that fail, in every way, are tried again: in the end everything is stored.
async fn commits_that_fail_lose_nothing(harness: &Harness) -> Verdict {
    let (scene, faults) = faulty(harness, 2).await?;
    let events = interleaved(6, 4);
    scene.publish(&events).await?;
    faults.fail_commits([
        CommitFault::NotNow,
        CommitFault::Error,
        CommitFault::StoredError,
        CommitFault::NotNow,
        CommitFault::NotNow,
        CommitFault::Error,
    ]);
    let runs = Runs::default();
    let handler = noting(&runs, 0, |_| async { Ok(()) });
    let workers = scene.builder().on_raw("*", handler).start().await?;
    scene.succeeded(&runs, events.len()).await?;
    scene.finish(workers).await?;
    each_once(&runs.all(), &events)
}

/// A commit that is stale makes the engine give the partition up: it stores nothing more for it.
async fn a_stale_commit_gives_the_partition_up(harness: &Harness) -> Verdict {
    let (scene, faults) = faulty(harness, 1).await?;
    let runs = Runs::default();
    let handler = noting(&runs, 0, |_| async { Ok(()) });
    let workers = scene.builder().on_raw("*", handler).start().await?;
    warmed_up(&scene, &runs).await?;
    faults.fail_commits([CommitFault::Stale]);
    scene.publish(&interleaved(1, 1)).await?;
    scene.succeeded(&runs, 2).await?;
    let stale = || async { Ok(workers.stats().stale > 0) };
    harness.eventually("the stale answer", stale).await?;
    workers.drain(harness.deadline()).await?;
    let checkpoints = faults.checkpoints().all();
    let at = checkpoints
        .iter()
        .position(|stored| stored.answer == Committed::Stale);
    let (stale, after) = checkpoints.split_at(at.unwrap_or(0) + 1);
    let of = stale.last().map(|stored| &stored.checkpoint.partition);
    let again = after
        .iter()
        .find(|stored| Some(&stored.checkpoint.partition) == of);
    check!(
        again.is_none(),
        "a checkpoint after the stale one: {again:?}"
    );
    Ok(())
}

/// An event that takes its process down again and again is buried unrun; everything else is
/// handled.
async fn a_crash_loop_buries_its_cause(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(3, 3);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let killer = |key: &str, number: u64| key == "key-1" && number == 1;
    let act = move |run: Run| async move {
        if killer(&run.key, run.number) {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let mut deaths = 0;
    for member in 0.. {
        check!(member < 20, "the event killed twenty processes");
        let group = scene.other().await?.timeout(Duration::from_secs(3_600));
        let workers = group
            .on_raw("*", noting(&runs, member, act))
            .start()
            .await?;
        let over = async {
            let kills = runs.until(|all| {
                let fatal = |run: &&Run| run.member == member && killer(&run.key, run.number);
                all.iter().find(fatal).map(|_| true)
            });
            let buried = harness.eventually("the burial", || async {
                Ok(workers.stats().dead_lettered > 0)
            });
            tokio::select! {
                kills = kills => Ok(kills),
                buried = buried => buried.map(|()| false),
            }
        };
        if !harness.within("a death or a burial", over).await?? {
            scene.finish(workers).await?;
            break;
        }
        deaths += 1;
        crash(harness, workers, &runs, member).await?;
    }
    let letters = scene.letters(1).await?;
    check_eq!(letters[0].cause.kind, "suspect", "kind of the dead letter");
    let runs = runs.all();
    let began = attempts_of(&runs, "key-1", 1).count();
    check_eq!(began, deaths, "runs of the event that kills");
    check!((3..=7).contains(&deaths), "{deaths} processes died");
    let good: Vec<_> = events
        .into_iter()
        .filter(|(key, n)| !killer(key, *n))
        .collect();
    none_missing(&runs, &good)
}
