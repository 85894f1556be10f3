//! `cargo xtask it`: everything that runs against real servers. What is run stands in `steps.rs`.

mod examples;
mod planted;
pub(crate) mod report;
mod steps;

use std::process::Command;
use std::time::{Duration, Instant};

use report::{Outcome, Report};
use steps::{STEPS, Step, TRANSPORTS, What};

use crate::exec::{self, Ended, Stream};
use crate::services::Servers;
use crate::{Result, in_ci, root, take_flag, tools};

/// A step that runs this long, build included, hangs.
const STEP_LIMIT: Duration = Duration::from_secs(25 * 60);

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
    println!("\n{}\n{}", report.table(), report.summary());
    report.into_result()
}

/// Runs the steps of the `wanted` transports; fails early only where nothing can be run at all.
pub(crate) fn run_all(wanted: &[&str], install: bool) -> Result<Report> {
    let servers = servers_for(wanted, install)?;
    let env = servers.as_ref().map_or(&[][..], Servers::env);
    let mut report = Report::default();
    for step in STEPS.iter().filter(|s| wanted.contains(&s.transport)) {
        run_step(step, env, &mut report);
    }
    for transport in wanted {
        report.require_scenarios(transport);
    }
    Ok(report)
}

/// All transports that `it` knows.
pub(crate) const fn transports() -> &'static [&'static str] {
    TRANSPORTS
}

/// The servers that the `wanted` transports need.
pub(crate) fn servers_for(wanted: &[&str], install: bool) -> Result<Option<Servers>> {
    if !wanted.contains(&"kafka") {
        return Ok(None);
    }
    tools::require(tools::BUILD, "the Kafka transport", install)?;
    Servers::kafka(install).map(Some)
}

fn run_step(step: &Step, env: &[(String, String)], report: &mut Report) {
    let name = format!("{} on {}", step.name, step.transport);
    let started = Instant::now();
    println!("\n{name}");
    let mut own = Report::default();
    let ended = command(step, env).and_then(|command| follow(command, env, &mut own));
    let scenarios_only = matches!(step.what, What::Suite(_));
    match ended {
        Ok(log) if !log.is_empty() => {
            println!("{}", exec::tail(&log, 200));
            own.fail(format!("{name} failed"));
        }
        Ok(_) => {}
        Err(e) => own.fail(format!("{name}: {e}")),
    }
    println!(
        "{name}: {} in {} s",
        own.summary(),
        started.elapsed().as_secs()
    );
    report.add(own, scenarios_only);
}

fn command(step: &Step, env: &[(String, String)]) -> Result<Command> {
    match step.what {
        What::Suite(args) | What::Tests(args) => {
            let mut command = exec::cargo();
            // Not captured, so that a scenario's line comes when it ends.
            command.arg("test").args(args).args(["--", "--nocapture"]);
            Ok(command)
        }
        What::Example => examples::command(step.name, step.transport, env),
    }
}

/// Runs `command` and takes its lines into `report`. Returns what it printed if it failed, else nothing.
fn follow(mut command: Command, env: &[(String, String)], report: &mut Report) -> Result<String> {
    command
        .current_dir(root())
        .envs(env.iter().map(|(k, v)| (k, v)));
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
        return Ok(String::new());
    }
    if let Ended::TimeLimit(_) = ended {
        report.fail(format!("`{}` {ended}", exec::line(&command)));
    }
    Ok(log)
}

/// The scenarios of `report` that failed, each once.
fn failed(report: &Report) -> Vec<String> {
    report.with(Outcome::Failed)
}
