//! What ran and how it ended, read from the lines that tests print.

use std::fmt::{self, Write};

use crate::Result;

/// How a scenario ended. In the order of what counts when it ran more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The transport declares that it cannot, and says so when asked.
    Unsupported,
    Passed,
    Failed,
}

impl Outcome {
    const ALL: [(&'static str, Self); 3] = [
        ("unsupported", Self::Unsupported),
        ("passed", Self::Passed),
        ("failed", Self::Failed),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(name, _)| *name == word)
            .map(|(_, outcome)| outcome)
    }

    fn word(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// One line `conformance TRANSPORT SCENARIO OUTCOME [detail]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    transport: String,
    name: String,
    outcome: Outcome,
    detail: String,
}

impl Scenario {
    fn parse(line: &str) -> Option<Self> {
        // The test harness writes `test NAME ... ` in front of the first line of a test that runs alone.
        let (before, rest) = line.split_once("conformance ")?;
        if !before.is_empty() && !before.ends_with("... ") {
            return None;
        }
        let mut words = rest.splitn(4, ' ');
        let (transport, name) = (words.next()?.to_owned(), words.next()?.to_owned());
        let outcome = Outcome::parse(words.next()?)?;
        Some(Self {
            transport,
            name,
            outcome,
            detail: words.next().unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<11} {} {}",
            self.outcome.word(),
            self.transport,
            self.name
        )?;
        if self.detail.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.detail)
        }
    }
}

/// The sum of all that ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    scenarios: Vec<Scenario>,
    tests_passed: usize,
    tests_failed: usize,
    /// What failed beyond scenarios and tests.
    faults: Vec<String>,
    /// How each step ended.
    steps: Vec<String>,
}

impl Report {
    /// Takes what a line of output says, if anything; returns the scenario that it tells of.
    pub(crate) fn take_line(&mut self, line: &str) -> Option<Scenario> {
        if let Some((passed, failed)) = test_result(line) {
            self.tests_passed += passed;
            self.tests_failed += failed;
        }
        let scenario = Scenario::parse(line)?;
        self.scenarios.push(scenario.clone());
        Some(scenario)
    }

    /// A report of nothing but `fault`.
    pub(crate) fn failed(fault: String) -> Self {
        Self {
            faults: vec![fault],
            ..Self::default()
        }
    }

    pub(crate) fn fail(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Adds `other`.
    pub(crate) fn add(&mut self, other: Self) {
        self.scenarios.extend(other.scenarios);
        self.faults.extend(other.faults);
        self.steps.extend(other.steps);
        self.tests_passed += other.tests_passed;
        self.tests_failed += other.tests_failed;
    }

    /// Forgets the tests, each of which only wraps a scenario that is counted already, and puts the scenarios in
    /// `column`.
    pub(crate) fn scenarios_only(mut self, column: &str) -> Self {
        (self.tests_passed, self.tests_failed) = (0, 0);
        for scenario in &mut self.scenarios {
            scenario.transport = column.to_owned();
        }
        self
    }

    pub(crate) fn note_step(&mut self, line: String) {
        self.steps.push(line);
    }

    /// A line per step.
    pub(crate) fn steps(&self) -> String {
        self.steps.iter().map(|line| format!("{line}\n")).collect()
    }

    /// A transport for which nothing ran has not been tested.
    pub(crate) fn require_scenarios(&mut self, transport: &str) {
        let ran = |s: &Scenario| s.transport == transport && s.outcome != Outcome::Unsupported;
        if !self.scenarios.iter().any(ran) {
            self.fail(format!("no scenario ran for {transport}"));
        }
    }

    /// The names of the scenarios that ended so, each once.
    pub(crate) fn with(&self, outcome: Outcome) -> Vec<String> {
        let mut names: Vec<_> = self
            .scenarios
            .iter()
            .filter(|s| s.outcome == outcome)
            .map(|s| s.name.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// (passed, failed), scenarios and tests together.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let of = |outcome| {
            self.scenarios
                .iter()
                .filter(|s| s.outcome == outcome)
                .count()
        };
        (
            self.tests_passed + of(Outcome::Passed),
            self.tests_failed + of(Outcome::Failed),
        )
    }

    pub(crate) fn summary(&self) -> String {
        let (passed, failed) = self.counts();
        let unsupported = self
            .scenarios
            .iter()
            .filter(|s| s.outcome == Outcome::Unsupported)
            .count();
        format!("{passed} passed, {failed} failed, {unsupported} unsupported")
    }

    /// A row per scenario, a column per transport.
    pub(crate) fn table(&self) -> String {
        let transports = in_order(self.scenarios.iter().map(|s| s.transport.as_str()));
        let names = in_order(self.scenarios.iter().map(|s| s.name.as_str()));
        let width = names
            .iter()
            .map(|n| n.len())
            .max()
            .unwrap_or(0)
            .max("scenario".len());
        let mut table = row("scenario", width, transports.iter().copied());
        for name in names {
            let cells = transports.iter().map(|t| {
                let ran = self
                    .scenarios
                    .iter()
                    .filter(|s| s.name == name && s.transport == **t);
                ran.map(|s| s.outcome).max().map_or("-", Outcome::word)
            });
            table += &row(name, width, cells);
        }
        table
    }

    /// Everything that failed.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        let scenarios = self.with(Outcome::Failed).into_iter();
        faults.extend(scenarios.map(|name| format!("scenario {name}")));
        if self.tests_failed > 0 {
            faults.push(format!("{} tests", self.tests_failed));
        }
        faults
    }

