//! `interline groups`.

use clap::{Args, Subcommand};
use interline::core::{GroupInfo, PartitionLag};
use interline::{Admin as _, Bus, Error, ErrorKind, Group, Topic};
use serde_json::{Value, json};

use crate::args::Connection;
use crate::output;
use crate::place::Place;
use crate::stop::{Exit, Stop};
use crate::table::Table;

/// Show how far groups have come, and move them
///
/// Without a word it lists them all.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Groups {
    #[command(flatten)]
    connection: Option<Connection>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the groups with their members and lag
    List {
        #[command(flatten)]
        connection: Connection,
        /// Only groups that read this topic
        #[arg(long)]
        topic: Option<Topic>,
    },
    /// Show a group partition by partition
    Show {
        #[command(flatten)]
        connection: Connection,
        /// The group
        group: Group,
    },
    /// Move a group without live members to another place in a topic
    Reset {
        #[command(flatten)]
        connection: Connection,
        /// The group
        group: Group,
        /// The topic
        #[arg(long)]
        topic: Topic,
        /// Where to: earliest, latest, a time as 2018-04-05T17:31:00Z, or behind
        /// partition:position,..
        #[arg(long, value_name = "PLACE")]
        to: Place,
        /// Move without a question
        #[arg(long)]
        yes: bool,
    },
    /// Delete a group without live members, with its checkpoints
    Delete {
        #[command(flatten)]
        connection: Connection,
        /// The group
        group: Group,
        /// Delete without a question
        #[arg(long)]
        yes: bool,
    },
}

impl Action {
    fn all(connection: Option<Connection>) -> Result<Self, Stop> {
        Ok(Self::List {
            connection: connection.ok_or_else(Connection::missing)?,
            topic: None,
        })
    }
}

pub(crate) async fn run(args: Groups, json: bool) -> Result<Exit, Stop> {
    let action = args
        .action
        .map_or_else(|| Action::all(args.connection), Ok)?;
    match action {
        Action::List { connection, topic } => {
            let bus = connection.open().await?;
            list(&bus.admin().groups(topic.as_ref()).await?, json)
        }
        Action::Show { connection, group } => {
            show(&find(&connection.open().await?, &group).await?, json)
        }
        Action::Reset {
            connection,
            group,
            topic,
            to,
            yes,
        } => {
            let bus = connection.open().await?;
            find(&bus, &group).await?;
            ask(yes, &format!("`{group}` would be moved in `{topic}`"))?;
            bus.admin()
                .reset(&group, &topic, to.start(Some(&topic))?)
                .await?;
            done(json, &group, "moved")
        }
        Action::Delete {
            connection,
            group,
            yes,
        } => {
            let bus = connection.open().await?;
            find(&bus, &group).await?;
            ask(
                yes,
                &format!("`{group}` would be deleted with its checkpoints"),
            )?;
            bus.admin().delete_group(&group).await?;
            done(json, &group, "deleted")
        }
    }
}

fn ask(yes: bool, what: &str) -> Result<(), Stop> {
    match yes {
        true => Ok(()),
        false => Err(Stop::new(
            Exit::Usage,
            format!("{what}; add --yes to do it"),
        )),
    }
}

fn done(json: bool, group: &Group, state: &str) -> Result<Exit, Stop> {
    match json {
        true => output::print_json(&json!({ "group": group.as_str(), "state": state }))?,
        false => output::print(&format!("{group} {state}\n"))?,
    }
    Ok(Exit::Done)
}

async fn find(bus: &Bus, group: &Group) -> Result<GroupInfo, Stop> {
    let groups = bus.admin().groups(None).await?;
    let found = groups.into_iter().find(|info| info.group == *group);
    found.ok_or_else(|| {
        let missing = format!("there is no group `{group}`");
        Error::new(ErrorKind::NotFound, "find", missing)
            .on(bus.capabilities().transport)
            .remedy("list them with `interline groups list`")
            .into()
    })
}

fn list(groups: &[GroupInfo], json: bool) -> Result<Exit, Stop> {
    if json {
        let groups: Vec<Value> = groups.iter().map(as_json).collect();
        output::print_json(&groups)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["group", "members", "topic", "partitions", "lag", "accuracy"]);
    for info in groups {
        for (topic, lags) in by_topic(info) {
            table.row(&[
                info.group.to_string(),
                info.members.to_string(),
                topic.to_string(),
                lags.len().to_string(),
                sum(&lags).map_or("?".to_owned(), |lag| lag.to_string()),
                lags[0].accuracy.to_string(),
            ]);
        }
    }
    output::print(&table.to_string())?;
    Ok(Exit::Done)
}

fn show(info: &GroupInfo, json: bool) -> Result<Exit, Stop> {
    if json {
        output::print_json(&as_json(info))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["partition", "frontier", "end", "lag", "accuracy", "owner"]);
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for lag in &info.partitions {
        table.row(&[
            lag.partition.to_string(),
            text(lag.frontier.map(|position| position.to_string())),
            text(lag.end.map(|position| position.to_string())),
            text(lag.lag.map(|lag| lag.to_string())),
            lag.accuracy.to_string(),
            text(lag.owner.clone()),
        ]);
    }
    output::print(&format!(
        "group {}, {} members\n{table}",
        info.group, info.members
    ))?;
    Ok(Exit::Done)
}

/// The partitions of each topic; they come sorted.
fn by_topic(info: &GroupInfo) -> Vec<(&Topic, Vec<&PartitionLag>)> {
    let mut topics: Vec<(&Topic, Vec<&PartitionLag>)> = Vec::new();
    for lag in &info.partitions {
        match topics.last_mut() {
            Some((topic, lags)) if **topic == lag.partition.topic => lags.push(lag),
            _ => topics.push((&lag.partition.topic, vec![lag])),
        }
    }
    topics
}

fn sum(lags: &[&PartitionLag]) -> Option<u64> {
    lags.iter().map(|lag| lag.lag).sum()
}

fn as_json(info: &GroupInfo) -> Value {
    let partitions = info.partitions.iter().map(|lag| {
        json!({
            "topic": lag.partition.topic.as_str(),
            "partition": lag.partition.index,
            "frontier": lag.frontier.map(|position| position.to_string()),
            "end": lag.end.map(|position| position.to_string()),
            "lag": lag.lag,
            "accuracy": lag.accuracy.to_string(),
            "owner": lag.owner,
        })
    });
    json!({
        "group": info.group.as_str(),
        "members": info.members,
        "lag": sum(&info.partitions.iter().collect::<Vec<_>>()),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}
