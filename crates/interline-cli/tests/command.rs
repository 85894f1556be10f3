//! The command without any server.

#![allow(clippy::unwrap_used, reason = "a test that cannot run fails")]

mod common;

use std::io::Write as _;

use common::{Ended, interline, run, run_with, webhooks};

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn the_demo_loses_nothing_and_says_so_to_machines() {
    let report = run(&["demo", "--json"]).json();
    let names = [
        "published",
        "handled",
        "retried",
        "dead_lettered",
        "redriven",
        "duplicates",
        "lost",
        "rate",
        "p50_ms",
        "p99_ms",
    ];
    for name in names {
        assert!(report[name].is_number(), "{name} in {report}");
    }
    assert_eq!(report["published"], 42);
    assert_eq!(report["handled"], 42);
    assert_eq!(report["dead_lettered"], 3);
    assert_eq!(report["redriven"], 3);
    for none in ["duplicates", "lost", "out_of_order"] {
        assert_eq!(report[none], 0, "{none} in {report}");
    }
}

#[test]
fn the_demo_shows_what_becomes_of_failures() {
    let told = run(&["demo"]).done();
    for text in [
        "the index is busy; handled at attempt 2",
        "a handler panics on purpose; handled at attempt 2",
        "permanent: the sender is not on the list; attempts: 1",
        "transient: the rules know no such label; attempts: 3",
        "3 dead letters go back through",
    ] {
        assert!(told.contains(text), "no {text:?} in {told}");
    }
    let lost = told.lines().find(|line| line.starts_with("lost")).unwrap();
    assert_eq!(lost.split_whitespace().last(), Some("0"));
}

#[test]
fn the_demo_takes_webhooks_from_a_file() {
    let file = file(&webhooks(60));
    let report = run(&["demo", "--json", "--copies", "5", "--input", path(&file)]).json();
    assert_eq!(report["handled"], 300);
    assert_eq!(report["lost"], 0);
    let calm = run(&["demo", "--json", "--no-faults", "--input", path(&file)]).json();
    assert_eq!(
        (calm["handled"].as_u64(), calm["retried"].as_u64()),
        (Some(60), Some(0))
    );
}

#[test]
fn the_demo_names_the_line_that_is_no_webhook() {
    let file = file(&(webhooks(2) + "{\"event\": \"s3cret\"\n"));
    let ended = run(&["demo", "--input", path(&file)]);
    ended.refused(6, &["line 3: no webhook", "write a JSON object"]);
    assert!(!ended.stderr.contains("s3cret"));
    run(&["demo", "--input", "/no/such/file"]).refused(4, &["/no/such/file"]);
}

#[test]
fn the_check_finds_what_is_lost_doubled_out_of_order_or_foreign() {
    let hooks = file(&webhooks(12));
    let check = |effects: &str| {
        let effects = file(effects);
        let args = [
            "demo",
            "--no-faults",
            "--json",
            "--input",
            path(&hooks),
            "--check",
            path(&effects),
        ];
        let Ended { code, stdout, .. } = run(&args);
        let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let count = |name: &str| found[name].as_u64().unwrap();
        (
            code,
            ["lost", "duplicates", "out_of_order", "unknown"].map(count),
        )
    };
    assert_eq!(check(""), (1, [12, 0, 0, 0]));
    let foreign = "{\"id\":\"0-x\",\"key\":null,\"sequence\":0}\n";
    assert_eq!(check(foreign), (1, [12, 0, 0, 1]));
    let missing = run(&["demo", "--check", "/no/such/file"]);
    missing.refused(4, &["/no/such/file"]);
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]).done();
        assert!(script.contains("dead-letters"), "{shell}");
    }
}

#[test]
fn a_wrong_command_line_is_one_line_without_secrets() {
    for (args, texts) in [
        (&["frobnicate"][..], &["frobnicate", "--help"][..]),
        (&["publish", "--topic", "x"], &["--url", "INTERLINE_URL"]),
        (
            &["publish", "--topc", "x"],
            &["--topc", "similar", "--topic"],
        ),
        (
            &["publish", "kafka://ada:s3cret@h", "--topic", "x"],
            &["***@h"],
        ),
        (
            &["publish", "--url", "memory://", "--topic", "a b"],
            &["a b", "A-Z a-z 0-9"],
        ),
        (
            &["publish", "--url", "memory://", "--topic", "a.g.dlq"],
            &["reserved"],
        ),
        (
            &[
                "publish",
                "--url",
                "memory://",
                "--topic",
                "x",
                "--key",
                "k",
            ],
            &["--type"],
        ),
        (
            &["consume", "--url", "memory://", "--topic", "a b"],
            &["a b"],
        ),
        (
            &[
                "consume",
                "--url",
                "memory://",
                "--topic",
                "x",
                "--from",
                "now",
            ],
            &["earliest, latest"],
        ),
        (
            &[
                "consume",
                "--url",
                "memory://",
                "--topic",
                "x",
                "--group",
                "a.b",
            ],
            &["a.b"],
        ),
        (
            &["topics", "list", "--url", "rabbit://ada:s3cret@h?p=s3cret"],
            &["rabbit", "memory, kafka"],
        ),
        (&["topics", "list", "--url", "s3cret"], &["memory, kafka"]),
        (
            &["topics", "list", "--url", "memory://x?partition=3"],
            &["did you mean `partitions`"],
        ),
        (
            &["topics", "list", "--url", "memory://ada:s3cret@h:1/x"],
            &["memory://name"],
        ),
        (&["demo", "--copies", "0"], &["--copies"]),
        (
            &["demo", "--role", "consume", "--topic", "x"],
            &["--effects"],
        ),
    ] {
        let ended = run(args);
        ended.refused(2, texts);
        let all = format!("{ended:?}");
        assert!(!all.contains("s3cret"), "{all}");
    }
}

