//! `cargo xtask it`: everything that runs against real servers. What is run stands in `steps.rs`.

mod examples;
mod planted;
mod queue;
pub(crate) mod report;
mod steps;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use queue::Queue;
use report::Report;
pub(crate) use steps::TRANSPORTS;
use steps::{STEPS, Step, What};

use crate::exec::{self, Ended, Stream};
use crate::services::{self, Servers, kafka};
use crate::{Result, in_ci, root, take_flag, tools};

/// A step that runs this long, build included, hangs.
const STEP_LIMIT: Duration = Duration::from_secs(25 * 60);

/// How many steps run at a time. Much of a step is waiting for leases and restarts.
const AT_ONCE: usize = 2;

/// The verb.
pub(crate) fn run(mut args: Vec<String>) -> Result<()> {
    let install = take_flag(&mut args, "--install") || in_ci();
    let planted = take_flag(&mut args, "--planted");
    if let Some(unknown) = args.iter().find(|a| !TRANSPORTS.contains(&a.as_str())) {
        return Err(format!(
            "unknown transport {unknown}: know {}",
            TRANSPORTS.join(", ")
        )
        .into());
    }
    let wanted: Vec<&str> = TRANSPORTS
        .iter()
        .copied()
        .filter(|t| args.is_empty() || args.iter().any(|a| a == t))
        .collect();
    if planted {
        return planted::run(&wanted, install);
    }
    let report = run_all(&wanted, install)?;
    println!(
        "\n{}\n{}{}",
        report.table(),
        report.steps(),
        report.summary()
    );
    report.into_result()
}

/// Runs the steps of the `wanted` transports; fails early only where nothing can be run at all.
pub(crate) fn run_all(wanted: &[&str], install: bool) -> Result<Report> {
    let servers = servers_for(wanted, install)?;
    let queue = Queue::new(STEPS.iter().filter(|s| wanted.contains(&s.transport)));
    let work = || {
        let mut done = Vec::new();
        while let Some(turn) = queue.next() {
            done.push((turn.place, run_step(turn.step, &servers)));
        }
        done
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.flatten().collect()
    });
    done.sort_by_key(|(place, _)| *place);
    let mut report = Report::default();
    for (_, part) in done {
        report.add(part);
    }
    for transport in wanted {
        report.require_scenarios(transport);
    }
    Ok(report)
}

/// The servers that the steps of the `wanted` transports need.
pub(crate) fn servers_for(wanted: &[&str], install: bool) -> Result<Servers> {
    let steps = STEPS.iter().filter(|s| wanted.contains(&s.transport));
    let names: Vec<_> = steps.clone().flat_map(Step::servers).collect();
    if names.contains(&"kafka") {
        tools::require(tools::BUILD, "the Kafka transport", install)?;
    }
    if steps.clone().any(|s| matches!(s.what, What::WithJava(_))) {
        tools::require(kafka::TOOLS, "a Kafka client in Java", install)?;
    }
    Servers::for_run(&names, install)
}

fn run_step(step: &Step, servers: &Servers) -> Report {
    let name = step.title();
    let started = Instant::now();
    println!("\n{name}");
    let mut report = Report::default();
    match command(step, servers).and_then(|command| follow(command, &mut report)) {
        Ok(None) => {}
        Ok(Some(log)) => {
            println!("{}", exec::tail(&log, 200));
            report.fail(format!("{name}: see its output above"));
        }
        Err(e) => report.fail(format!("{name}: {e}")),
    }
    match step.what {
        What::Suite(_) | What::SuiteOverTls(_) => report = report.scenarios_only(&step.column()),
        What::Tests(_) | What::WithJava(_) if report.is_good() && report.counts() == (0, 0) => {
            report.fail(format!("{name}: no test ran"))
        }
        What::Tests(_) | What::WithJava(_) | What::Example => {}
    }
    let state = if report.is_good() { "ok" } else { "FAILED" };
    let line = format!(
        "{name}: {state}, {} in {} s",
        report.summary(),
        started.elapsed().as_secs()
    );
    println!("{line}");
    report.note_step(line);
    report
}

fn command(step: &Step, servers: &Servers) -> Result<Command> {
    let mut command = match step.what {
        What::Suite(args) | What::Tests(args) | What::WithJava(args) => test(args, &[]),
        What::SuiteOverTls(args) => {
            let mut smoke = test(args, &[]);
            smoke.arg("--smoke");
            smoke
        }
        What::Example => examples::command(step.name, step.transport, servers)?,
    };
    servers.show(&step.servers().collect::<Vec<_>>(), &mut command);
    match step.what {
        What::SuiteOverTls(_) => {
            let name = services::variable(step.transport, "URL");
            command.env(name, servers.url(step.transport, "TLS_URL")?);
        }
        What::WithJava(_) => {
            command.env("INTERLINE_KAFKA_JARS", kafka::jars()?);
        }
        What::Suite(_) | What::Tests(_) | What::Example => {}
    }
    Ok(command)
}

/// `cargo test` with its output not captured, so that a scenario's line comes when the scenario ends.
fn test(args: &str, more: &[&str]) -> Command {
    let mut command = exec::cargo();
    command
        .arg("test")
        .args(args.split_whitespace())
        .args(more)
        .args(["--", "--nocapture"]);
    command
}

/// Runs `command` and takes its lines into `report`. Returns what it printed if it failed.
fn follow(mut command: Command, report: &mut Report) -> Result<Option<String>> {
    command.current_dir(root());
    println!("  {}", exec::line(&command));
    let mut log = String::new();
    let ended = exec::watch(&mut command, STEP_LIMIT, |stream, text| {
        if stream == Stream::Out
            && let Some(scenario) = report.take_line(text)
        {
            println!("  {scenario}");
        }
        log.push_str(text);
        log.push('\n');
    })?;
    if ended.success() {
        return Ok(None);
    }
    if let Ended::TimeLimit(_) = ended {
        report.fail(format!("`{}` {ended}", exec::line(&command)));
    }
    Ok(Some(log))
}