    pub(crate) fn is_good(&self) -> bool {
        self.faults().is_empty()
    }

    /// An error of everything that failed.
    pub(crate) fn into_result(self) -> Result<()> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        Err(format!("failed:\n  {}", faults.join("\n  ")).into())
    }
}

/// The counts of the test harness's closing line.
fn test_result(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |of: &str| {
        rest.split([';', '.'])
            .find_map(|p| p.trim().strip_suffix(of)?.trim().parse().ok())
    };
    Some((count("passed")?, count("failed")?))
}

fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

fn row<'a>(name: &str, width: usize, cells: impl Iterator<Item = &'a str>) -> String {
    let mut row = format!("{name:<width$}");
    for cell in cells {
        let _ = write!(row, "  {cell:<11}");
    }
    row.truncate(row.trim_end().len());
    row.push('\n');
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            report.take_line(line);
        }
        report
    }

    #[test]
    fn scenario_lines_are_found_also_behind_the_harness() {
        let plain = Scenario::parse("conformance memory exact_bytes passed").unwrap();
        assert_eq!(
            (plain.name.as_str(), plain.outcome),
            ("exact_bytes", Outcome::Passed)
        );
        let behind =
            Scenario::parse("test suite ... conformance kafka drain failed lost 3 of 10").unwrap();
        assert_eq!(
            (behind.detail.as_str(), behind.outcome),
            ("lost 3 of 10", Outcome::Failed)
        );
        assert_eq!(Scenario::parse("the conformance kafka drain failed"), None);
        assert_eq!(Scenario::parse("conformance kafka drain perhaps"), None);
    }

    #[test]
    fn the_table_has_a_column_per_transport() {
        let report = report(&[
            "conformance memory drain passed",
            "conformance memory by_time passed",
            "conformance kafka drain failed why",
        ]);
        let expected = "scenario  memory       kafka\ndrain     passed       failed\nby_time   passed       -\n";
        assert_eq!(report.table(), expected);
    }

    #[test]
    fn of_two_runs_the_worse_is_shown() {
        let report = report(&["conformance m a failed", "conformance m a passed"]);
        assert!(report.table().contains("a         failed"));
    }

    #[test]
    fn tests_are_counted_from_the_closing_line() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s";
        assert_eq!(test_result(line), Some((12, 3)));
        assert_eq!(report(&[line, line]).counts(), (24, 6));
    }

    #[test]
    fn nothing_run_is_a_failure() {
        let mut idle = report(&["conformance kafka delay unsupported"]);
        idle.require_scenarios("kafka");
        assert_eq!(idle.faults(), ["no scenario ran for kafka"]);
    }

    #[test]
    fn the_tests_of_a_suite_are_not_counted_beside_its_scenarios() {
        let suite = report(&[
            "conformance memory drain passed",
            "test result: ok. 1 passed; 0 failed; 0 ignored",
        ]);
        assert_eq!(suite.scenarios_only("memory-tls").counts(), (1, 0));
    }
}
