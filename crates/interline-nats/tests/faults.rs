//! What holds when the server dies. `INTERLINE_NATS_KILL` and `INTERLINE_NATS_START` are shell
//! commands that kill it at once and start it again on its data; the tests take turns.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "server/support.rs"]
#[allow(dead_code, reason = "the tests beside it use the rest")]
mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use interline_core::{
    AnyTransport, Committed, Outcome, Outgoing, Publisher, PublisherOptions, Start, State, Topic,
    Transport,
};
use support::{Member, connect, group, make, numbered, topic, within};

/// One server, one breaker.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn server(verb: &str) {
    let command = std::env::var(format!("INTERLINE_NATS_{verb}"))
        .expect("INTERLINE_NATS_KILL and INTERLINE_NATS_START say how to break the server");
    let run = move || Command::new("sh").arg("-c").arg(command).status();
    let status = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(status.success(), "{verb}: {status}");
}

/// The numbers in a topic, in order, with copies.
async fn content(transport: &AnyTransport, topic: &Topic) -> Vec<usize> {
    use interline_core::{Budget, Pattern, ReadSpec, Reader, Until};
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until: Until::End,
    };
    let mut reader = within(transport.read(spec)).await.unwrap();
    let mut numbers = Vec::new();
    while let Some(batch) = within(reader.next(Budget::default())).await.unwrap() {
        for record in batch.records {
            let text = record.envelope.payload().unwrap().to_vec();
            numbers.push(String::from_utf8(text).unwrap().parse().unwrap());
        }
    }
    numbers.sort_unstable();
    numbers
}

/// Publishes 10,000 events with the server killed after half of them, and started again at once
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
            server("KILL").await;
            if !outage {
                server("START").await;
            }
        }
    }
    for receipt in receipts {
        outcomes.extend(within(receipt).await);
    }
    if outage {
        server("START").await;
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_loses_and_doubles_nothing() {
    let _turn = TURN.lock().await;
    let transport = connect().await;
    let (topic, group) = (topic("crash"), group("crash"));
    make(&transport, &topic, 3).await;
    let mut member = Member::join(&transport, &topic, &group).await;
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
            Outcome::Duplicate { .. } => panic!("{number} was published once"),
        }
    }
    assert!(rejected > 0, "the outage was too short");
}

/// In an outage longer than the lease every member seems dead to the server. None takes the
/// others' partitions for that: all show themselves again first.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_the_lease_moves_nothing() {
    let _turn = TURN.lock().await;
    let transport = connect().await;
    let (topic, group) = (topic("long"), group("long"));
    make(&transport, &topic, 4).await;
    let publisher = support::publisher(&transport).await;
    support::publish(&publisher, &topic, numbered(0, 400, 40)).await;
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(Member::join(&connect().await, &topic, &group).await);
    }
    let mut shares = Vec::new();
    settle(&mut members, 400, &[2, 2]).await;
    for member in &mut members {
        let answers = member.commit().await;
        assert!(
            answers.iter().all(|a| *a == Committed::Applied),
            "{answers:?}"
        );
        shares.push(member.owned.keys().cloned().collect::<BTreeSet<_>>());
    }
    server("KILL").await;
    // The fault is the time that passes: two seconds more than a lease.
    let outage = tokio::time::timeout(Duration::from_secs(17), std::future::pending::<()>());
    assert!(outage.await.is_err());
    server("START").await;
    support::publish(&publisher, &topic, numbered(400, 800, 40)).await;
    settle(&mut members, 800, &[2, 2]).await;
    for (member, share) in members.iter().zip(&shares) {
        let now: BTreeSet<_> = member.owned.keys().cloned().collect();
        assert_eq!(now, *share, "partitions have moved");
    }
    let read: Vec<usize> = members
        .iter()
        .flat_map(|m| &m.read)
        .map(|(_, n)| *n)
        .collect();
    let distinct: BTreeSet<usize> = read.iter().copied().collect();
    assert_eq!(
        (distinct.len(), read.len()),
        (800, 800),
        "records, with copies"
    );
    for member in members {
        member.drain().await;
    }
}

/// Has every member take its signals until so many events were read and the shares are right.
async fn settle(members: &mut [Member], events: usize, shares: &[usize]) {
    within(async {
        loop {
            let owned: Vec<usize> = members.iter().map(|member| member.owned.len()).collect();
            let read: BTreeSet<usize> = members
                .iter()
                .flat_map(|member| member.read.iter().map(|(_, number)| *number))
                .collect();
            if read.len() >= events && owned == shares {
                return;
            }
            for member in &mut *members {
                // Whoever has nothing to say must not hold the others up.
                let _ = tokio::time::timeout(Duration::from_millis(20), member.step()).await;
            }
        }
    })
    .await;
}
