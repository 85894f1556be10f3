//! What takes long, side by side: a member that is stopped, and a backlog.

#![allow(clippy::unwrap_used, reason = "a test that cannot run fails")]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::member::Member;
use common::{Topic, interline, remote_with, signal, until, url};

/// Events with these ids and so many bytes of data, a key each.
fn events(ids: impl Iterator<Item = String>, size: usize) -> String {
    let data = "x".repeat(size);
    let event = |id: String| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"a.b","partitionkey":"{id}","data":"{data}"}}"#
        ) + "\n"
    };
    ids.map(event).collect()
}

fn publish(topic: &Topic, lines: String) {
    remote_with(&["publish", "--topic", &topic.0], lines).done();
}

/// How long a partition of a dead member may be without an owner that works: the lease and a tick,
/// or Kafka's session and a rebalance.
const BOUND: Duration = Duration::from_secs(16);

/// What a slow machine adds: two processes look at the server once a second, and so does the test.
const SLACK: Duration = Duration::from_secs(20);

/// The server, for members that Kafka declares dead as soon as other transports do, or earlier.
fn members_url() -> String {
    let url = url();
    match url.starts_with("kafka") {
        true => format!("{url}?session_timeout=10s"),
        false => url,
    }
}

/// The first of two members is stopped with events in its hands; the other one takes its
/// partitions over. When it goes on it notices, what it settles too late changes nothing, and it
/// gets a share again.
#[test]
fn a_stopped_process_is_replaced_and_comes_back() {
    let (topic, url) = (Topic::new(), members_url());
    let group = format!("g-{}", topic.0);
    let start = || {
        let args = ["consume", "-v", "--topic", &topic.0, "--group", &group];
        Member::start(interline(&[&args[..], &["--url", &url]].concat()))
    };
    let owners = || topic.owners(&group).unwrap_or_default();
    let mut stopped = start();
    until("one owns all", || owners().len() == 1);
    let first = owners();
    let mut other = start();
    other.read_on();
    until("two share the topic", || owners().len() == 2);

    // Lines of 20 kB, of which a pipe holds three: it has events that it cannot settle.
    publish(&topic, events((0..60).map(|n| format!("a-{n}")), 20_000));
    until("both have begun", || {
        !stopped.ids().is_empty() && !other.ids().is_empty()
    });
    signal(&stopped.child, "-STOP");
    let since = Instant::now();
    until("the other owns all", || {
        owners().len() == 1 && owners().is_disjoint(&first)
    });
    let took = since.elapsed();
    until("the other has settled all", || topic.lag(&group) == 0);
    println!(
        "taken over after {took:?}, settled after {:?}",
        since.elapsed()
    );
    assert!(took < BOUND + SLACK, "{took:?}");

    signal(&stopped.child, "-CONT");
    stopped.read_on();
    until("it notices", || stopped.said("partitions are lost"));
    until("it is a member again", || {
        assert_eq!(topic.lag(&group), 0, "progress went back");
        owners().len() == 2
    });
    publish(&topic, events((0..60).map(|n| format!("b-{n}")), 20));
    until("both settle their share", || topic.lag(&group) == 0);

    let (late, other) = (stopped.interrupt(), other.interrupt());
    let all: BTreeSet<_> = late.iter().chain(&other).collect();
    assert_eq!(all.len(), 120, "nothing is lost");
    let twice = late.len() + other.len() - all.len();
    let again = |ids: &[String]| ids.iter().filter(|id| id.starts_with("b-")).count();
    println!(
        "{} came to the stopped one, {twice} of them twice",
        late.len()
    );
    assert_eq!(again(&late) + again(&other), 60, "none of them twice");
    assert!(again(&late) > 0, "it got a share");
    assert_eq!(other.iter().collect::<BTreeSet<_>>().len(), other.len());
}

/// How much more memory a consumer may take for a hundred times the backlog: the window of a
/// partition and what is read ahead of it. The events would take twice that.
const MORE: u64 = 40 << 20;

/// A consumer that comes late to a long backlog takes no more memory than what it works on, the
/// lag is told as it is, and every event comes once.
#[test]
fn a_backlog_is_read_in_bounded_memory() {
    let (topic, url) = (Topic::with("1"), url());
    let group = format!("g-{}", topic.0);
    let publish = |name: &str, events: usize| {
        let ids = (0..events).map(|n| format!("{name}-{n}"));
        let (lines, since) = (self::events(ids, 512), Instant::now());
        publish(&topic, lines);
        println!("{events} published in {:?}", since.elapsed());
    };
    let consume = |events: usize| {
        let args = ["consume", "--topic", &topic.0, "--group", &group];
        let since = Instant::now();
        let mut member = Member::start(interline(&[&args[..], &["--url", &url]].concat()));
        member.read_on();
        let mut lag = events as u64;
        for quarter in 1..=4 {
            until("it reads", || member.ids().len() >= events * quarter / 4);
            let before = std::mem::replace(&mut lag, topic.lag(&group));
            assert!(lag <= before, "{lag} after {before}");
        }
        until("it settles", || topic.lag(&group) == 0);
        let (took, peak) = (since.elapsed(), member.peak_memory());
        println!("{events} consumed in {took:?} with {} kB", peak / 1_024);
        (peak, member.interrupt())
    };

    publish("a", 1_000);
    let (few, ids) = consume(1_000);
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>().len(), 1_000);
    publish("b", 100_000);
    assert_eq!(topic.lag(&group), 100_000);
    let (many, ids) = consume(100_000);
    assert_eq!(ids.len(), 100_000);
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>().len(), 100_000);
    assert!(many < few + MORE, "{many} bytes after {few}");
}
