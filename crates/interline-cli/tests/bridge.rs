//! An outbox: what transactions of PostgreSQL publish is bridged to another broker, while the
//! bridge is killed again and again.

#![allow(clippy::unwrap_used, reason = "a test that cannot run fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::time::Instant;

use common::member::{Member, id};
use common::{ended, interline, run, said, signal, until};
use tokio_postgres::NoTls;
use tokio_postgres::types::ToSql;

/// How many clients commit at the same time; each has keys of its own.
const WRITERS: usize = 2;
/// How many events one transaction publishes.
const BATCH: usize = 5;
/// Each so-manyth transaction is rolled back.
const ROLLED_BACK: usize = 6;

#[test]
fn an_outbox_survives_the_death_of_its_bridge() {
    println!("{}", carry("NATS", 5_000, 6));
}

/// Commits so many events in PostgreSQL and kills the bridge to another server so many times;
/// figures for people.
fn carry(to: &str, events: usize, kills: usize) -> String {
    let name = format!("cli-{:016x}", fastrand::u64(..));
    let from = said("POSTGRES", "URL").unwrap();
    let to = said(to, "URL").unwrap();
    for url in [&from, &to] {
        run(&["topics", "create", &name, "--partitions", "3", "--url", url]).done();
    }
    let read = ["consume", "--topic", &name, "--url", &to];
    let mut reader = Member::start(interline(&read));
    reader.read_on();
    let start = || start_bridge(&from, &to, &name);

    let since = Instant::now();
    let mut bridge = start();
    let committed = std::thread::scope(|scope| {
        let writers = (0..WRITERS).map(|writer| {
            let (from, name) = (&from, &name);
            scope.spawn(move || write(from, name, writer, events / WRITERS))
        });
        let writers: Vec<_> = writers.collect();
        for kill in 1..=kills {
            let enough = events * kill / (kills + 1);
            until("events arrive", || reader.ids().len() >= enough);
            bridge.kill().unwrap();
            bridge.wait().unwrap();
            bridge = start();
        }
        let committed = writers.into_iter().map(|one| one.join().unwrap());
        committed.collect::<Vec<_>>()
    });
    until("all is bridged", || lag(&from, &name) == 0);
    let took = since.elapsed();
    signal(&bridge, "-INT");
    ended(bridge.wait_with_output().unwrap()).done();
    reader.interrupt();

    let lines = run(&[&read[..], &["--until", "end"]].concat()).done();
    let found: Vec<String> = lines.lines().map(id).collect();
    let twice = account(&committed, &found);
    for url in [&from, &to] {
        run(&["topics", "delete", &name, "--yes", "--url", url]);
    }
    format!("{events} events and {kills} kills in {took:?}; {twice} came twice")
}

fn start_bridge(from: &str, to: &str, topic: &str) -> Child {
    let args = [
        "bridge",
        "--url",
        from,
        "--to",
        to,
        "--topic",
        topic,
        "--group",
        topic,
        "--instance",
        "one",
    ];
    interline(&args).spawn().unwrap()
}

fn lag(url: &str, topic: &str) -> u64 {
    let told = run(&["groups", "show", topic, "--json", "--url", url]).json();
    told["lag"].as_u64().unwrap()
}

/// Publishes in transactions until so many events are committed; their ids, in order.
#[tokio::main(flavor = "current_thread")]
async fn write(url: &str, topic: &str, writer: usize, events: usize) -> Vec<String> {
    // A setting of ours is none of the driver's.
    let url = url.split('?').next().unwrap();
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let publish = "select interline.publish($1, 'a.b', '{}', key => $2, id => $3)";
    let publish = client.prepare(publish).await.unwrap();
    let mut committed = Vec::new();
    for round in 1.. {
        let transaction = client.transaction().await.unwrap();
        let is_kept = round % ROLLED_BACK != 0;
        let fate = if is_kept { "kept" } else { "gone" };
        let mut ids = Vec::new();
        for n in 0..BATCH {
            let key = format!("{writer}-{}", (round + n) % 10);
            let id = format!("{key}-{fate}-{round}-{n}");
            let values: [&(dyn ToSql + Sync); 3] = [&topic, &key, &id];
            transaction.execute(&publish, &values).await.unwrap();
            ids.push(id);
        }
        if !is_kept {
            transaction.rollback().await.unwrap();
            continue;
        }
        transaction.commit().await.unwrap();
        committed.extend(ids);
        if committed.len() >= events {
            break;
        }
    }
    committed
}

/// What was committed is there, nothing else is, each key is in its order; how many came twice.
fn account(committed: &[Vec<String>], found: &[String]) -> usize {
    let distinct: BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct, committed.iter().flatten().collect());
    let mut seen = BTreeSet::new();
    let first = found.iter().filter(|id| seen.insert(*id));
    let all = committed.iter().flatten();
    assert_eq!(
        by_key(first),
        by_key(all),
        "each key in the order of its calls"
    );
    found.len() - distinct.len()
}

fn by_key<'a>(ids: impl Iterator<Item = &'a String>) -> BTreeMap<String, Vec<&'a String>> {
    let mut keys: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for id in ids {
        let key: Vec<&str> = id.split('-').take(2).collect();
        keys.entry(key.join("-")).or_default().push(id);
    }
    keys
}
