//! Running the built command.
#![allow(dead_code, reason = "each test target takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot run fails")]

pub(crate) mod intake;
pub(crate) mod member;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The exit code for what is not there.
const NOT_FOUND: i32 = 4;

/// What a run of the command left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command with these arguments and nothing in its environment that it listens to.
pub(crate) fn interline<S: AsRef<str>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interline"));
    command
        .args(args.iter().map(AsRef::as_ref))
        .env_remove("INTERLINE_URL")
        .env_remove("RUST_LOG");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs to the end.
pub(crate) fn run<S: AsRef<str>>(args: &[S]) -> Ended {
    ended(interline(args).output().unwrap())
}

/// Runs to the end with this on stdin.
pub(crate) fn run_with<S: AsRef<str>>(args: &[S], stdin: impl AsRef<[u8]>) -> Ended {
    let mut child = interline(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = stdin.as_ref().to_vec();
    // A command that stops at a mistake does not read the rest.
    let feeding = std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    ended(output)
}

pub(crate) fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// The command did what it was asked, without a word on stderr.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, &*self.stderr), (0, ""), "{self:?}");
        self.stdout
    }

    /// It ended with this code and one line on stderr that holds these texts.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in {self:?}");
        }
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }
}

/// The transports with a server. `cargo xtask it` lets a test see one of them at a time.
const SERVERS: [&str; 4] = ["KAFKA", "REDIS", "NATS", "POSTGRES"];

/// What the environment says of the server under test: `INTERLINE_KAFKA_URL`, say, for `URL`.
pub(crate) fn server(word: &str) -> Option<String> {
    SERVERS.iter().find_map(|name| said(name, word))
}

/// What it says of one of several servers.
pub(crate) fn said(name: &str, word: &str) -> Option<String> {
    std::env::var(format!("INTERLINE_{name}_{word}")).ok()
}

/// Without a server the test fails: a skipped test proves nothing.
pub(crate) fn url() -> String {
    server("URL").expect("INTERLINE_NAME_URL names the server to test with")
}

/// These arguments with the server's address behind them.
fn on_server<S: AsRef<str>>(args: &[S]) -> Vec<String> {
    let mut all: Vec<String> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    all.extend(["--url".to_owned(), url()]);
    all
}

/// Runs to the end on the server under test.
pub(crate) fn remote<S: AsRef<str>>(args: &[S]) -> Ended {
    run(&on_server(args))
}

pub(crate) fn remote_with<S: AsRef<str>>(args: &[S], stdin: impl AsRef<[u8]>) -> Ended {
    run_with(&on_server(args), stdin)
}

/// Starts on the server under test.
pub(crate) fn start<S: AsRef<str>>(args: &[S]) -> Child {
    interline(&on_server(args)).spawn().unwrap()
}

/// A topic of one test alone, deleted with what belongs to it.
pub(crate) struct Topic(pub(crate) String);

impl Topic {
    pub(crate) fn new() -> Self {
        Self::with("3")
    }

    pub(crate) fn with(partitions: &str) -> Self {
        let name = format!("cli-{:016x}", fastrand::u64(..));
        remote(&["topics", "create", &name, "--partitions", partitions]).done();
        Self(name)
    }

    /// How many events the group has not settled, by its stored checkpoints.
    pub(crate) fn lag(&self, group: &str) -> u64 {
        let lags = self.partitions(remote(&["groups", "show", group, "--json"]));
        lags.iter().map(|lag| lag["lag"].as_u64().unwrap()).sum()
    }

    /// Who owns the partitions, once each of them has an owner.
    pub(crate) fn owners(&self, group: &str) -> Option<BTreeSet<String>> {
        let told = remote(&["groups", "show", group, "--json"]);
        if told.code == NOT_FOUND {
            return None;
        }
        let owner = |lag: &Value| lag["owner"].as_str().map(str::to_owned);
        self.partitions(told).iter().map(owner).collect()
    }

    fn partitions(&self, told: Ended) -> Vec<Value> {
        let told = told.json();
        let all = told["partitions"].as_array().unwrap().iter();
        all.filter(|lag| lag["topic"] == *self.0).cloned().collect()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let told = remote(&["topics", "list", "--json"]);
        let topics: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        for topic in topics.as_array().into_iter().flatten() {
            let name = topic["topic"].as_str().unwrap_or_default();
            if name.starts_with(&self.0) {
                remote(&["topics", "delete", name, "--yes"]);
            }
        }
    }
}

/// Waits for progress.
#[track_caller]
pub(crate) fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !reached() {
        assert!(Instant::now() < end, "no progress: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Sends a signal to a child of the test.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Webhooks as lines: `count` of them over three repositories, some without action or repository.
pub(crate) fn webhooks(count: usize) -> String {
    let line = |n: usize| {
        let (event, action) = match n % 4 {
            0 => ("push", "null".to_owned()),
            1 => ("pull_request", r#""opened""#.to_owned()),
            2 => ("issues", r#""closed""#.to_owned()),
            _ => ("star", r#""created""#.to_owned()),
        };
        let repository = match n % 10 {
            9 => "null".to_owned(),
            _ => format!(r#""r/{}""#, n % 3),
        };
        let payload = format!(
            r#"{{"action":{action},"n":{n},"commits":[],"pull_request":{{"number":1,"title":"t","merged":null}},"issue":{{"number":2,"title":"t"}}}}"#
        )
        .replace(r#""action":null,"#, "");
        format!(
            r#"{{"event":"{event}","action":{action},"repository":{repository},"sender":"ada","other":1,"payload":{payload}}}"#
        ) + "\n"
    };
    (0..count).map(line).collect()
}
