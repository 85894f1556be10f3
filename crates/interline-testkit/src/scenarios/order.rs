//! Events of one key run one after the other, in order, whatever happens; other keys go on.

use std::sync::Arc;
use std::time::Duration;

use interline_reliability::{Fail, Retry};

use super::{scenario, two_members};
use crate::checker::{each_once, in_key_order, none_missing, one_at_a_time};
use crate::scene::{Run, Runs, Scene, What, a_moment, crash, interleaved, noting};
use crate::{Gate, Harness, Scenario, Verdict, check};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(key_order_in_16_lanes),
    scenario!(key_order_under_retry),
    scenario!(key_order_across_a_crash),
    scenario!(key_order_across_a_rebalance, two_members),
    scenario!(other_keys_go_on_while_one_is_held),
    scenario!(a_held_event_keeps_its_key_waiting),
    scenario!(a_limit_bounds_calls),
];

/// 16 lanes and handlers of random length: events of a key never overlap and keep their order.
async fn key_order_in_16_lanes(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let events = interleaved(24, 30);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |_| async {
        a_moment().await;
        Ok(())
    };
    let workers = scene
        .builder()
        .lanes(16)
        .on_raw("*", noting(&runs, 0, act))
        .start()
        .await?;
    scene.succeeded(&runs, events.len()).await?;
    scene.drain(workers).await?;
    let runs = runs.all();
    one_at_a_time(&runs)?;
    in_key_order(&runs)?;
    each_once(&runs, &events)?;
    check!(most_at_once(&runs) > 4, "nothing ran side by side");
    check!(
        most_at_once(&runs) <= 16,
        "{} runs in 16 lanes",
        most_at_once(&runs)
    );
    Ok(())
}

fn most_at_once(runs: &[Run]) -> usize {
    let mut running = 0;
    let counts = runs.iter().map(|run| {
        running = if run.what == What::Began {
            running + 1
        } else {
            running - 1_usize
        };
        running
    });
    counts.max().unwrap_or(0)
}

/// A failed event is tried again before the next one of its key begins.
async fn key_order_under_retry(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let events = interleaved(12, 20);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |run: Run| async move {
        a_moment().await;
        let failures = (run.number % 3) as u32;
        if run.attempt <= failures {
            Err("not yet".transient())
        } else {
            Ok(())
        }
    };
    let retry = Retry::exponential().max(4).base(Duration::from_millis(10));
    let group = scene.builder().lanes(16).retry(retry);
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    scene.succeeded(&runs, events.len()).await?;
    scene.drain(workers).await?;
    let runs = runs.all();
    one_at_a_time(&runs)?;
    in_key_order(&runs)?;
    each_once(&runs, &events)
}

/// A crash in the middle loses nothing and lets no event overtake an earlier one of its key.
async fn key_order_across_a_crash(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let events = interleaved(12, 40);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |_| async {
        a_moment().await;
        Ok(())
    };
    for member in 0..3 {
        let group = scene.other().await?.lanes(16);
        let workers = group
            .on_raw("*", noting(&runs, member, act))
            .start()
            .await?;
        scene
            .succeeded(&runs, (member + 1) * events.len() / 5)
            .await?;
        crash(harness, workers, &runs, member).await?;
    }
    let group = scene.other().await?.lanes(16);
    let workers = group.on_raw("*", noting(&runs, 3, act)).start().await?;
    scene.finish(workers).await?;
    let runs = runs.all();
    one_at_a_time(&runs)?;
    in_key_order(&runs)?;
    none_missing(&runs, &events)
}

/// Members that come and go in order hand every event over: each runs once, in order.
async fn key_order_across_a_rebalance(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 4).await?;
    let events = interleaved(16, 40);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |_| async {
        a_moment().await;
        Ok(())
    };
    let start = async |member| {
        let group = scene.other().await?.lanes(8);
        Verdict::Ok(
            group
                .on_raw("*", noting(&runs, member, act))
                .start()
                .await?,
        )
    };
    let first = start(0).await?;
    scene.succeeded(&runs, events.len() / 10).await?;
    let second = start(1).await?;
    harness
        .eventually("a share for the second member", || async {
            Ok(second.stats().partitions > 0 || runs.all().len() == 2 * events.len())
        })
        .await?;
    let done = runs.see(|all| all.iter().filter(|run| run.what == What::Succeeded).count());
    scene
        .succeeded(&runs, (done + events.len() / 5).min(events.len()))
        .await?;
    scene.drain(first).await?;
    scene.succeeded(&runs, events.len()).await?;
    scene.finish(second).await?;
    let runs = runs.all();
    one_at_a_time(&runs)?;
    in_key_order(&runs)?;
    each_once(&runs, &events)
}

/// While an event is held for its next attempt, events of other keys in its partition run.
async fn other_keys_go_on_while_one_is_held(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(10, 5);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let held = |run: &Run| run.key == "key-3" && run.number == 1;
    let act = move |run: Run| async move {
        if held(&run) && run.attempt == 1 {
            Err("later".transient())
        } else {
            Ok(())
        }
    };
    let group = scene.builder().retry(Retry::fixed(Duration::from_secs(3)));
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    scene.succeeded(&runs, events.len()).await?;
    scene.drain(workers).await?;
    let runs = runs.all();
    in_key_order(&runs)?;
    each_once(&runs, &events)?;
    let second = runs.iter().position(|run| held(run) && run.attempt == 2);
    let before = &runs[..second.unwrap_or(0)];
    let others = before
        .iter()
        .filter(|r| r.key != "key-3" && r.what == What::Succeeded);
    let others = others.count();
    check!(
        others == 45,
        "{others} of 45 events of other keys ran while one was held"
    );
    Ok(())
}

/// While an event is held, the next ones of its key wait, whatever else has time.
async fn a_held_event_keeps_its_key_waiting(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(1, 6);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |run: Run| async move {
        if run.number == 0 && run.attempt < 3 {
            Err("later".transient())
        } else {
            Ok(())
        }
    };
    let group = scene
        .builder()
        .retry(Retry::fixed(Duration::from_millis(300)));
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    scene.succeeded(&runs, events.len()).await?;
    scene.drain(workers).await?;
    in_key_order(&runs.all())?;
    each_once(&runs.all(), &events)
}

/// A handler with a limit of two calls never has three running.
async fn a_limit_bounds_calls(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let events = interleaved(20, 2);
    scene.publish(&events).await?;
    let (runs, gate) = (Runs::default(), Arc::new(Gate::shut()));
    let passing = Arc::clone(&gate);
    let act = move |_| {
        let gate = Arc::clone(&passing);
        async move {
            gate.pass().await;
            a_moment().await;
            Ok(())
        }
    };
    let group = scene
        .builder()
        .lanes(16)
        .on_raw("*", noting(&runs, 0, act))
        .limit(2);
    let workers = group.start().await?;
    harness
        .until("two runs", &runs, |all| (all.len() == 2).then_some(()))
        .await?;
    gate.open();
    scene.succeeded(&runs, events.len()).await?;
    scene.drain(workers).await?;
    let most = most_at_once(&runs.all());
    check!(most <= 2, "{most} calls at a time");
    each_once(&runs.all(), &events)
}
