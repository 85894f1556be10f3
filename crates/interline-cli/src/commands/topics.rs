//! `interline topics`.

use std::time::Duration;

use clap::{Args, Subcommand};
use interline::core::{Cleanup, Ensured, TopicInfo};
use interline::{Admin as _, AnyTransport, Bus, Pattern, Topic, TopicSpec};
use serde_json::{Value, json};

use crate::args::{Connection, require_topic, topic_pattern};
use crate::output;
use crate::stop::{Exit, Stop};
use crate::table::Table;

/// List, create and delete topics
///
/// Without a word it lists them all.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Topics {
    #[command(flatten)]
    connection: Option<Connection>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the topics, with return and dead-letter topics
    List {
        #[command(flatten)]
        connection: Connection,
        /// Only topics that fit
        #[arg(default_value = "*", value_parser = topic_pattern)]
        pattern: Pattern,
    },
    /// Create topics that are missing; those that are there stay as they are
    Create(Create),
    /// Delete topics with their events
    Delete {
        #[command(flatten)]
        connection: Connection,
        /// The topics
        #[arg(required = true, value_parser = |name: &str| Topic::system(name))]
        names: Vec<Topic>,
        /// Delete without a question
        #[arg(long)]
        yes: bool,
    },
}

impl Action {
    fn all(connection: Option<Connection>) -> Result<Self, Stop> {
        Ok(Self::List {
            connection: connection.ok_or_else(Connection::missing)?,
            pattern: topic_pattern("*")?,
        })
    }
}

#[derive(Args, Debug)]
struct Create {
    #[command(flatten)]
    connection: Connection,
    /// The topics
    #[arg(required = true)]
    names: Vec<Topic>,
    /// How many partitions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// How many replicas
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    replication: Option<u16>,
    /// How many hours events are kept
    #[arg(long, value_name = "HOURS")]
    retention_hours: Option<u64>,
    /// Keep the last event of each key
    #[arg(long)]
    compact: bool,
}

pub(crate) async fn run(args: Topics, json: bool) -> Result<Exit, Stop> {
    let action = args
        .action
        .map_or_else(|| Action::all(args.connection), Ok)?;
    match action {
        Action::List {
            connection,
            pattern,
        } => list(&connection.open().await?, &pattern, json).await,
        Action::Create(create) => create.run(json).await,
        Action::Delete {
            connection,
            names,
            yes,
        } => delete(&connection.open().await?, &names, yes, json).await,
    }
}

async fn list(bus: &Bus, pattern: &Pattern, json: bool) -> Result<Exit, Stop> {
    let topics = bus.admin().topics(pattern).await?;
    if json {
        let topics: Vec<Value> = topics.iter().map(as_json).collect();
        output::print_json(&topics)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["topic", "partitions", "events"]);
    for info in topics {
        let events = info
            .events
            .map_or("?".to_owned(), |events| events.to_string());
        table.row(&[info.topic.to_string(), info.partitions.to_string(), events]);
    }
    output::print(&table.to_string())?;
    Ok(Exit::Done)
}

fn as_json(info: &TopicInfo) -> Value {
    json!({
        "topic": info.topic.as_str(),
        "partitions": info.partitions,
        "events": info.events,
    })
}

impl Create {
    async fn run(self, json: bool) -> Result<Exit, Stop> {
        let bus = self.connection.open().await?;
        let specs = self.names.iter().map(|name| self.spec(name)).collect();
        let ensured = bus.admin().ensure(specs).await?;
        let mut found = Vec::new();
        for (topic, ensured) in self.names.iter().zip(ensured) {
            let (state, drift) = match ensured {
                Ensured::Created => ("created", Vec::new()),
                Ensured::Exists => ("exists", Vec::new()),
                Ensured::Drift(drift) => ("differs", drift),
            };
            match json {
                true => found
                    .push(json!({"topic": topic.as_str(), "state": state, "differences": drift})),
                false => output::print(&told(topic, state, &drift))?,
            }
        }
        if json {
            output::print_json(&found)?;
        }
        Ok(Exit::Done)
    }

    fn spec(&self, topic: &Topic) -> TopicSpec {
        let mut spec = TopicSpec::new(topic.clone());
        spec.partitions = self.partitions;
        spec.replication = self.replication;
        spec.retention = self
            .retention_hours
            .map(|hours| Duration::from_secs(hours.saturating_mul(3_600)));
        spec.cleanup = self.compact.then_some(Cleanup::Compact);
        spec
    }
}

fn told(topic: &Topic, state: &str, drift: &[String]) -> String {
    match drift {
        [] => format!("{topic} {state}\n"),
        drift => format!("{topic} {state}: {}\n", drift.join(", ")),
    }
}

async fn delete(bus: &Bus, names: &[Topic], yes: bool, json: bool) -> Result<Exit, Stop> {
    let transport: &AnyTransport = bus.transport();
    for name in names {
        require_topic(transport, &Pattern::exact(name.as_str())).await?;
    }
    if !yes {
        let line = format!(
            "{} would be deleted with all events; add --yes to do it",
            names
                .iter()
                .map(Topic::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        );
        return Err(Stop::new(Exit::Usage, line));
    }
    for name in names {
        bus.admin().delete_topic(name).await?;
        if !json {
            output::print(&format!("{name} deleted\n"))?;
        }
    }
    if json {
        let names: Vec<&str> = names.iter().map(Topic::as_str).collect();
        output::print_json(&json!({ "deleted": names }))?;
    }
    Ok(Exit::Done)
}
