//! `cargo xtask it --planted`: bugs built in on purpose, each of which the suite must find.
//!
//! The crates have a feature `planted` that compiles the bugs in; `INTERLINE_PLANTED=NAME` switches one on. The
//! testkit's example `planted --list` prints a line `NAME [TRANSPORT [SCENARIO]]` for each: the transport to try it on
//! (memory unless said) and the scenario that must find it (any, unless said).

use std::process::Command;

use super::report::{Outcome, Report};
use super::steps::{STEPS, What};
use super::{follow, servers_for, test};
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
    let bugs: Vec<_> = listed()?
        .into_iter()
        .filter(|b| wanted.contains(&b.transport.as_str()))
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
    for transport in &used {
        without_bug(transport, &servers)?;
    }
    let caught = bugs
        .iter()
        .map(|bug| caught_by(bug, &servers))
        .collect::<Result<Vec<_>>>()?;
    show(&bugs, &caught)
}

/// Prints what caught which, and fails if a bug was not caught.
fn show(bugs: &[Bug], caught: &[Vec<String>]) -> Result<()> {
    println!("\n{:<36} {:<10} caught by", "planted bug", "transport");
    for (bug, by) in bugs.iter().zip(caught) {
        let by = if by.is_empty() {
            "NOTHING".to_owned()
        } else {
            by.join(", ")
        };
        println!("{:<36} {:<10} {by}", bug.name, bug.transport);
    }
    let missed = caught.iter().filter(|by| by.is_empty()).count();
    println!(
        "\n{} of {} planted bugs caught",
        bugs.len() - missed,
        bugs.len()
    );
    if missed == 0 {
        Ok(())
    } else {
        Err(format!("{missed} planted bugs are not caught").into())
    }
}

fn listed() -> Result<Vec<Bug>> {
    let list = "run --quiet -p interline-testkit --features planted --example planted -- --list";
    let listed = exec::output(exec::cargo().args(list.split(' ')))?;
    Ok(listed.lines().filter_map(Bug::parse).collect())
}

/// The same build with no bug switched on must pass: else a failure would prove nothing.
fn without_bug(transport: &str, servers: &Servers) -> Result<()> {
    println!("\nno bug on {transport}");
    let mut report = Report::default();
    if let Some(log) = follow(suite(transport, servers)?, &mut report)? {
        println!("{}", exec::tail(&log, 100));
        report.fail(format!("the suite on {transport} with no bug switched on"));
    }
    report.require_scenarios(transport);
    report.into_result()
}

/// The scenarios that failed because of `bug`; only the one that must, if one is named.
fn caught_by(bug: &Bug, servers: &Servers) -> Result<Vec<String>> {
    println!("\n{} on {}", bug.name, bug.transport);
    let mut command = suite(&bug.transport, servers)?;
    command
        .args(&bug.scenario)
        .env("INTERLINE_PLANTED", &bug.name);
    let mut report = Report::default();
    follow(command, &mut report)?;
    let mut caught = report.with(Outcome::Failed);
    caught.retain(|name| bug.scenario.as_ref().is_none_or(|s| s == name));
    Ok(caught)
}

/// The suite of `transport` in the build with planted bugs.
fn suite(transport: &str, servers: &Servers) -> Result<Command> {
    let args = STEPS.iter().find_map(|s| match s.what {
        What::Suite(args) if s.transport == transport => Some(args),
        _ => None,
    });
    let args = args.ok_or_else(|| format!("{transport} has no suite"))?;
    let mut command = test(args, &["--features", "planted"]);
    servers.show(&[transport], &mut command);
    Ok(command)
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
