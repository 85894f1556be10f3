//! The demo split over processes, of which some are killed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Child;

use serde_json::Value;

use super::{Ended, Topic, remote, run, start, until, webhooks};

/// How long an event takes its handler, so that a kill finds some under way.
const WORK: &str = "25";

/// Webhooks published on a topic, and the effects of whoever handles them.
pub(crate) struct Intake {
    pub(crate) topic: Topic,
    hooks: PathBuf,
    effects: PathBuf,
    pub(crate) published: usize,
    _folder: tempfile::TempDir,
}

impl Intake {
    /// Publishes the webhooks of the file that `INTERLINE_DEMO_INPUT` names, or as many made up.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let given = std::env::var_os("INTERLINE_DEMO_INPUT").map(PathBuf::from);
        let hooks = given.unwrap_or_else(|| {
            let made_up = folder.path().join("hooks");
            std::fs::write(&made_up, webhooks(273)).unwrap();
            made_up
        });
        let lines = std::fs::read_to_string(&hooks).unwrap();
        let intake = Self {
            topic: Topic::new(),
            hooks,
            effects: folder.path().join("effects"),
            published: lines.lines().filter(|line| !line.trim().is_empty()).count(),
            _folder: folder,
        };
        let told = remote(&intake.part(&["--role", "publish", "--json"])).json();
        assert_eq!(told["published"], intake.published);
        intake
    }

    fn part(&self, more: &[&str]) -> Vec<String> {
        let hooks = self.hooks.to_str().unwrap();
        let fixed = ["demo", "--input", hooks, "--topic", &self.topic.0];
        [&fixed[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    fn consume(&self, more: &[&str]) -> Vec<String> {
        let effects = self.effects.to_str().unwrap();
        let fixed = ["--role", "consume", "--work", WORK, "--effects", effects];
        self.part(&[&fixed[..], more].concat())
    }

    /// Starts a consumer and waits until it has handled a quarter.
    pub(crate) fn start_to_a_quarter(&self, more: &[&str]) -> Child {
        let child = start(&self.consume(more));
        until("the consumer works", || self.handled() > self.published / 4);
        child
    }

    /// Consumes until nothing is left.
    pub(crate) fn finish(&self, more: &[&str]) -> String {
        remote(&self.consume(more)).done()
    }

    /// How many events have an effect, written down whole.
    pub(crate) fn handled(&self) -> usize {
        let text = std::fs::read_to_string(&self.effects).unwrap_or_default();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let numbers = whole.map(|line| {
            let effect: Value = serde_json::from_str(line).unwrap();
            effect["sequence"].as_u64()
        });
        numbers.collect::<BTreeSet<_>>().len()
    }

    /// How many events a stored checkpoint knows as settled.
    pub(crate) fn settled(&self) -> usize {
        self.published - usize::try_from(self.topic.lag("intake")).unwrap()
    }

    pub(crate) fn letters(&self) -> String {
        format!("{}.intake.dlq", self.topic.0)
    }

    /// The open dead letters; there is no topic for them before the first.
    pub(crate) fn dead(&self) -> usize {
        let told = remote(&["dead-letters", "list", &self.letters(), "--json"]);
        match told.code {
            4 => 0,
            _ => told.json().as_array().unwrap().len(),
        }
    }

    /// The account at the end.
    pub(crate) fn check(&self, more: &[&str]) -> Ended {
        let (hooks, effects) = (self.hooks.to_str().unwrap(), self.effects.to_str().unwrap());
        let fixed = ["demo", "--input", hooks, "--json", "--check", effects];
        run(&[&fixed[..], more].concat())
    }
}
