//! `cargo xtask ci`: all that must hold before a change is taken, one line per step.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::it::report::Report;
use crate::{Result, bench, exec, in_ci, it, services, take_flag, tidy, tools};

/// What one step adds to the sum, or why it failed.
type Outcome = Result<Report>;

const STEP_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Steps that are one cargo command. The second clippy sees what only features bring in.
const CARGO_STEPS: &[(&str, &str)] = &[
    ("format", "fmt --all --check"),
    ("clippy", "clippy --workspace --all-targets -- -D warnings"),
    (
        "clippy, all features",
        "clippy --workspace --all-targets --all-features -- -D warnings",
    ),
    ("tests", "test --workspace"),
    ("documentation", "doc --no-deps --workspace"),
];

/// The verb. Its last line is `N passed, M failed`: tests and scenarios, and among the failed also steps.
pub(crate) fn run(mut args: Vec<String>) -> Result<ExitCode> {
    let install = take_flag(&mut args, "--install") || in_ci();
    if let Some(unknown) = args.first() {
        return Err(format!("unknown argument {unknown}").into());
    }
    say_what_is_missing();
    let mut sum = Report::default();
    step(&mut sum, "build tools", || {
        tools::require(tools::BUILD, "the Kafka transport", install).map(|()| Report::default())
    });
    for (name, arguments) in CARGO_STEPS {
        step(&mut sum, name, || cargo(arguments));
    }
    step(&mut sum, "tidy", || tidy::run().map(|()| Report::default()));
    step(&mut sum, "it", || it::run_all(it::TRANSPORTS, install));
    step(&mut sum, "bench, quick", || {
        bench::quick(install).map(|()| Report::default())
    });
    // Advisories change without a change of ours: .github/workflows looks at them.
    if exec::succeeds("cargo", &["deny", "--version"]) {
        step(&mut sum, "deny", || {
            cargo("deny check bans licenses sources")
        });
    } else {
        println!("ci  skipped   deny: cargo-deny is not installed; .github/workflows runs it");
    }
    Ok(close(&sum))
}

/// Before anything is built, so that nobody waits for a server that cannot come.
fn say_what_is_missing() {
    let missing = [tools::missing(tools::BUILD), tools::missing(tools::PREPARE)].concat();
    let servers = if tools::docker() {
        Vec::new()
    } else {
        services::missing_tools(it::TRANSPORTS)
    };
    if !missing.is_empty() {
        println!("ci  missing   {}", missing.join(", "));
    }
    if !servers.is_empty() {
        println!(
            "ci  missing   {}, and no Docker engine runs: no servers without one of the two",
            servers.join(", ")
        );
    }
}

fn step(sum: &mut Report, name: &str, run: impl FnOnce() -> Outcome) {
    let started = Instant::now();
    let outcome = run();
    let seconds = started.elapsed().as_secs_f32();
    let done = match outcome {
        Ok(done) => done,
        Err(e) => Report::failed(format!("{name}: {e}")),
    };
    let state = if done.is_good() { "ok" } else { "FAILED" };
    let sums = if done.counts() == (0, 0) {
        String::new()
    } else {
        done.summary()
    };
    println!("ci  {state:<9} {name:<22} {seconds:>6.1} s  {sums}");
    sum.add(done);
}

/// A cargo command; what it printed is shown only if it failed.
fn cargo(arguments: &str) -> Outcome {
    let mut command: Command = exec::cargo();
    command
        .args(arguments.split(' '))
        .env("RUSTDOCFLAGS", "-D warnings");
    let mut report = Report::default();
    let mut log = String::new();
    let ended = exec::watch(&mut command, STEP_LIMIT, |_, text| {
        report.take_line(text);
        log.push_str(text);
        log.push('\n');
    })?;
    if !ended.success() {
        println!("{}", exec::tail(&log, 200));
        report.fail(format!("`{}` {ended}", exec::line(&command)));
    }
    Ok(report)
}

fn close(sum: &Report) -> ExitCode {
    println!("\n{}\n{}", sum.table(), sum.steps());
    let faults = sum.faults();
    for fault in &faults {
        println!("FAILED  {fault}");
    }
    let (passed, failed) = sum.counts();
    // A step may fail without a failed test, and then nothing must read as "0 failed".
    println!("{passed} passed, {} failed", failed.max(faults.len()));
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
