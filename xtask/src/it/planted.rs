//! `cargo xtask it --planted`: bugs built in on purpose, each of which the suite must find.
//!
//! The crates have a feature `planted` that compiles the bugs in; `INTERLINE_PLANTED=NAME` switches one on. The
//! testkit's example `planted --list` prints a line `NAME TRANSPORT SCENARIO` for each: the transport to try it on and
//! the scenario that must find it, or `test:TEST` for a server test of that transport.

use std::process::Command;

use super::report::{Outcome, Report};
use super::steps::{STEPS, What};
use super::{follow, servers_for, test};
use crate::services::Servers;
use crate::{Result, exec};

const PLANTED: &[&str] = &["--features", "planted"];

#[derive(Debug, PartialEq, Eq)]
struct Bug {
    name: String,
    transport: String,
    catcher: Catcher,
}

/// What must find a bug.
#[derive(Debug, PartialEq, Eq)]
enum Catcher {
    Scenario(String),
    /// A server test: the suite can neither cut a connection nor change what a server has stored.
    Test(String),
}

impl Bug {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some(Self {
            name: words.next()?,
            transport: words.next()?,
            catcher: words.next().map(|word| match word.strip_prefix("test:") {
                Some(test) => Catcher::Test(test.to_owned()),
                None => Catcher::Scenario(word),
            })?,
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
    for bug in &bugs {
        if let Catcher::Test(test) = &bug.catcher {
            test_without_bug(test, &bug.transport, &servers)?;
        }
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

/// The same of a server test.
fn test_without_bug(test: &str, transport: &str, servers: &Servers) -> Result<()> {
    println!("\nno bug on {transport}: {test}");
    let mut report = Report::default();
    let log = follow(tests(test, transport, servers)?, &mut report)?;
    match (log, report.counts()) {
        (None, (1, 0)) => Ok(()),
        (log, _) => {
            println!("{}", exec::tail(&log.unwrap_or_default(), 100));
            Err(format!("{test} on {transport} with no bug switched on").into())
        }
    }
}

/// What failed because of `bug`; only the scenario or the test that must.
fn caught_by(bug: &Bug, servers: &Servers) -> Result<Vec<String>> {
    println!("\n{} on {}", bug.name, bug.transport);
    let mut report = Report::default();
    let (catcher, mut command) = match &bug.catcher {
        Catcher::Scenario(name) => {
            let mut command = suite(&bug.transport, servers)?;
            command.arg(name);
            (name, command)
        }
        Catcher::Test(name) => (name, tests(name, &bug.transport, servers)?),
    };
    command.env("INTERLINE_PLANTED", &bug.name);
    follow(command, &mut report)?;
    let is_caught = match bug.catcher {
        Catcher::Scenario(_) => report.with(Outcome::Failed).contains(catcher),
        Catcher::Test(_) => report.counts().1 > 0,
    };
    Ok(is_caught.then(|| catcher.clone()).into_iter().collect())
}

/// The suite of `transport` in the build with planted bugs.
fn suite(transport: &str, servers: &Servers) -> Result<Command> {
    let args = STEPS.iter().find_map(|s| match s.what {
        What::Suite(args) if s.transport == transport => Some(args),
        _ => None,
    });
    let args = args.ok_or_else(|| format!("{transport} has no suite"))?;
    let mut command = test(args, PLANTED);
    servers.show(&[transport], &mut command);
    Ok(command)
}

/// A server test of `transport` in the same build.
fn tests(name: &str, transport: &str, servers: &Servers) -> Result<Command> {
    let args = STEPS.iter().find_map(|s| match s.what {
        What::Tests(args) if s.transport == transport && s.name == "server" => Some(args),
        _ => None,
    });
    let args = args.ok_or_else(|| format!("{transport} has no server tests"))?;
    let mut command = test(args, PLANTED);
    command.arg(name);
    servers.show(&[transport], &mut command);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::{Bug, Catcher};

    #[test]
    fn a_listed_bug_names_its_transport_and_what_finds_it() {
        let bug = |line| Bug::parse(line).unwrap();
        assert_eq!(
            bug("commit-next kafka crash").catcher,
            Catcher::Scenario("crash".into())
        );
        assert_eq!(
            bug("kept nats test:cut").catcher,
            Catcher::Test("cut".into())
        );
        assert_eq!(Bug::parse("commit-next kafka"), None);
    }
}
