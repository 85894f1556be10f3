//! How commands end: exit codes, and one line on stderr.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use interline::ErrorKind;

use crate::args::Cli;
use crate::redact::redacted;

/// The exit codes, as the help and the README list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    NotFound = 4,
    Denied = 5,
    Invalid = 6,
    Unsupported = 7,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// With this line on stderr.
    Error(Exit, String),
    /// Whoever read stdout has gone, which is no error.
    ClosedPipe,
}

impl Stop {
    pub(crate) fn new(exit: Exit, line: impl Into<String>) -> Self {
        Self::Error(exit, line.into())
    }

    pub(crate) fn failed(line: impl Into<String>) -> Self {
        Self::new(Exit::Failed, line)
    }

    /// Says where it happened, before the line.
    pub(crate) fn at(self, place: impl std::fmt::Display) -> Self {
        match self {
            Self::Error(exit, line) => Self::Error(exit, format!("{place}: {line}")),
            Self::ClosedPipe => Self::ClosedPipe,
        }
    }

    /// Says what else is known, behind the line.
    pub(crate) fn and(self, rest: impl std::fmt::Display) -> Self {
        match self {
            Self::Error(exit, line) => Self::Error(exit, format!("{line}; {rest}")),
            Self::ClosedPipe => Self::ClosedPipe,
        }
    }

    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Error(exit, line) => {
                complain(&line);
                exit.into()
            }
            Self::ClosedPipe => Exit::Done.into(),
        }
    }
}

/// Writes one line to stderr, without secrets and without control characters.
pub(crate) fn complain(line: &str) {
    // Nobody is left to be told if stderr is closed.
    let _ = writeln!(std::io::stderr(), "interline: {}", redacted(line));
}

impl From<interline::Error> for Stop {
    fn from(error: interline::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Config => Exit::Usage,
            ErrorKind::Invalid | ErrorKind::Limit | ErrorKind::Undecodable => Exit::Invalid,
            ErrorKind::NotFound | ErrorKind::PositionLost => Exit::NotFound,
            ErrorKind::Denied => Exit::Denied,
            ErrorKind::Unavailable | ErrorKind::Timeout => Exit::Unreachable,
            ErrorKind::Unsupported => Exit::Unsupported,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

/// Ends a command line that cannot be understood, or one that asks for help.
///
/// The parser's message of several lines becomes one, since every error here is one line.
pub(crate) fn refuse_arguments(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help and version; a closed pipe is no reason to complain.
        let _ = error.print();
        return Exit::Done.into();
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Exit::Usage.into();
    }
    let text = error.render().to_string();
    let told = text.split("\n\nUsage:").next().unwrap_or_default();
    let told = told.split("\n\nFor more").next().unwrap_or_default();
    let lines = told.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    let line = line.trim_start_matches("error: ").replace(" tip: ", "; ");
    let line = match line.contains("--url") {
        true => format!("{line}, or INTERLINE_URL in the environment"),
        false => line,
    };
    Stop::new(Exit::Usage, format!("{line}; see `{} --help`", command())).report()
}

/// The command whose help says more.
fn command() -> String {
    let given = std::env::args().nth(1).unwrap_or_default();
    let known = Cli::command();
    match known.find_subcommand(&given) {
        Some(command) => format!("interline {}", command.get_name()),
        None => "interline".to_owned(),
    }
}
