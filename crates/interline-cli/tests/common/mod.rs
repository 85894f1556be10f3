//! Running the built command.
#![allow(dead_code, reason = "each test target takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot run fails")]

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// What a run of the command left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command with these arguments and nothing in its environment that it listens to.
pub(crate) fn interline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interline"));
    command
        .args(args)
        .env_remove("INTERLINE_URL")
        .env_remove("RUST_LOG");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs to the end.
pub(crate) fn run(args: &[&str]) -> Ended {
    ended(interline(args).output().unwrap())
}

/// Runs to the end with this on stdin.
pub(crate) fn run_with(args: &[&str], stdin: impl AsRef<[u8]>) -> Ended {
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
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.done()).unwrap()
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
