//! The command on a real Apache Kafka, which `INTERLINE_KAFKA_URL` names.

#![allow(clippy::unwrap_used, reason = "a test that cannot run fails")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;

use common::{Ended, ended, interline, run, run_with, signal, until, webhooks};
use serde_json::Value;

fn url() -> String {
    std::env::var("INTERLINE_KAFKA_URL").expect("INTERLINE_KAFKA_URL names the broker")
}

/// The command with the broker's address in front of its other options.
fn on_kafka(args: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    all.extend(["--url".to_owned(), url()]);
    all
}

fn kafka(args: &[&str]) -> Ended {
    let args = on_kafka(args);
    run(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn kafka_with(args: &[&str], stdin: impl AsRef<[u8]>) -> Ended {
    let args = on_kafka(args);
    run_with(&args.iter().map(String::as_str).collect::<Vec<_>>(), stdin)
}

fn start(args: &[&str]) -> Child {
    let args = on_kafka(args);
    interline(&args.iter().map(String::as_str).collect::<Vec<_>>())
        .spawn()
        .unwrap()
}

/// A topic of this test alone, deleted with what belongs to it.
struct Topic(String);

impl Topic {
    fn new() -> Self {
        let name = format!("cli-{:016x}", fastrand::u64(..));
        kafka(&["topics", "create", &name, "--partitions", "3"]).done();
        Self(name)
    }

    fn publish(&self, events: usize, size: usize) {
        let lines: String = (0..events).map(|n| event(n, size)).collect();
        let told = kafka_with(&["publish", "--topic", &self.0, "--json"], lines).json();
        assert_eq!(told["published"], events);
    }

    fn lines(&self) -> Vec<String> {
        let told = kafka(&["consume", "--topic", &self.0, "--until", "end"]).done();
        let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    fn lag(&self, group: &str) -> u64 {
        let told = kafka(&["groups", "show", group, "--json"]).json();
        let partitions = told["partitions"].as_array().unwrap().clone();
        let own = partitions.iter().filter(|lag| lag["topic"] == *self.0);
        own.map(|lag| lag["lag"].as_u64().unwrap()).sum()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let told = kafka(&["topics", "list", "--json"]);
        let topics: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        for topic in topics.as_array().into_iter().flatten() {
            let name = topic["topic"].as_str().unwrap_or_default();
            if name.starts_with(&self.0) {
                kafka(&["topics", "delete", name, "--yes"]);
            }
        }
    }
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
    from.publish(300, 10);
    let consumed = kafka(&["consume", "--topic", &from.0, "--until", "end"]).done();
    kafka_with(&["publish", "--topic", &to.0], consumed).done();
    let lines = from.lines();
    assert_eq!(lines.len(), 300);
    assert_eq!(lines, to.lines());
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
    topic.publish(30, 1);
    let count = |args: &[&str]| {
        let fixed = ["consume", "--topic", &topic.0, "--until", "end"];
        kafka(&[&fixed[..], args].concat()).done().lines().count()
    };
    assert_eq!(count(&[]), 30);
    assert_eq!(count(&["--limit", "7"]), 7);
    assert_eq!(count(&["--from", "latest"]), 0);
    assert_eq!(count(&["--from", "2020-01-01T00:00:00Z"]), 30);
    let told = kafka(&["topics", "list", &topic.0, "--json"]).json();
    assert_eq!(told[0]["partitions"], 3);
    let lost = kafka(&["consume", "--topic", &topic.0, "--from", "0:999999"]);
    lost.refused(4, &["/0 holds 0 to", "not 1000000"]);
}

#[test]
fn a_group_settles_what_was_flushed_and_goes_on_behind_it() {
    let topic = Topic::new();
    topic.publish(100, 1);
    let member = |limit: &str| {
        let args = [
            "consume", "--topic", &topic.0, "--group", "g", "--limit", limit,
        ];
        kafka(&args)
            .done()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut lines = member("40");
    assert_eq!((lines.len(), topic.lag("g")), (40, 60));
    lines.extend(member("60"));
    lines.sort_unstable();
    assert_eq!(lines, topic.lines());
    assert_eq!(topic.lag("g"), 0);
}

#[test]
fn a_closed_pipe_settles_nothing_that_was_not_flushed() {
    let topic = Topic::new();
    // JSON lines of 20 kB each: a pipe holds three.
    let lines: String = (0..60).map(|n| event(n * 3, 20_000)).collect();
    kafka_with(&["publish", "--topic", &topic.0], lines).done();
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
    let rest = kafka(&[
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
    topic.publish(50, 1);
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
    topic.publish(20, 1);
    let group = format!("g-{}", topic.0);
    kafka(&[
        "consume", "--topic", &topic.0, "--group", &group, "--limit", "20",
    ])
    .done();
    let reset = [
        "groups", "reset", &group, "--topic", &topic.0, "--to", "earliest",
    ];
    kafka(&reset).refused(2, &["--yes"]);
    kafka(&[&reset[..], &["--yes"]].concat()).done();
    assert_eq!(topic.lag(&group), 20);
    assert!(
        kafka(&["groups", "list", "--topic", &topic.0])
            .done()
            .contains(&group)
    );
    kafka(&["groups", "delete", &group, "--yes"]).done();
    kafka(&["groups", "show", &group]).refused(4, &[&group]);
}

#[test]
fn the_demo_loses_nothing_on_a_broker_and_leaves_nothing_behind() {
    let mut urls = vec![url()];
    urls.extend(std::env::var("INTERLINE_KAFKA_TLS_URL"));
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

/// Webhooks shared by processes of which one is killed in the middle: dead letters, commands on
/// them, repair, redrive, and the account at the end.
#[test]
fn a_killed_consumer_loses_nothing_and_dead_letters_come_back() {
    let topic = Topic::new();
    let folder = tempfile::tempdir().unwrap();
    let (hooks, effects) = (folder.path().join("hooks"), folder.path().join("effects"));
    std::fs::write(&hooks, webhooks(400)).unwrap();
    let (hooks, file) = (hooks.to_str().unwrap(), effects.to_str().unwrap());
    let part = |more: &[&'static str]| {
        let fixed = ["demo", "--input", hooks, "--topic", &topic.0];
        [&fixed[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let args = |more| part(more);
    let call = |args: Vec<String>| kafka(&args.iter().map(String::as_str).collect::<Vec<_>>());
    call(args(&["--role", "publish"])).done();

    let consume = |more: &[&'static str]| {
        let mut args = part(&[&["--role", "consume", "--work", "3"], more].concat());
        args.extend(["--effects".to_owned(), file.to_owned()]);
        args
    };
    let first = consume(&[]);
    let mut first = start(&first.iter().map(String::as_str).collect::<Vec<_>>());
    let written = || std::fs::read_to_string(&effects).map_or(0, |text| text.lines().count());
    until("the first consumer works", || written() > 100);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(written() < 390, "it was killed in the middle");
    call(consume(&[])).done();

    let dlq = format!("{}.intake.dlq", topic.0);
    let letters = kafka(&["dead-letters", "list", &dlq, "--json"]).json();
    assert_eq!(letters.as_array().unwrap().len(), 3, "{letters}");
    let refused = ["--kind", "permanent"];
    let some = kafka(&[&["dead-letters", "list", &dlq, "--json"][..], &refused].concat()).json();
    assert_eq!(some.as_array().unwrap().len(), 1);
    assert_eq!(some[0]["cause"], "the sender is not on the list");
    let id = some[0]["id"].as_str().unwrap();
    let shown = kafka(&["dead-letters", "show", &dlq, id, "--json"]).json();
    assert_eq!(shown["event"]["id"], shown["event_id"]);
    kafka(&["dead-letters", "discard", &dlq]).refused(2, &["3 dead letters", "--yes"]);
    let dry = kafka(&["dead-letters", "redrive", &dlq, "--dry-run", "--json"]).json();
    assert_eq!(
        (dry["matched"].as_u64(), dry["redriven"].as_u64()),
        (Some(3), Some(0))
    );
    let done = kafka(&["dead-letters", "redrive", &dlq, "--rate", "50", "--json"]).json();
    assert_eq!(done["redriven"], 3);

    call(consume(&["--repaired"])).done();
    let check = run(&["demo", "--input", hooks, "--json", "--check", file]).json();
    assert_eq!(
        (check["handled"].as_u64(), check["lost"].as_u64()),
        (Some(400), Some(0))
    );
    assert_eq!(
        (check["out_of_order"].as_u64(), check["unknown"].as_u64()),
        (Some(0), Some(0))
    );
    let left = kafka(&["dead-letters", "list", &dlq, "--json"]).json();
    assert_eq!(left.as_array().unwrap().len(), 0);
}

#[test]
fn what_a_broker_refuses_is_told_in_one_line() {
    let absent = format!("absent-{:08x}", fastrand::u32(..));
    kafka(&["publish", "--topic", &absent]).refused(4, &[&absent, "interline topics create"]);
    let nobody = run(&[
        "topics",
        "list",
        "--url",
        "kafka://ada:s3cret@127.0.0.1:1?sasl=plain",
    ]);
    nobody.refused(3, &["127.0.0.1:1"]);
    assert!(!nobody.stderr.contains("s3cret"));
    if let Ok(tls) = std::env::var("INTERLINE_KAFKA_TLS_URL") {
        let (login, rest) = tls.split_once('@').unwrap();
        let (user, _) = login.rsplit_once(':').unwrap();
        let wrong = run(&["topics", "list", "--url", &format!("{user}:s3cret@{rest}")]);
        wrong.refused(5, &["password"]);
        assert!(!wrong.stderr.contains("s3cret"));
    }
}
