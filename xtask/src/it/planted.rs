//! `cargo xtask it --planted`: bugs built in on purpose, each of which the suite must find.
//!
//! The crates have a feature `planted` that compiles the bugs in; `INTERLINE_PLANTED=NAME` switches one on. The
//! testkit's example `planted --list` prints a line `NAME [TRANSPORT [SCENARIO]]` for each: the transport to try it on
//! (memory unless said) and the scenario that must find it (any, unless said).

use std::fmt::Write;

use super::report::Report;
use super::steps::{STEPS, What};
use super::{failed, follow, servers_for};
use crate::services::Servers;
use crate::{Result, exec};

#[derive(Debug, PartialEq, Eq)]
struct Bug {
    name: String,
    transport: String,
    scenario: Option<String>,
}

impl Bug {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = words.next()?;
        Some(Self {
            name,
            transport: words.next().unwrap_or_else(|| "memory".into()),
            scenario: words.next(),
        })
    }
}

/// Tries every bug of the `wanted` transports.
pub(super) fn run(wanted: &[&str], install: bool) -> Result<()> {
    let mut list = exec::cargo();
    list.args([
        "run",
        "--quiet",
        "-p",
        "interline-testkit",
        "--features",
        "planted",
        "--example",
        "planted",
    ]);
    let listed = exec::output(list.args(["--", "--list"]))?;
    let bugs: Vec<_> = listed
        .lines()
        .filter_map(Bug::parse)
        .filter(|b| wanted.contains(&&*b.transport))
        .collect();
    let used: Vec<_> = wanted
        .iter()
        .copied()
        .filter(|t| bugs.iter().any(|b| b.transport == *t))
        .collect();
    if used.is_empty() {
        return Err("the testkit lists no planted bug".into());
    }
    let servers = servers_for(&used, install)?;
    let env = servers.as_ref().map_or(&[][..], Servers::env);
    for transport in &used {
        control(transport, env)?;
    }
    let mut table = format!("\n{:<36} {:<10} caught by\n", "planted bug", "transport");
    let mut missed = Vec::new();
    for bug in &bugs {
        let caught = caught_by(bug, env)?;
        let by = if caught.is_empty() {
            "NOTHING".to_owned()
        } else {
            caught.join(", ")
        };
        let _ = writeln!(table, "{:<36} {:<10} {by}", bug.name, bug.transport);
        if caught.is_empty() {
            missed.push(bug.name.as_str());
        }
    }
    println!(
        "{table}\n{} of {} planted bugs caught",
        bugs.len() - missed.len(),
        bugs.len()
    );
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!("not caught: {}", missed.join(", ")).into())
    }
}

/// The same build with no bug switched on must pass: else a failure would prove nothing.
fn control(transport: &str, env: &[(String, String)]) -> Result<()> {
    println!("\nno bug on {transport}");
    let mut report = suite(transport, None, None, env)?;
    report.require_scenarios(transport);
    report.into_result()
}

/// The scenarios that failed because of `bug`; only the one that must, if one is named.
fn caught_by(bug: &Bug, env: &[(String, String)]) -> Result<Vec<String>> {
    println!("\n{} on {}", bug.name, bug.transport);
    let report = suite(
        &bug.transport,
        bug.scenario.as_deref(),
        Some(&bug.name),
        env,
    )?;
    let mut caught = failed(&report);
    caught.retain(|name| bug.scenario.as_ref().is_none_or(|s| s == name));
    Ok(caught)
}

/// Runs the suite, or one scenario of it, in the build with planted bugs. A failing suite is not an error here.
fn suite(
    transport: &str,
    scenario: Option<&str>,
    bug: Option<&str>,
    env: &[(String, String)],
) -> Result<Report> {
    let step = STEPS.iter().find_map(|s| match s.what {
        What::Suite(args) if s.transport == transport => Some(args),
        _ => None,
    });
    let mut command = exec::cargo();
    command
        .arg("test")
        .args(step.ok_or_else(|| format!("{transport} has no suite"))?);
    command
        .args(["--features", "planted", "--", "--nocapture"])
        .args(scenario);
    command.env("INTERLINE_PLANTED", bug.unwrap_or_default());
    let mut report = Report::default();
    let log = follow(command, env, &mut report)?;
    // A build that fails prints no scenario: that must not look like a bug that nothing caught.
    if bug.is_none() && !log.is_empty() {
        println!("{}", exec::tail(&log, 100));
        report.fail(format!(
            "the suite fails on {transport} with no bug switched on"
        ));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::Bug;

    #[test]
    fn a_listed_bug_may_name_its_transport_and_scenario() {
        let bug = |line| Bug::parse(line).unwrap();
        assert_eq!(bug("ack-early").transport, "memory");
        assert_eq!(bug("commit-next kafka").scenario, None);
        assert_eq!(
            bug("commit-next kafka crash").scenario.as_deref(),
            Some("crash")
        );
        assert_eq!(Bug::parse(""), None);
    }
}
