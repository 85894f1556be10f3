//! Child processes: each in its own process group, each stopped when this process is interrupted or panics.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Result, services};

/// Process groups that an interrupt must end.
static GROUPS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On Ctrl-C, SIGTERM or SIGHUP: ends the running child, then the servers that this process started.
pub(crate) fn stop_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        // Kept locked until the exit, so that the main thread starts nothing more.
        let running = groups();
        for group in running.iter() {
            signal_group("KILL", *group);
        }
        services::stop_owned();
        std::process::exit(130);
    })?;
    Ok(())
}

/// Signals every process of `group`. A group that is gone already is no error.
pub(crate) fn signal_group(signal: &str, group: u32) {
    send(&format!("kill -s {signal} -- -{group}"));
}

/// Signals one process. One that is gone already is no error.
pub(crate) fn signal(signal: &str, process: u32) {
    send(&format!("kill -s {signal} -- {process}"));
}

fn send(script: &str) {
    let _ = Command::new("/bin/sh")
        .args(["-c", script])
        .stderr(Stdio::null())
        .status();
}

/// `cargo` as the one that runs this process.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    command
}

/// A running child that does not outlive its owner.
struct Running(Child);

impl Running {
    fn spawn(command: &mut Command) -> Result<Self> {
        let mut groups = groups();
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|e| format!("{}: {e}", line(command)))?;
        groups.push(child.id());
        Ok(Self(child))
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.0.wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = self.0.id();
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            signal_group("KILL", group);
            let _ = self.0.wait();
        }
        groups().retain(|g| *g != group);
    }
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let args = command.get_args().map(|a| a.to_string_lossy().into_owned());
    std::iter::once(program)
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs `command` to its end with its output shown; fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = Running::spawn(command)?.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` ended with {status}", line(command)).into())
    }
}

/// Runs `command` to its end and returns what it wrote to stdout; an error carries the end of its output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let mut stdout = String::new();
    let mut all = Vec::new();
    let ended = watch(command, Duration::from_secs(900), |stream, text| {
        if stream == Stream::Out {
            stdout.push_str(text);
            stdout.push('\n');
        }
        all.push(text.to_owned());
    })?;
    match ended {
        Ended::Status(status) if status.success() => Ok(stdout),
        ended => Err(format!("`{}` {ended}\n{}", line(command), tail(&all.join("\n"), 30)).into()),
    }
}

/// True if the program can be started and says that it succeeded.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|s| s.success())
}

/// The last `count` lines of `text`.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// How a watched command ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Status(ExitStatus),
    TimeLimit(Duration),
}

impl Ended {
    pub(crate) fn success(&self) -> bool {
        matches!(self, Self::Status(s) if s.success())
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with {status}"),
            Self::TimeLimit(limit) => write!(f, "was stopped after {} s", limit.as_secs()),
        }
    }
}

/// Runs `command`, hands each line of its output to `on_line`, and ends its whole group at `limit`.
pub(crate) fn watch(
    command: &mut Command,
    limit: Duration,
    mut on_line: impl FnMut(Stream, &str),
) -> Result<Ended> {
    let end = Instant::now() + limit;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Running::spawn(command)?;
    let (lines, received) = mpsc::channel();
    follow(running.0.stdout.take(), Stream::Out, lines.clone());
    follow(running.0.stderr.take(), Stream::Err, lines);
    loop {
        match received.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((stream, text)) => on_line(stream, &text),
            Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Status(running.wait()?)),
            Err(RecvTimeoutError::Timeout) => return Ok(Ended::TimeLimit(limit)),
        }
    }
}

fn follow(
    source: Option<impl Read + Send + 'static>,
    stream: Stream,
    lines: Sender<(Stream, String)>,
) {
    let Some(source) = source else { return };
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut bytes = Vec::new();
        // Lossy: a test may print bytes that are not UTF-8, and the reading must go on.
        while matches!(source.read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\n', '\r'])
                .to_owned();
            if lines.send((stream, text)).is_err() {
                return;
            }
            bytes.clear();
        }
    });
}
