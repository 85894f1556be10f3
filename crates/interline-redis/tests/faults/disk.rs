//! What an answer is worth when the server's disk is waited for.

use std::time::Duration;

use interline_core::{
    AnyTransport, Durability, Outcome, Outgoing, PublisherOptions, Topic, Transport as _,
};
use interline_redis::native;
use tokio::time::timeout;

use super::proxy::{Disk, Proxy};
use super::support::{
    Raw, any_publisher, batch, connect, connect_to, content, enqueued, event, make, outcomes,
    publisher, refusal, topic, url_with, within,
};
use super::{publisher_of, server, turn};

const DISK: &str = "min_durability=D2";

/// Whether the server can be asked to wait for its disk: from 7.2 on.
async fn can_wait(raw: &Raw) -> bool {
    let found = raw.run("COMMAND", "LIST FILTERBY PATTERN waitaof").await;
    found.array_len() == Some(1)
}

/// Whether the server can be asked to wait for its disk; one that cannot syncs before it answers
/// from here on.
async fn wait_or_sync(raw: &Raw) -> bool {
    let can_wait = can_wait(raw).await;
    if !can_wait {
        raw.run("CONFIG", "SET appendfsync always").await;
    }
    can_wait
}

/// How often the server was asked to wait for its disk.
async fn waits(raw: &Raw) -> usize {
    let stats = raw.run("INFO", "commandstats").await.as_string().unwrap();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_waitaof:calls="));
    line.map_or(0, |line| {
        line.split(',').next().unwrap().parse::<usize>().unwrap()
    })
}

