//! The server goes away and comes back.

use std::time::Duration;

use interline_core::{
    Budget, Feed, Outcome, Outgoing, Pattern, Publisher, PublisherOptions, ReadSpec, Recorded,
    Signal, Start, State, SubscribeSpec, Transport, Until,
};

use super::{scenario, server};
use crate::checker::{in_key_order, none_missing};
use crate::harness::Outage;
use crate::scene::{Runs, Scene, event, interleaved, key_of, noting, number_of};
use crate::{Breach, Harness, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(alone publishing_while_the_server_is_down, server),
    scenario!(alone a_restart_within_10_000_events, server),
    scenario!(alone a_feed_waits_through_an_outage, server),
    scenario!(alone the_state_tells_of_an_outage, server),
];

fn outage(harness: &Harness) -> Verdict<Outage> {
    let missing = "the transport declares a server, so the harness has to take it away";
    harness.outage.clone().ok_or_else(|| Breach::new(missing))
}

/// The records, as soon as the server gives them: right after a start it may still refuse.
async fn records_when_back(scene: &Scene<'_>) -> Verdict<Vec<(u32, Recorded)>> {
    let topics = vec![Pattern::exact(scene.topic.as_str())];
    let spec = || ReadSpec {
        topics: topics.clone(),
        start: Start::Earliest,
        until: Until::End,
    };
    let opens = || async {
        match scene.transport.read(spec()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_transient() => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    scene
        .harness
        .eventually("a reading after the outage", opens)
        .await?;
    scene.records().await
}

/// What is published while the server is down ends rejected or unknown, or is stored once it is
/// back: never said to be stored and lost.
async fn publishing_while_the_server_is_down(harness: &Harness) -> Verdict {
    let server = outage(harness)?;
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&[("before".to_owned(), 0)]).await?;
    let options = PublisherOptions {
        publish_timeout: Duration::from_secs(5),
        ..PublisherOptions::default()
    };
    let publisher = scene.transport.publisher(options).await?;
    // It has a connection that breaks.
    let first = Outgoing::new(scene.topic.clone(), event("first", 0)?);
    for outcome in publisher.enqueue(vec![first]).await?.await {
        check!(outcome.is_ok(), "{outcome:?}");
    }
    (server.kill)(()).await?;
    let mut waiting = Vec::new();
    for number in 0..50 {
        let batch = vec![Outgoing::new(scene.topic.clone(), event("down", number)?)];
        waiting.push(
            harness
                .within("room to publish", publisher.enqueue(batch))
                .await??,
        );
    }
    let all = futures_util::future::join_all(waiting);
    let outcomes = harness
        .within("outcomes while the server is down", all)
        .await?;
    (server.start)(()).await?;
    let records = records_when_back(&scene).await?;
    let stored = |number: usize| {
        let is = |record: &Recorded| {
            let same = number_of(&record.envelope).is_ok_and(|n| n == number as u64);
            key_of(&record.envelope) == "down" && same
        };
        records.iter().filter(|(_, record)| is(record)).count()
    };
    for (number, outcome) in outcomes.into_iter().flatten().enumerate() {
        let copies = stored(number);
        match outcome {
            Outcome::Rejected(error) => {
                check_eq!(copies, 0, "copies of an event that was rejected ({error})");
            }
            Outcome::Unknown(error) => check!(error.is_ambiguous(), "{error} is not ambiguous"),
            ok => check!(copies > 0, "event {number} is lost: {ok:?}"),
        }
    }
    scene.publish(&[("after".to_owned(), 0)]).await
}

/// The server is killed and started within 10,000 published and consumed events: nothing that was
/// said to be stored is lost, and everybody recovers alone.
async fn a_restart_within_10_000_events(harness: &Harness) -> Verdict {
    let server = outage(harness)?;
    let scene = Scene::new(harness, 3).await?;
    let runs = Runs::default();
    let handler = noting(&runs, 0, |_| async { Ok(()) });
    let workers = scene.builder().on_raw("*", handler).start().await?;
    let events = interleaved(100, 100);
    let options = PublisherOptions::default();
    let publisher = scene.transport.publisher(options).await?;
    let publishing = async {
        let mut stored = Vec::new();
        for (number, events) in events.chunks(100).enumerate() {
            let batch: Verdict<Vec<_>> = events.iter().map(|(key, n)| event(key, *n)).collect();
            let batch = batch?
                .into_iter()
                .map(|e| Outgoing::new(scene.topic.clone(), e));
            let receipt = publisher.enqueue(batch.collect()).await?;
            if number == 33 {
                (server.kill)(()).await?;
                (server.start)(()).await?;
            }
            let outcomes = harness.within("outcomes", receipt).await?;
            let ok = outcomes
                .iter()
                .zip(events)
                .filter(|(outcome, _)| outcome.is_ok());
            stored.extend(ok.map(|(_, event)| event.clone()));
        }
        Verdict::Ok(stored)
    };
    let stored = publishing.await?;
    check!(
        stored.len() * 10 > events.len() * 9,
        "only {} events were stored",
        stored.len()
    );
    let complete = || async { Ok(runs.see(|all| none_missing(all, &stored)).is_ok()) };
    let recovered = harness.eventually("every stored event", complete).await;
    runs.see(|all| none_missing(all, &stored))?;
    recovered?;
    scene.finish(workers).await?;
    if stored.len() == events.len() {
        in_key_order(&runs.all())?;
    }
    Ok(())
}

/// A feed does not end in an outage: it goes on with what comes after.
async fn a_feed_waits_through_an_outage(harness: &Harness) -> Verdict {
    let server = outage(harness)?;
    let scene = Scene::new(harness, 1).await?;
    let topics = vec![Pattern::exact(scene.topic.as_str())];
    let spec = SubscribeSpec::new(scene.group.clone(), topics);
    let (mut feed, _control) = scene.transport.subscribe(spec).await?;
    scene.publish(&[("before".to_owned(), 0)]).await?;
    let mut read = async |wanted: &str| {
        loop {
            let signal = harness
                .within("a signal", feed.next(Budget::default()))
                .await??;
            let Signal::Batch(batch) = signal else {
                continue;
            };
            if batch
                .records
                .iter()
                .any(|record| key_of(&record.envelope) == wanted)
            {
                return Verdict::Ok(());
            }
        }
    };
    read("before").await?;
    (server.kill)(()).await?;
    (server.start)(()).await?;
    scene.publish(&[("after".to_owned(), 0)]).await?;
    read("after").await
}

/// The state says that the server is gone, and that it is back.
async fn the_state_tells_of_an_outage(harness: &Harness) -> Verdict {
    let server = outage(harness)?;
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&[("before".to_owned(), 0)]).await?;
    check_eq!(
        scene.transport.state(),
        State::Connected,
        "the state before"
    );
    (server.kill)(()).await?;
    let gone = || async {
        Ok(matches!(
            scene.transport.state(),
            State::Reconnecting { .. }
        ))
    };
    let noticed = harness
        .eventually("the state to tell of the outage", gone)
        .await;
    (server.start)(()).await?;
    noticed?;
    let back = || async { Ok(scene.transport.state() == State::Connected) };
    harness
        .eventually("the state to tell of the return", back)
        .await?;
    scene.publish(&[("after".to_owned(), 0)]).await
}
