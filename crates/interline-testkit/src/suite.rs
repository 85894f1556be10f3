//! Runs scenarios and prints a line for each.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use interline_core::{BoxFuture, Capabilities};
use tokio::runtime::{Builder, Runtime};

use crate::{Breach, Harness, SCENARIOS, SMOKE, Verdict};

/// How long a scenario may take by the machine's clock.
const LIMIT: Duration = Duration::from_secs(600);

/// The same for one whose own clock is paused, so that it waits for nothing.
const PAUSED_LIMIT: Duration = Duration::from_secs(40);

/// One promise of the contract, tried out.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, which is that of its function.
    pub name: &'static str,
    /// Tries it.
    pub run: for<'a> fn(&'a Harness) -> BoxFuture<'a, Verdict>,
    /// What it needs.
    pub needs: Need,
    /// Whether it must not run beside others, because it takes the server away.
    pub alone: bool,
}

/// What a scenario needs: says why it is not supported, if it is not.
pub type Need = fn(&Harness, &Capabilities) -> Result<(), &'static str>;

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// How a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The promise was kept.
    Passed,
    /// It was not.
    Failed(Breach),
    /// The transport declares that it cannot.
    Unsupported(&'static str),
}

/// What became of a scenario.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub scenario: &'static str,
    /// How it ended.
    pub ending: Ending,
    /// How long it took by the clock of the machine.
    pub took: Duration,
}

/// The conformance suite of one transport.
///
/// It is the whole of a test target without the usual test harness:
///
/// ```no_run
/// use interline_testkit::{Harness, Suite};
///
/// fn main() -> std::process::ExitCode {
///     Suite::new("memory", || {
///         let url = format!("memory://{}", Harness::fresh("suite"));
///         Harness::new(move || {
///             let url = url.clone();
///             async move { interline_memory::connect(&*url).await }
///         })
///     })
///     .paused_clock()
///     .main()
/// }
/// ```
///
/// It prints a line `conformance TRANSPORT SCENARIO passed|failed|unsupported DETAIL` per
/// scenario. Words on the command line choose the scenarios whose names contain one of them, and
/// `--smoke` those of [`Suite::smoke`]; a word that no name contains is a failure.
pub struct Suite {
    transport: &'static str,
    harness: Arc<dyn Fn() -> Harness + Send + Sync>,
    paused: bool,
    parallel: usize,
    smoke: bool,
    only: Vec<String>,
}

impl Suite {
    /// A suite that makes a harness for each scenario.
    pub fn new(
        transport: &'static str,
        harness: impl Fn() -> Harness + Send + Sync + 'static,
    ) -> Self {
        Self {
            transport,
            harness: Arc::new(harness),
            paused: false,
            parallel: 4,
            smoke: false,
            only: Vec::new(),
        }
    }

    /// Runs only the [`SMOKE`] scenarios: for another way to a server on which the whole suite has
    /// passed, such as its encrypted port.
    #[must_use]
    pub fn smoke(mut self) -> Self {
        self.smoke = true;
        self
    }

    /// Runs each scenario on one thread under tokio's paused clock, which jumps to the next timer
    /// when nothing else can go on: leases of seconds pass at once. Only for transports without a
    /// server and without threads.
    #[must_use]
    pub fn paused_clock(mut self) -> Self {
        self.paused = true;
        self
    }

    /// Sets how many scenarios run at a time: 4 by default.
    #[must_use]
    pub fn parallel(mut self, scenarios: usize) -> Self {
        self.parallel = scenarios.max(1);
        self
    }

    /// Runs only scenarios whose name contains one of these words.
    #[must_use]
    pub fn only(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.only.extend(words.into_iter().map(Into::into));
        self
    }