#[test]
#[cfg(not(feature = "kafka"))]
fn a_transport_that_was_not_built_names_its_feature() {
    let ended = run(&["topics", "list", "--url", "kafka://ada:s3cret@h"]);
    ended.refused(2, &["feature `kafka`"]);
}

#[test]
fn help_shows_no_secret_of_the_environment() {
    for command in ["publish", "consume", "demo"] {
        let mut help = interline(&[command, "--help"]);
        help.env("INTERLINE_URL", "kafka://ada:s3cret@h");
        let help = common::ended(help.output().unwrap()).done();
        assert!(
            help.contains("INTERLINE_URL") && !help.contains("s3cret"),
            "{help}"
        );
    }
}

#[test]
fn topics_and_groups_list_when_they_are_told_nothing_else() {
    for word in ["topics", "groups"] {
        let short = run(&[word, "--url", "memory://", "--json"]).json();
        let long = run(&[word, "list", "--url", "memory://", "--json"]).json();
        assert_eq!((&short, short.is_array()), (&long, true));
        run(&[word]).refused(2, &["--url"]);
        run(&[word, "lst"]).refused(2, &["lst"]);
    }
}

#[test]
fn what_is_missing_is_not_found() {
    let absent: [&[&str]; 5] = [
        &["publish", "--url", "memory://", "--topic", "x"],
        &["consume", "--url", "memory://", "--topic", "x"],
        &["topics", "delete", "x", "--url", "memory://", "--yes"],
        &["groups", "show", "g", "--url", "memory://"],
        &["dead-letters", "list", "x.g.dlq", "--url", "memory://"],
    ];
    for args in absent {
        run(args).refused(4, &["there is no"]);
    }
}

const TO_MEMORY: [&str; 7] = [
    "publish",
    "--url",
    "memory://",
    "--topic",
    "x",
    "--create",
    "--json",
];

fn event(id: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"a.b","data":1}}"#) + "\n"
}

#[test]
fn lines_are_events() {
    let lines = event("a") + "\n" + &event("b") + event("c").trim_end();
    let told = run_with(&TO_MEMORY, lines).json();
    assert_eq!(told["published"], 3);
}

#[test]
fn the_first_line_that_is_no_event_stops_with_its_number_and_those_before_are_published() {
    let lines = event("a") + &event("b") + "{\"id\":\"s3cret\"\n" + &event("c");
    let ended = run_with(&TO_MEMORY, lines);
    ended.refused(6, &["line 3:", "no CloudEvent", "2 published before it"]);
    assert!(ended.stdout.contains(r#""published":2"#), "{ended:?}");
    assert!(!ended.stderr.contains("s3cret"));
}

#[test]
fn a_line_over_the_limit_stops_like_any_mistake() {
    let data = [&TO_MEMORY[..], &["--type", "a.b"]].concat();
    let large = format!("{{\"a\":1}}\n\"{}\"\n", "x".repeat(1 << 20));
    run_with(&data, large).refused(6, &["line 2:", "limit of 1048576", "1 published"]);
    let endless = "x".repeat(9 << 20);
    run_with(&TO_MEMORY, endless).refused(6, &["line 1:", "longer than"]);
}

#[test]
fn data_has_its_key_where_it_is_told() {
    let data = |more: &[&'static str]| [&TO_MEMORY[..], &["--type", "a.b"], more].concat();
    let line = "{\"who\":{\"id\":7}}\n";
    assert_eq!(
        run_with(&data(&["--key-from", "/who/id"]), line).json()["published"],
        1
    );
    run_with(&data(&["--key-from", "who"]), line).refused(6, &["line 1:", "`/who`"]);
    run_with(&data(&[]), "plain\n").refused(6, &["line 1:", "--content-type"]);
    let text = data(&[
        "--content-type",
        "text/plain",
        "--key",
        "k",
        "--subject",
        "s",
    ]);
    assert_eq!(run_with(&text, "plain\n").json()["published"], 1);
}
