//! Runs the suite on memory with a bug planted, and says which scenarios catch it.
//!
//! `INTERLINE_PLANTED=NAME cargo run -p interline-testkit --features planted --example planted`;
//! `-- --list` prints a line `NAME TRANSPORT SCENARIO` for each bug, with a scenario that has to
//! catch it, and for those of the other transports, which need a server: `cargo xtask it --planted`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool"
)]

use std::process::ExitCode;

use interline_core::{Result, planted};
use interline_memory::{connect, native::write_raw};
use interline_testkit::{Ending, Foreign, Harness, Suite};

/// Every bug planted in the engine and in memory, with a scenario that has to turn red.
const BUGS: &[(&str, &str)] = &[
    (
        "ack-before-effect",
        "what_was_running_in_a_crash_runs_again",
    ),
    ("commit-one-too-far", "what_is_committed_does_not_run_again"),
    (
        "ranges-dropped",
        "what_is_done_beyond_the_frontier_does_not_run_again",
    ),
    (
        "release-without-checkpoint",
        "a_drain_stores_everything_settled",
    ),
    ("leave-not-declared", "a_draining_member_gets_nothing_back"),
    ("lane-ignored", "key_order_in_16_lanes"),
    ("hold-lets-key-pass", "a_held_event_keeps_its_key_waiting"),
    ("retry-early", "attempts_are_counted_and_never_early"),
    (
        "dead-letter-not-awaited",
        "poison_is_kept_once_with_its_cause",
    ),
    (
        "dead-letter-without-namespace",
        "two_groups_bury_the_same_event",
    ),
    ("unfenced-commit", "a_former_owner_is_stale"),
];

/// The same of the transports that need a server: the scenario, or `test:` and a test of their own
/// where only one that breaks into the server or the network can see it. What is planted in the
/// leases that three of them share is tried on one.
const ON_SERVERS: &[(&str, &str, &str)] = &[
    (
        "offset-one-too-far",
        "kafka",
        "a_dropped_commit_does_no_harm",
    ),
    (
        "receipt-before-report",
        "kafka",
        "publishing_while_the_server_is_down",
    ),
    ("flow-ignored", "redis", "a_stop_holds_what_was_read_ahead"),
    ("unfenced-commit", "redis", "a_replaced_instance_is_stale"),
    ("cursor-before-hand-over", "redis", "budget_bounds_a_signal"),
    (
        "receipt-before-answer",
        "redis",
        "publishing_while_the_server_is_down",
    ),
    (
        "dedupe-without-purpose",
        "redis",
        "two_groups_bury_the_same_event",
    ),
    ("unfenced-commit", "nats", "a_replaced_instance_is_stale"),
    (
        "cursor-one-too-far",
        "nats",
        "a_checkpoint_comes_back_whole",
    ),
    (
        "receipt-before-answer",
        "nats",
        "publishing_while_the_server_is_down",
    ),
    ("dedupe-without-source", "nats", "a_copy_is_recognised"),
    (
        "consumer-kept-after-cut",
        "nats",
        "test:cut_connections_lose_and_double_nothing",
    ),
    (
        "unfenced-commit",
        "postgres",
        "a_replaced_instance_is_stale",
    ),
    (
        "cursor-one-too-far",
        "postgres",
        "a_checkpoint_comes_back_whole",
    ),
    (
        "cursor-without-horizon",
        "postgres",
        // The scenario's publishers overlap too little for a server that is quick.
        "test:overlapping_writers_lose_and_reorder_nothing",
    ),
    (
        "receipt-before-answer",
        "postgres",
        "publishing_while_the_server_is_down",
    ),
    (
        "cursor-kept-after-crash",
        "postgres",
        "test:what_the_server_lost_after_it_was_read_is_read_again_from_the_checkpoint",
    ),
];

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--list") {
        for (bug, scenario) in BUGS {
            println!("{bug} memory {scenario}");
        }
        for (bug, transport, scenario) in ON_SERVERS {
            println!("{bug} {transport} {scenario}");
        }
        return ExitCode::SUCCESS;
    }
    let Some((bug, scenario)) = BUGS.iter().find(|(bug, _)| planted::is(bug)) else {
        eprintln!(
            "no bug is planted; build with --features planted and name one of these in INTERLINE_PLANTED:"
        );
        for (bug, _) in BUGS {
            eprintln!("  {bug}");
        }
        return ExitCode::FAILURE;
    };
    let outcomes = Suite::new("memory", harness)
        .paused_clock()
        .only(std::env::args().skip(1))
        .run();
    let failed = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.ending, Ending::Failed(_)));
    let failed: Vec<_> = failed.map(|outcome| outcome.scenario).collect();
    println!("{bug} is caught by {}", failed.join(", "));
    ExitCode::from(u8::from(!failed.contains(scenario)))
}

fn harness() -> Harness {
    let url = format!("memory://{}", Harness::fresh("planted"));
    let written = url.clone();
    Harness::new(move || {
        let url = url.clone();
        async move { connect(&*url).await }
    })
    .write_foreign(move |foreign| {
        let url = written.clone();
        async move { write(&url, &foreign).await }
    })
}

async fn write(url: &str, foreign: &Foreign) -> Result<()> {
    let Foreign {
        topic,
        key,
        headers,
        payload,
        ..
    } = foreign;
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), &**value));
    let headers: Vec<(&[u8], &[u8])> = headers.collect();
    let transport = connect(url).await?;
    write_raw(&transport, topic, key.clone(), &headers, payload.clone()).map(|_| ())
}