    /// Runs the suite as a program: filters from the command line, a line per scenario, and
    /// failure if a scenario failed or none ran.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let mut suite = self;
        for word in std::env::args().skip(1) {
            suite = match word.as_str() {
                "--list" => return list(),
                "--smoke" => suite.smoke(),
                flag if flag.starts_with('-') => suite,
                word => suite.only([word]),
            };
        }
        if let Some(word) = suite.unknown() {
            say(&format!("no scenario has `{word}` in its name"));
            return ExitCode::FAILURE;
        }
        let outcomes = suite.run();
        ExitCode::from(u8::from(!suite.sum_up(&outcomes)))
    }

    /// A word that chooses nothing.
    fn unknown(&self) -> Option<&str> {
        let mut words = self.only.iter().map(String::as_str);
        words.find(|word| {
            let mut names = SCENARIOS.iter().flat_map(|group| group.iter());
            !names.any(|scenario| scenario.name.contains(word))
        })
    }

    /// Says how many did what; whether that is good.
    fn sum_up(&self, outcomes: &[Outcome]) -> bool {
        let failed = |outcome: &&Outcome| matches!(outcome.ending, Ending::Failed(_));
        let ran = |outcome: &&Outcome| !matches!(outcome.ending, Ending::Unsupported(_));
        let (ran, failed) = (
            outcomes.iter().filter(ran).count(),
            outcomes.iter().filter(failed).count(),
        );
        say(&format!(
            "{} scenarios on {}: {} passed, {failed} failed, {} unsupported",
            outcomes.len(),
            self.transport,
            ran - failed,
            outcomes.len() - ran
        ));
        if ran == 0 {
            say("no scenario ran, so nothing is proven");
        }
        failed == 0 && ran > 0
    }

    /// Runs the scenarios, those that take the server away first and alone, then the others
    /// several at a time, and prints a line for each. The outcomes come in the order of ending.
    ///
    /// The first find a server that holds little and is soon back: some take a minute to look
    /// through what a whole suite has left behind.
    #[must_use]
    pub fn run(&self) -> Vec<Outcome> {
        let chosen = SCENARIOS.iter().flat_map(|group| group.iter().copied());
        let chosen = chosen.filter(|scenario| self.is_chosen(scenario.name));
        let (alone, together): (Vec<_>, Vec<_>) = chosen.partition(|scenario| scenario.alone);
        let outcomes = Mutex::new(Vec::new());
        self.work(&Mutex::new(VecDeque::from(alone)), &outcomes);
        let queue = Mutex::new(VecDeque::from(together));
        thread::scope(|scope| {
            for _ in 0..self.parallel {
                scope.spawn(|| self.work(&queue, &outcomes));
            }
        });
        outcomes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_chosen(&self, name: &str) -> bool {
        let named = self.only.is_empty() || self.only.iter().any(|word| name.contains(&**word));
        named && (!self.smoke || SMOKE.contains(&name))
    }

    fn work(&self, queue: &Mutex<VecDeque<Scenario>>, outcomes: &Mutex<Vec<Outcome>>) {
        let next = || {
            let queue = queue.lock();
            queue.unwrap_or_else(PoisonError::into_inner).pop_front()
        };
        while let Some(scenario) = next() {
            let outcome = self.try_out(scenario);
            say(&self.line(&outcome));
            let outcomes = outcomes.lock();
            outcomes
                .unwrap_or_else(PoisonError::into_inner)
                .push(outcome);
        }
    }

    fn line(&self, outcome: &Outcome) -> String {
        let detail = match &outcome.ending {
            Ending::Passed => format!("passed {:.2} s", outcome.took.as_secs_f64()),
            Ending::Failed(breach) => format!("failed {breach}"),
            Ending::Unsupported(why) => format!("unsupported {why}"),
        };
        format!(
            "conformance {} {} {detail}",
            self.transport, outcome.scenario
        )
    }

    /// Runs one scenario on a thread of its own. One that spins without end never lets a paused
    /// clock reach a deadline, so the machine's clock sets the last one; the thread is left behind.
    fn try_out(&self, scenario: Scenario) -> Outcome {
        let begun = Instant::now();
        let (sender, ending) = mpsc::channel();
        let (paused, harness) = (self.paused, Arc::clone(&self.harness));
        thread::spawn(move || {
            let ending = catch_unwind(AssertUnwindSafe(|| try_in(paused, &harness(), scenario)));
            let ending = ending.unwrap_or_else(|panic| {
                Ending::Failed(Breach::new(format!("panicked: {}", text_of(&*panic))))
            });
            // Nobody listens any more if it took too long.
            let _ = sender.send(ending);
        });
        let limit = if self.paused { PAUSED_LIMIT } else { LIMIT };
        let ending = ending.recv_timeout(limit).unwrap_or_else(|_| {
            Ending::Failed(Breach::new(format!("it had not ended after {limit:?}")))
        });
        Outcome {
            scenario: scenario.name,
            ending,
            took: begun.elapsed(),
        }
    }
}

fn try_in(paused: bool, harness: &Harness, scenario: Scenario) -> Ending {
    let runtime = match runtime(paused) {
        Ok(runtime) => runtime,
        Err(error) => return Ending::Failed(Breach::new(format!("no runtime: {error}"))),
    };
    let ending = runtime.block_on(async {
        let capabilities = match harness.capabilities().await {
            Ok(capabilities) => capabilities,
            Err(breach) => return Ending::Failed(breach),
        };
        if let Err(why) = (scenario.needs)(harness, &capabilities) {
            return Ending::Unsupported(why);
        }
        match (scenario.run)(harness).await {
            Ok(()) => Ending::Passed,
            Err(breach) => {
                give_back(harness, scenario).await;
                Ending::Failed(breach)
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    ending
}

/// Starts the server that a scenario took away and left so when it failed: the next ones need it.
async fn give_back(harness: &Harness, scenario: Scenario) {
    if let Some(outage) = harness.outage.as_ref().filter(|_| scenario.alone)
        && let Err(error) = (outage.start)(()).await
    {
        say(&format!(
            "{}: the server did not come back: {error}",
            scenario.name
        ));
    }
}

fn runtime(paused: bool) -> io::Result<Runtime> {
    if paused {
        return Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
    }
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Suite({})", self.transport)
    }
}

fn list() -> ExitCode {
    for scenario in SCENARIOS.iter().flat_map(|group| group.iter()) {
        say(scenario.name);
    }
    ExitCode::SUCCESS
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a text".to_owned())
}

/// Writes a line at once; a closed pipe is the reader's business.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_smoke_scenario_exists() {
        let all: Vec<_> = SCENARIOS
            .iter()
            .flat_map(|group| group.iter())
            .map(|scenario| scenario.name)
            .collect();
        for name in SMOKE {
            assert!(all.contains(name), "{name}");
        }
    }

    #[test]
    fn a_word_that_chooses_nothing_is_found() {
        let suite = || {
            Suite::new("none", || {
                Harness::new(|| interline_memory::connect("memory://"))
            })
        };
        assert_eq!(suite().only(["odd", "keys"]).unknown(), None);
        assert_eq!(suite().only(["odd", "weird"]).unknown(), Some("weird"));
    }
}
