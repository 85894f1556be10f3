//! The command on a real server, which the environment names.

#![allow(clippy::unwrap_used, reason = "a test that cannot run fails")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};

use common::intake::Intake;
use common::{Topic, ended, remote, remote_with, run, server, signal, start, url};

fn publish(topic: &Topic, events: usize, size: usize) {
    let lines: String = (0..events).map(|n| event(n, size)).collect();
    let told = remote_with(&["publish", "--topic", &topic.0, "--json"], lines).json();
    assert_eq!(told["published"], events);
}

fn everything(topic: &Topic) -> Vec<String> {
    let told = remote(&["consume", "--topic", &topic.0, "--until", "end"]).done();
    let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Events as they come: JSON, bytes, no data; keys of text and bytes; headers twice and binary.
fn event(n: usize, size: usize) -> String {
    let data = match n % 3 {
        0 => format!(
            r#""datacontenttype":"application/json","data":{{"n": {n},  "x":"{}"}}"#,
            "x".repeat(size)
        ),
        1 => r#""data_base64":"AP8BAg==","datacontenttype":"image/png""#.to_owned(),
        _ => r#""dataschema":"urn:x:1""#.to_owned(),
    };
    let key = match n % 4 {
        0 => String::new(),
        1 => r#","interlinekey":"AP8=""#.to_owned(),
        _ => format!(r#","partitionkey":"k{}""#, n % 7),
    };
    let headers = match n % 2 {
        0 => String::new(),
        _ => r#","interlineheaders":"x-a=1&x-a=2&x-b=%00%FF""#.to_owned(),
    };
    format!(
        r#"{{"specversion":"1.0","id":"e-{n}","source":"/s","type":"a.b","subject":"ü","time":"2020-01-01T00:00:00.123+02:00","tenantid":"acme"{key}{headers},{data}}}"#
    ) + "\n"
}

#[test]
fn what_is_consumed_and_published_again_stays_the_same() {
    let (from, to) = (Topic::new(), Topic::new());
    publish(&from, 300, 10);
    let consumed = remote(&["consume", "--topic", &from.0, "--until", "end"]).done();
    remote_with(&["publish", "--topic", &to.0], consumed).done();
    let lines = everything(&from);
    assert_eq!(lines.len(), 300);
    assert_eq!(lines, everything(&to));
    assert!(
        lines
            .iter()
            .any(|line| line.contains("x-a=1&x-a=2&x-b=%00%FF"))
    );
    assert!(lines.iter().any(|line| line.contains(r#"{"n": 0,  "x""#)));
}

#[test]
fn a_reading_starts_and_ends_where_it_is_told() {
    let topic = Topic::new();
    publish(&topic, 30, 1);
    let count = |args: &[&str]| {
        let fixed = ["consume", "--topic", &topic.0, "--until", "end"];
        remote(&[&fixed[..], args].concat()).done().lines().count()
    };
    assert_eq!(count(&[]), 30);
    assert_eq!(count(&["--limit", "7"]), 7);
    assert_eq!(count(&["--from", "latest"]), 0);
    assert_eq!(count(&["--from", "2020-01-01T00:00:00Z"]), 30);
    let told = remote(&["topics", "list", &topic.0, "--json"]).json();
    assert_eq!(told[0]["partitions"], 3);
    let lost = remote(&["consume", "--topic", &topic.0, "--from", "0:999999"]);
    lost.refused(4, &["/0"]);
}

#[test]
fn a_group_settles_what_was_flushed_and_goes_on_behind_it() {
    let topic = Topic::new();
    publish(&topic, 100, 1);
    let member = |limit: &str| {
        let args = [
            "consume", "--topic", &topic.0, "--group", "g", "--limit", limit,
        ];
        remote(&args)
            .done()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut lines = member("40");
    assert_eq!((lines.len(), topic.lag("g")), (40, 60));
    lines.extend(member("60"));
    lines.sort_unstable();
    assert_eq!(lines, everything(&topic));
    assert_eq!(topic.lag("g"), 0);
}

#[test]
fn a_closed_pipe_settles_nothing_that_was_not_flushed() {
    let topic = Topic::new();
    // JSON lines of 20 kB each: a pipe holds three.
    let lines: String = (0..60).map(|n| event(n * 3, 20_000)).collect();
    remote_with(&["publish", "--topic", &topic.0], lines).done();
    let mut child = start(&["consume", "--topic", &topic.0, "--group", "g"]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    for _ in 0..3 {
        output.read_line(&mut seen).unwrap();
    }
    drop(output);
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!((ended.code, &*ended.stderr), (0, ""));
    let left = topic.lag("g");
    assert!((40..=60).contains(&left), "{left} are left");
    let rest = remote(&[
        "consume",
        "--topic",
        &topic.0,
        "--group",
        "g",
        "--limit",
        &left.to_string(),
    ]);
    assert_eq!(rest.done().lines().count() as u64, left);
    assert_eq!(topic.lag("g"), 0);
}

#[test]
fn an_interrupt_drains() {
    let topic = Topic::new();
    publish(&topic, 50, 1);
    let mut child = start(&["consume", "--topic", &topic.0, "--group", "g"]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    while lines.lines().count() < 50 {
        assert_ne!(output.read_line(&mut lines).unwrap(), 0);
    }
    signal(&child, "-INT");
    output.read_to_string(&mut lines).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!((lines.lines().count(), topic.lag("g")), (50, 0));
}

#[test]
fn a_group_is_moved_and_deleted() {
    let topic = Topic::new();
    publish(&topic, 20, 1);
    let group = format!("g-{}", topic.0);
    remote(&[
        "consume", "--topic", &topic.0, "--group", &group, "--limit", "20",
    ])
    .done();
    let reset = [
        "groups", "reset", &group, "--topic", &topic.0, "--to", "earliest",
    ];
    remote(&reset).refused(2, &["--yes"]);
    remote(&[&reset[..], &["--yes"]].concat()).done();
    assert_eq!(topic.lag(&group), 20);
    assert!(
        remote(&["groups", "list", "--topic", &topic.0])
            .done()
            .contains(&group)
    );
    remote(&["groups", "delete", &group, "--yes"]).done();
    remote(&["groups", "show", &group]).refused(4, &[&group]);
}

#[test]
fn the_demo_loses_nothing_on_a_broker_and_leaves_nothing_behind() {
    let mut urls = vec![url()];
    urls.extend(server("TLS_URL"));
    for url in urls {
        let report = run(&["demo", "--json", "--url", &url]).json();
        assert_eq!(
            (report["lost"].as_u64(), report["out_of_order"].as_u64()),
            (Some(0), Some(0))
        );
        assert_eq!(
            (report["handled"].as_u64(), report["redriven"].as_u64()),
            (Some(42), Some(3))
        );
    }
}

/// A consumer is killed in the middle and another one finishes: nothing is lost, and no more
/// happens twice than what had completed since the last checkpoint that was stored.
#[test]
fn a_killed_consumer_repeats_only_what_no_checkpoint_knew() {
    let intake = Intake::new();
    let mut first = intake.start_to_a_quarter(&[]);
    first.kill().unwrap();
    first.wait().unwrap();
    let (handled, dead, settled) = (intake.handled(), intake.dead(), intake.settled());
    assert!(
        handled < intake.published - 3,
        "it was killed in the middle"
    );
    assert!(settled > 0, "checkpoints had been stored");
    let bound = handled + dead - settled;

    intake.finish(&[]);

    let check: serde_json::Value = serde_json::from_str(&intake.check(&[]).stdout).unwrap();
    let duplicates = check["duplicates"].as_u64().unwrap();
    println!("killed after {handled} effects, {settled} of them checkpointed; {duplicates} twice");
    assert!(duplicates <= bound as u64, "{duplicates} of {bound}");
    assert_eq!(
        (&check["lost"], intake.dead()),
        (&3.into(), 3),
        "dead, not lost"
    );
    assert_eq!(
        (&check["out_of_order"], &check["unknown"]),
        (&0.into(), &0.into())
    );
}

/// Dead letters, commands on them, repair, redrive, and the account at the end.
#[test]
fn dead_letters_come_back_when_the_handler_is_repaired() {
    let intake = Intake::new();
    intake.finish(&[]);
    let dlq = intake.letters();
    assert_eq!(intake.dead(), 3);
    let refused = [
        "dead-letters",
        "list",
        &dlq,
        "--kind",
        "permanent",
        "--json",
    ];
    let some = remote(&refused).json();
    assert_eq!(some.as_array().unwrap().len(), 1);
    assert_eq!(some[0]["cause"], "the sender is not on the list");
    let id = some[0]["id"].as_str().unwrap();
    let shown = remote(&["dead-letters", "show", &dlq, id, "--json"]).json();
    assert_eq!(shown["event"]["id"], shown["event_id"]);
    remote(&["dead-letters", "discard", &dlq]).refused(2, &["3 dead letters", "--yes"]);
    let dry = remote(&["dead-letters", "redrive", &dlq, "--dry-run", "--json"]).json();
    assert_eq!(
        (dry["matched"].as_u64(), dry["redriven"].as_u64()),
        (Some(3), Some(0))
    );
    let done = remote(&["dead-letters", "redrive", &dlq, "--rate", "50", "--json"]).json();
    assert_eq!(done["redriven"], 3);

    intake.finish(&["--repaired"]);
    let check = intake.check(&[]).json();
    assert_eq!(
        (&check["handled"], &check["lost"]),
        (&intake.published.into(), &0.into())
    );
    assert_eq!(
        (&check["out_of_order"], &check["unknown"]),
        (&0.into(), &0.into())
    );
    assert_eq!(intake.dead(), 0);
}

#[test]
fn what_a_broker_refuses_is_told_in_one_line() {
    let absent = format!("absent-{:08x}", fastrand::u32(..));
    remote(&["publish", "--topic", &absent]).refused(4, &[&absent, "interline topics create"]);
    let nobody = run(&[
        "topics",
        "list",
        "--url",
        "kafka://ada:s3cret@127.0.0.1:1?sasl=plain",
    ]);
    nobody.refused(3, &["127.0.0.1:1"]);
    assert!(!nobody.stderr.contains("s3cret"));
    if let Some(tls) = server("TLS_URL") {
        let (login, rest) = tls.split_once('@').unwrap();
        let (user, _) = login.rsplit_once(':').unwrap();
        let wrong = run(&["topics", "list", "--url", &format!("{user}:s3cret@{rest}")]);
        wrong.refused(5, &["password"]);
        assert!(!wrong.stderr.contains("s3cret"));
    }
}
