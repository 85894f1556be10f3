//! The command line.

use clap::{Args, Parser, Subcommand};
use interline::{AnyTransport, Bus, ErrorKind, Pattern, Topic, Transport as _};

use crate::commands::{bridge, consume, dead_letters, groups, publish, topics};
use crate::demo;
use crate::stop::{Exit, Stop};

/// One event bus on every broker: publish, consume, topics, groups, dead letters.
#[derive(Debug, Parser)]
#[command(name = "interline", version, arg_required_else_help = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed or something was lost, 2 wrong usage or setting, 3 server not reached,
4 not found, 5 denied, 6 invalid input, 7 not supported by the transport, 130 interrupted")]
pub(crate) struct Cli {
    /// Write JSON for machines instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Tell on stderr what the library does
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish events from stdin, one a line
    Publish(publish::Publish),
    /// Write events to stdout, one a line
    Consume(consume::Consume),
    /// Publish on one broker what another one holds
    Bridge(bridge::Bridge),
    /// List, create and delete topics
    Topics(topics::Topics),
    /// Show how far groups have come, and move them
    Groups(groups::Groups),
    /// List, show, redrive and discard dead letters
    DeadLetters(dead_letters::DeadLetters),
    /// Show the bus at work: a webhook intake with failures, and what becomes of them
    Demo(demo::Demo),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where the broker is.
#[derive(Args, Debug)]
pub(crate) struct Connection {
    /// The broker, such as kafka://localhost:9092; better in the environment if it holds a password
    // The value may hold a password, which help must not show.
    #[arg(long, env = "INTERLINE_URL", hide_env_values = true)]
    url: String,
}

impl Connection {
    pub(crate) async fn open(&self) -> Result<Bus, Stop> {
        let transport = interline::connect(&self.url).await?;
        Ok(Bus::new(transport).source("/interline"))
    }

    /// Where clap does not ask for one, because a word behind may bring it.
    pub(crate) fn missing() -> Stop {
        Stop::new(
            Exit::Usage,
            "name the broker with `--url` or in INTERLINE_URL",
        )
    }
}

/// Reads a pattern over topics; one without stars has to be a topic's name.
pub(crate) fn topic_pattern(text: &str) -> interline::Result<Pattern> {
    let pattern = Pattern::new(text)?;
    if let Some(name) = pattern.as_exact() {
        Topic::system(name)?;
    }
    Ok(pattern)
}

/// Says that nothing fits `pattern`, unless something does.
pub(crate) async fn require_topic(transport: &AnyTransport, pattern: &Pattern) -> Result<(), Stop> {
    use interline::Admin as _;
    if !transport.admin().topics(pattern).await?.is_empty() {
        return Ok(());
    }
    let capabilities = transport.capabilities();
    let missing = format!("there is no topic `{pattern}`");
    let remedy = match capabilities.persistent {
        true => format!("create it with `interline topics create {pattern}`, or check its name"),
        false => format!(
            "`{0}://` holds nothing but what this process publishes: name a broker",
            capabilities.transport
        ),
    };
    Err(interline::Error::new(ErrorKind::NotFound, "find", missing)
        .on(capabilities.transport)
        .remedy(remedy)
        .into())
}
