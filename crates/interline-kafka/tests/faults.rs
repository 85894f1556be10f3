//! What holds when the broker dies. `INTERLINE_KAFKA_KILL` and `INTERLINE_KAFKA_START` are shell
//! commands that kill the broker at once and start it again on its data; the tests take turns.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "broker/support.rs"]
#[allow(dead_code, reason = "the tests beside it use the rest")]
mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use interline_core::{
    AnyTransport, Committed, Outcome, Outgoing, Publisher, PublisherOptions, State, Topic,
    Transport,
};
use support::{
    Member, connect, connect_to, content, group, make, numbered, publish, publisher, topic,
    url_with, within,
};

/// One broker, one breaker.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn broker(verb: &str) {
    let command = std::env::var(format!("INTERLINE_KAFKA_{verb}"))
        .expect("INTERLINE_KAFKA_KILL and INTERLINE_KAFKA_START say how to break the broker");
    let run = move || Command::new("sh").arg("-c").arg(command).status();
    let status = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(status.success(), "{verb}: {status}");
}

/// Publishes 10,000 events with the broker killed after half of them, and started again at once
/// or, with `outage`, when the fate of all of them is known; the outcomes.
async fn publish_through_a_crash(
    transport: &AnyTransport,
    topic: &Topic,
    timeout: Duration,
    outage: bool,
) -> Vec<Outcome> {
    let options = PublisherOptions {
        publish_timeout: timeout,
        ..PublisherOptions::default()
    };
    let publisher = transport.publisher(options).await.unwrap();
    let (mut receipts, mut outcomes) = (Vec::new(), Vec::new());
    for start in (0..10_000).step_by(100) {
        let batch = numbered(start, start + 100, 40)
            .into_iter()
            .map(|envelope| Outgoing::new(topic.clone(), envelope))
            .collect();
        let receipt = within(publisher.enqueue(batch)).await.unwrap();
        if start == 0 {
            // At least one batch is stored before the crash.
            outcomes.extend(within(receipt).await);
            continue;
        }
        receipts.push(receipt);
        if start == 5_000 {
            broker("KILL").await;
            if !outage {
                broker("START").await;
            }
        }
    }
    for receipt in receipts {
        outcomes.extend(within(receipt).await);
    }
    if outage {
        broker("START").await;
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_broker_loses_and_doubles_nothing() {
    let _turn = TURN.lock().await;
    // The member is to outlast the broker's start, however long that takes here.
    let transport = connect_to(&url_with("session_timeout=60s&max_poll_interval=120s")).await;
    let (topic, group) = (topic("crash"), group("crash"));
    make(&transport, &topic, 3).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.own_to(3).await;
    let outcomes =
        publish_through_a_crash(&transport, &topic, Duration::from_secs(50), false).await;
    assert!(outcomes.iter().all(Outcome::is_ok));
    // The member goes on by itself, and its next checkpoint is applied.
    member.read_to(10_000).await;
    let all: BTreeSet<usize> = member.read.iter().map(|(_, number)| *number).collect();
    assert_eq!((all.len(), member.read.len()), (10_000, 10_000));
    loop {
        let answers = member.commit().await;
        if answers.iter().all(|answer| *answer == Committed::Applied) {
            break;
        }
        assert!(
            answers.iter().all(|a| *a != Committed::Stale),
            "{answers:?}"
        );
    }
    within(async {
        while transport.state() != State::Connected {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(
        content(&transport, &topic).await,
        (0..10_000).collect::<Vec<_>>()
    );
    member.drain().await;
}

/// An outage longer than the session evicts a member by its own clock, and the cluster, which
/// takes it for another one afterwards, waits for the first: it goes on all the same, from its
/// last checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_an_outage_evicts_goes_on() {
    let _turn = TURN.lock().await;
    let transport = connect_to(&url_with("session_timeout=6s&max_poll_interval=12s")).await;
    let (topic, group) = (topic("evicted"), group("evicted"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 100, 10)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    let answers = member.commit().await;
    assert!(answers.iter().all(|a| *a == Committed::Applied));
    broker("KILL").await;
    while member.lost < 2 {
        member.step().await;
    }
    broker("START").await;
    member.own_to(2).await;
    publish(&publisher, &topic, numbered(100, 200, 10)).await;
    member.read_to(200).await;
    let all: BTreeSet<usize> = member.read.iter().map(|(_, number)| *number).collect();
    assert_eq!((all.len(), member.read.len()), (200, 200));
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_of_a_long_outage_is_true() {
    let _turn = TURN.lock().await;
    let transport = connect().await;
    let topic = topic("outage");
    make(&transport, &topic, 3).await;
    let timeout = Duration::from_secs(2);
    let outcomes = publish_through_a_crash(&transport, &topic, timeout, true).await;
    within(async {
        while transport.state() != State::Connected {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let there: BTreeSet<usize> = content(&transport, &topic).await.into_iter().collect();
    let mut rejected = 0;
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Stored { .. } => assert!(there.contains(&number), "{number} is lost"),
            Outcome::Rejected(_) => {
                rejected += 1;
                assert!(!there.contains(&number), "{number} is there");
            }
            Outcome::Unknown(error) => assert!(!error.to_string().is_empty()),
            Outcome::Duplicate { .. } => panic!("Kafka tells of no duplicates"),
        }
    }
    assert!(rejected > 0, "the outage was too short");
}
