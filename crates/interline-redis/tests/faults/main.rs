//! What holds when the server fails, forgets or is set wrongly. `INTERLINE_REDIS_KILL` and
//! `INTERLINE_REDIS_START` are shell commands that kill it at once and start it again on its data;
//! the tests take turns.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../server/support.rs"]
#[allow(dead_code, reason = "the tests beside it use the rest")]
mod support;

mod disk;
mod proxy;
mod tail;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use interline_core::{
    Committed, Durability, ErrorKind, Outcome, PublisherOptions, State, Transport as _,
};
use interline_redis::{Transport, native};
use support::{
    Member, Raw, batch, connect, connect_to, content, enqueued, group, make, outcomes, publish,
    publisher, refusal, topic, url_with, within,
};
use tokio::sync::MutexGuard;

/// One server, one breaker.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The server as it should be, whatever a test before did to it.
async fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().await;
    let raw = Raw::connect().await;
    raw.run("CONFIG", "SET maxmemory 0").await;
    raw.run("CONFIG", "SET maxmemory-policy noeviction").await;
    raw.run("CONFIG", "SET appendonly yes").await;
    raw.run("CONFIG", "SET appendfsync everysec").await;
    let rewritten = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
    persistence(&raw, &rewritten).await;
    turn
}

/// Waits until the server says all of this about its log.
async fn persistence(raw: &Raw, lines: &[&str]) {
    within(async {
        loop {
            let info = raw.run("INFO", "persistence").await.as_string().unwrap();
            let is = |line: &&str| info.lines().any(|known| known.trim() == *line);
            if lines.iter().all(is) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Kills the server once the system has what it answered. While its last write to the disk is under
/// way it holds that back, for up to two seconds, and a kill loses it: so no write may come between
/// the look and the kill.
async fn kill_when_written() {
    let raw = Raw::connect().await;
    raw.run("CLIENT", "PAUSE 60000 WRITE").await;
    let written = ["aof_pending_bio_fsync:0", "aof_buffer_length:0"];
    persistence(&raw, &written).await;
    server("KILL").await;
}

async fn server(verb: &str) {
    let command = std::env::var(format!("INTERLINE_REDIS_{verb}"))
        .expect("INTERLINE_REDIS_KILL and INTERLINE_REDIS_START say how to break the server");
    let run = move || Command::new("sh").arg("-c").arg(command).status();
    let status = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(status.success(), "{verb}: {status}");
}

/// A publisher that gives an event up after `publish_timeout`.
async fn publisher_of(transport: &Transport, publish_timeout: Duration) -> native::Publisher {
    let options = PublisherOptions {
        publish_timeout,
        ..PublisherOptions::default()
    };
    within(transport.publisher(options)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_and_double_nothing() {
    let _turn = turn().await;
    let transport = connect().await;
    let (topic, group) = (topic("storm"), group("storm"));
    make(&transport, &topic, 6).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    let publisher = publisher(&transport).await;
    let raw = Raw::connect().await;
    let mut receipts = Vec::new();
    for start in (0..30_000).step_by(100) {
        receipts.push(enqueued(&publisher, batch(&topic, start..start + 100)).await);
        if start % 1_000 == 500 {
            raw.run("CLIENT", "KILL TYPE normal SKIPME yes").await;
        }
        if receipts.len() > 4 {
            for outcome in within(receipts.remove(0)).await {
                assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
            }
        }
    }
    for receipt in receipts {
        assert!(within(receipt).await.iter().all(Outcome::is_ok));
    }
    // Each once, and those of a key in order.
    member.read_to(30_000).await;
    let mut keys: BTreeMap<usize, usize> = BTreeMap::new();
    for number in &member.read {
        let last = keys.insert(number % 20, *number);
        assert!(last < Some(*number), "{number} after {last:?}");
    }
    let mut stored = content(&transport, &topic).await.unwrap();
    stored.sort_unstable_by_key(|(_, number)| *number);
    let numbers: Vec<_> = stored.into_iter().map(|(_, number)| number).collect();
    assert_eq!(numbers, (0..30_000).collect::<Vec<_>>());
    member.settle().await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_its_scripts_gets_them_again() {
    let _turn = turn().await;
    let transport = connect().await;
    let (topic, group) = (topic("scripts"), group("scripts"));
    let raw = Raw::connect().await;
    publish(&transport, &topic, 0..10).await;
    raw.run("SCRIPT", "FLUSH SYNC").await;
    publish(&transport, &topic, 10..20).await;
    raw.run("SCRIPT", "FLUSH SYNC").await;
    let mut member = Member::join(&transport, &topic, &group).await;
    raw.run("SCRIPT", "FLUSH SYNC").await;
    member.read_to(20).await;
    raw.run("SCRIPT", "FLUSH SYNC").await;
    member.settle().await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_refuses_events_and_takes_checkpoints() {
    let _turn = turn().await;
    let transport = connect().await;
    let (topic, group) = (topic("full"), group("full"));
    make(&transport, &topic, 2).await;
    publish(&transport, &topic, 0..100).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    let impatient = publisher_of(&transport, Duration::from_millis(500)).await;
    let patient = publisher(&transport).await;
    let raw = Raw::connect().await;
    raw.run("CONFIG", "SET maxmemory 1").await;
    for outcome in outcomes(&impatient, batch(&topic, 100..110)).await {
        match outcome {
            Outcome::Rejected(error) => {
                assert!(
                    error.is_transient() && error.message().contains("OOM"),
                    "{error}"
                );
                assert!(
                    error.remedy_text().unwrap().contains("maxmemory"),
                    "{error}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let waiting = enqueued(&patient, batch(&topic, 110..120)).await;
    let answers = member.commit().await;
    assert!(
        answers.iter().all(|answer| *answer == Committed::Applied),
        "{answers:?}"
    );
    raw.run("CONFIG", "SET maxmemory 0").await;
    assert!(within(waiting).await.iter().all(Outcome::is_ok));
    member.read_to(110).await;
    member.close().await;
    assert_eq!(content(&transport, &topic).await.unwrap().len(), 110);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicting_server_is_refused_in_production() {
    let _turn = turn().await;
    let raw = Raw::connect().await;
    let topic = topic("evicting");
    let good = connect_to(&url_with("profile=production")).await;
    make(&good, &topic, 1).await;
    raw.run("CONFIG", "SET maxmemory-policy allkeys-lru").await;
    let refused = refusal(&url_with("profile=production")).await;
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.message().contains("allkeys-lru"), "{refused}");
    assert!(
        refused.remedy_text().unwrap().contains("noeviction"),
        "{refused}"
    );
    // In development it is said and accepted.
    connect_to(&url_with("profile=development")).await;
    // A connection that was made before notices within seconds.
    let publisher = publisher(&good).await;
    let error = within(async {
        loop {
            match outcomes(&publisher, batch(&topic, 0..1)).await.pop() {
                Some(Outcome::Rejected(error)) => return error,
                Some(Outcome::Stored { .. }) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    raw.run("CONFIG", "SET maxmemory-policy noeviction").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_log_is_refused_in_production() {
    let _turn = turn().await;
    let raw = Raw::connect().await;
    let level = |url: String| async move { connect_to(&url).await.capabilities().durability };
    assert_eq!(level(url_with("")).await, Durability::Process);
    raw.run("CONFIG", "SET appendfsync always").await;
    assert_eq!(level(url_with("min_durability=D2")).await, Durability::Disk);
    raw.run("CONFIG", "SET appendfsync no").await;
    let refused = refusal(&url_with("min_durability=D2")).await;
    assert!(
        refused
            .remedy_text()
            .unwrap()
            .contains("appendfsync always"),
        "{refused}"
    );
    raw.run("CONFIG", "SET appendonly no").await;
    assert_eq!(
        level(url_with("profile=development")).await,
        Durability::Memory
    );
    let refused = refusal(&url_with("profile=production")).await;
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(
        refused.remedy_text().unwrap().contains("appendonly yes"),
        "{refused}"
    );
    raw.run("CONFIG", "SET appendonly yes").await;
    let rewritten = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
    persistence(&raw, &rewritten).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_server_is_noticed() {
    let _turn = turn().await;
    let transport = connect().await;
    let (topic, group) = (topic("flush"), group("flush"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    outcomes(&publisher, batch(&topic, 0..10)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(10).await;
    Raw::connect().await.run("FLUSHALL", "SYNC").await;
    let end = member.end().await;
    assert_eq!(end.kind(), ErrorKind::PositionLost, "{end}");
    assert!(end.message().contains("lost all its data"), "{end}");
    // The next batch says so at most once, then the topic is made again.
    within(async {
        while !outcomes(&publisher, batch(&topic, 10..11)).await[0].is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_waited_for() {
    let _turn = turn().await;
    let transport = connect_to(&url_with("request_timeout=1s")).await;
    let (topic, group) = (topic("hang"), group("hang"));
    make(&transport, &topic, 2).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    publish(&transport, &topic, 0..10).await;
    member.read_to(10).await;
    let publisher = publisher(&transport).await;
    let raw = Raw::connect().await;
    raw.run("CLIENT", "PAUSE 4000 ALL").await;
    assert!(
        outcomes(&publisher, batch(&topic, 10..20))
            .await
            .iter()
            .all(Outcome::is_ok)
    );
    member.read_to(20).await;
    let mut numbers = member.read.clone();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert_eq!(content(&transport, &topic).await.unwrap().len(), 20);
    member.settle().await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_of_a_long_outage_is_true() {
    let _turn = turn().await;
    let transport = connect().await;
    let topic = topic("outage");
    make(&transport, &topic, 3).await;
    let publisher = publisher_of(&transport, Duration::from_secs(2)).await;
    let mut receipts = Vec::new();
    for start in (0..20_000).step_by(100) {
        receipts.push(enqueued(&publisher, batch(&topic, start..start + 100)).await);
        if start == 10_000 {
            kill_when_written().await;
        }
    }
    let mut all = Vec::new();
    for receipt in receipts {
        all.extend(within(receipt).await);
    }
    server("START").await;
    within(async {
        while transport.state() != State::Connected {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut copies = vec![0; 20_000];
    for (_, number) in content(&transport, &topic).await.unwrap() {
        copies[number] += 1;
    }
    let mut rejected = 0;
    for (number, outcome) in all.iter().enumerate() {
        match outcome {
            Outcome::Stored { .. } => assert_eq!(copies[number], 1, "{number}"),
            Outcome::Rejected(_) => {
                rejected += 1;
                assert_eq!(copies[number], 0, "{number}");
            }
            Outcome::Unknown(error) => {
                assert!(
                    error.is_ambiguous() && copies[number] <= 1,
                    "{number}: {error}"
                );
            }
            Outcome::Duplicate { .. } => panic!("{number} is a copy"),
        }
    }
    assert!(rejected > 5_000, "only {rejected} were rejected");
    publish(&transport, &topic, 20_000..20_010).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_loses_and_doubles_nothing() {
    let _turn = turn().await;
    let transport = connect().await;
    let (topic, group) = (topic("crash"), group("crash"));
    make(&transport, &topic, 3).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    let publisher = publisher(&transport).await;
    let mut receipts = Vec::new();
    for start in (0..20_000).step_by(100) {
        receipts.push(enqueued(&publisher, batch(&topic, start..start + 100)).await);
        if start % 5_000 == 2_500 {
            kill_when_written().await;
            server("START").await;
        }
    }
    for receipt in receipts {
        assert!(within(receipt).await.iter().all(Outcome::is_ok));
    }
    member.read_to(20_000).await;
    let mut numbers = std::mem::take(&mut member.read);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
    assert_eq!(content(&transport, &topic).await.unwrap().len(), 20_000);
    member.settle().await;
    member.close().await;
}