fn level(outcome: &Outcome) -> Option<Durability> {
    match outcome {
        Outcome::Stored { durability, .. } => Some(*durability),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_waited_for_where_that_is_wanted() {
    let _turn = turn().await;
    let raw = Raw::connect().await;
    let plain = connect().await;
    let topic = topic("synced");
    make(&plain, &topic, 3).await;
    if !can_wait(&raw).await {
        let refused = refusal(&url_with(DISK)).await;
        let remedy = refused.remedy_text().unwrap();
        assert!(remedy.contains("appendfsync always") && remedy.contains("7.2"));
    }
    wait_or_sync(&raw).await;
    let transport = connect_to(&url_with(DISK)).await;
    let capabilities = transport.capabilities();
    assert_eq!(capabilities.durability, Durability::Disk);
    assert!(capabilities.durability_verified);
    let before = waits(&raw).await;
    let all = publisher(&transport).await;
    let mut receipts = Vec::new();
    for number in 0..500 {
        let one = vec![Outgoing::new(topic.clone(), event(number, 20))];
        receipts.push(enqueued(&all, one).await);
    }
    for receipt in receipts {
        assert_eq!(level(&within(receipt).await[0]), Some(Durability::Disk));
    }
    let waits = waits(&raw).await - before;
    assert!(waits < 50, "{waits} waits instead of one for many batches");
    assert_eq!(content(&plain, &topic).await.unwrap().len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_publisher_may_wait_for_the_disk_and_another_not() {
    let _turn = turn().await;
    let raw = Raw::connect().await;
    let always = !wait_or_sync(&raw).await;
    let transport = connect().await;
    let topic = topic("choice");
    make(&transport, &topic, 1).await;
    let options = PublisherOptions {
        min_durability: Some(Durability::Disk),
        ..PublisherOptions::default()
    };
    let patient = transport.publisher(options).await.unwrap();
    let stored = outcomes(&patient, batch(&topic, 0..10)).await;
    assert!(stored.iter().all(|o| level(o) == Some(Durability::Disk)));
    let before = waits(&raw).await;
    let hasty = any_publisher(&AnyTransport::new(transport)).await;
    let stored = outcomes(&hasty, batch(&topic, 10..20)).await;
    let answered = match always {
        true => Durability::Disk,
        false => Durability::Process,
    };
    assert!(
        stored
            .iter()
            .all(|outcome| level(outcome) == Some(answered))
    );
    assert_eq!(waits(&raw).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_waits_for_the_disk_begin_again() {
    let _turn = turn().await;
    let raw = Raw::connect().await;
    wait_or_sync(&raw).await;
    let transport = connect_to(&url_with(DISK)).await;
    let topic = topic("cut-waits");
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    for round in 0..10 {
        let numbers = round * 100..(round + 1) * 100;
        let receipt = enqueued(&publisher, batch(&topic, numbers)).await;
        raw.run("CLIENT", "KILL TYPE normal SKIPME yes").await;
        let stored = within(receipt).await;
        assert!(stored.iter().all(|o| level(o) == Some(Durability::Disk)));
    }
    assert_eq!(content(&transport, &topic).await.unwrap().len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_no_disk_in_time_is_unknown() {
    let _turn = turn().await;
    let raw = Raw::connect().await;
    let plain = connect().await;
    let topic = topic("unsynced");
    make(&plain, &topic, 1).await;
    if !can_wait(&raw).await {
        assert!(refusal(&url_with(DISK)).await.remedy_text().is_some());
        return;
    }
    let mut tried = 0;
    let cause = within(async {
        loop {
            raw.run("CONFIG", "SET appendfsync everysec").await;
            let transport = connect_to(&url_with(DISK)).await;
            let publisher = publisher_of(&transport, Duration::from_secs(1)).await;
            // From here on nothing is synced. Whoever asks for that now waits no more.
            raw.run("CONFIG", "SET appendfsync no").await;
            tried += 1;
            match outcomes(&publisher, batch(&topic, tried..tried + 1))
                .await
                .pop()
            {
                Some(Outcome::Unknown(cause)) => return cause,
                other => assert!(
                    other.as_ref().and_then(level) != Some(Durability::Disk),
                    "{other:?}"
                ),
            }
        }
    })
    .await;
    assert!(cause.is_ambiguous(), "{cause}");
    assert_eq!(content(&plain, &topic).await.unwrap().len(), tried);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_that_was_on_the_disk() {
    let _turn = turn().await;
    let raw = Raw::connect().await;
    let can_wait = wait_or_sync(&raw).await;
    let transport = connect_to(&url_with(DISK)).await;
    let topic = topic("disk-crash");
    make(&transport, &topic, 3).await;
    let publisher = publisher(&transport).await;
    let mut all = outcomes(&publisher, batch(&topic, 0..100)).await;
    let mut receipts = Vec::new();
    for start in (100..8_000).step_by(100) {
        let numbers = batch(&topic, start..start + 100);
        receipts.push(enqueued(&publisher, numbers).await);
        if start % 2_000 == 1_000 {
            // Killed amid writing: only what was told counts.
            server("KILL").await;
            server("START").await;
        }
    }
    for receipt in receipts {
        all.extend(within(receipt).await);
    }
    let mut copies = vec![0; 8_000];
    for (_, number) in content(&transport, &topic).await.unwrap() {
        copies[number] += 1;
    }
    let mut synced = 0;
    for (number, outcome) in all.iter().enumerate() {
        match level(outcome) {
            Some(Durability::Disk) => {
                synced += 1;
                assert_eq!(copies[number], 1, "{number}");
            }
            // A server that cannot be asked syncs every second again once it was started: it
            // gives less, says so and is refused.
            Some(_) => assert!(!can_wait && copies[number] <= 1, "{number}"),
            None if matches!(outcome, Outcome::Unknown(_)) => assert!(copies[number] <= 1),
            None => assert!(!can_wait && copies[number] == 0, "{outcome:?}"),
        }
    }
    assert!(synced >= 100, "only {synced} were synced");
}

/// A topic, a proxy before its server, and a publisher that goes through it.
async fn through_proxy(what: &str, patience: Duration) -> (Topic, Proxy, native::Publisher) {
    let (proxy, topic) = (Proxy::start().await, topic(what));
    let transport = connect_to(&proxy.url).await;
    assert_eq!(transport.capabilities().durability, Durability::Disk);
    make(&transport, &topic, 1).await;
    let publisher = publisher_of(&transport, patience).await;
    (topic, proxy, publisher)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_as_long_as_the_disk_does() {
    let _turn = turn().await;
    let (topic, mut proxy, publisher) = through_proxy("stuck", Duration::from_secs(60)).await;
    proxy.disk.send_replace(Disk::Stuck);
    let mut receipt = enqueued(&publisher, batch(&topic, 0..10)).await;
    let plain = connect().await;
    within(async { while content(&plain, &topic).await.unwrap().len() < 10 {} }).await;
    // Stored, and nobody is told so yet.
    let told = timeout(Duration::from_millis(200), &mut receipt).await;
    assert!(told.is_err(), "{told:?}");
    // One that says that it is not done is asked again.
    let asked = *proxy.asked.borrow();
    proxy.disk.send_replace(Disk::Slow);
    proxy.until_asked(asked + 2).await;
    proxy.disk.send_replace(Disk::Synced);
    let stored = within(receipt).await;
    assert!(stored.iter().all(|o| level(o) == Some(Durability::Disk)));
    assert_eq!(content(&plain, &topic).await.unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_not_believed_over_another_connection() {
    let _turn = turn().await;
    let (topic, mut proxy, publisher) = through_proxy("believed", Duration::from_secs(2)).await;
    proxy.disk.send_replace(Disk::Cut);
    let asked = *proxy.asked.borrow();
    let outcome = outcomes(&publisher, batch(&topic, 0..1)).await.remove(0);
    proxy.until_asked(asked + 1).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}
