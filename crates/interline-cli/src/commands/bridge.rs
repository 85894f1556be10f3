//! `interline bridge`.

use std::time::Duration;

use clap::Args;
use interline::{Bus, Group, Instance, Pattern};

use crate::args::{Connection, require_topic, topic_pattern};
use crate::interrupt::Interrupt;
use crate::progress;
use crate::stop::{Exit, Stop};

/// How long what is on its way may take to arrive at the end.
const DRAIN: Duration = Duration::from_secs(30);

/// How often the count on the screen moves.
const GLANCE: Duration = Duration::from_millis(250);

/// Publish on one broker what another one holds, until interrupted
///
/// Topics keep their names, events their ids, attributes, headers and bytes; events of one key
/// arrive in their order. Several bridges of one group share the partitions. An event is settled
/// once the other broker has stored it: after a crash some are published again, with the same ids.
#[derive(Args, Debug)]
pub(crate) struct Bridge {
    #[command(flatten)]
    connection: Connection,
    /// The broker to publish on; better in the environment if it holds a password
    #[arg(
        long,
        env = "INTERLINE_TO_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    to: String,
    /// The topic, or a pattern such as `shop.**`
    #[arg(long, value_parser = topic_pattern)]
    topic: Pattern,
    /// The group whose progress the bridge keeps
    #[arg(long, default_value = "bridge")]
    group: Group,
    /// The name of this bridge among those of the group: one that is started again under its name
    /// goes on at once, others wait until the one that died has lost its lease
    #[arg(long, value_name = "NAME")]
    instance: Option<Instance>,
}

pub(crate) async fn run(args: Bridge, interrupt: &Interrupt) -> Result<Exit, Stop> {
    let from = args.connection.open().await?;
    require_topic(from.transport(), &args.topic).await?;
    let to = Bus::new(interline::connect(&args.to).await?);
    let mut group = from.group(&args.group).topics(args.topic.to_string());
    if let Some(instance) = args.instance {
        group = group.instance(instance);
    }
    let mut workers = group.bridge(&to).start().await?;
    let bar = progress::bar("bridged", None);
    let mut glance = tokio::time::interval(GLANCE);
    let ended = loop {
        tokio::select! {
            _ = glance.tick() => bar.set_position(workers.stats().handled),
            error = workers.failed() => break Err(Stop::from(error)),
            () = interrupt.requested() => break Ok(Exit::Done),
        }
    };
    let drained = workers.drain(DRAIN).await;
    bar.finish_and_clear();
    let closed = (from.close(DRAIN).await, to.close(DRAIN).await);
    let exit = ended?;
    drained?.into_result()?;
    closed.0?;
    closed.1?;
    Ok(exit)
}
