//! Making the consumer of a partition.

use std::sync::Arc;

use interline_core::{Error, ErrorKind, Partition, Position, Result, Timestamp};

use super::is_final;
use super::part::Cursor;
use crate::api::{Begin, ConsumerInfo, consumer};
use crate::error::{code, error};
use crate::hub::{Facts, Hub};
use crate::link::Session;

/// What a part wants to read.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) partition: Partition,
    pub(super) cursor: Cursor,
    /// Which stream it has read so far.
    pub(super) created: Option<String>,
}

/// A consumer that was made.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) facts: Arc<Facts>,
    /// How many records it will give that are there already.
    pub(super) pending: u64,
    /// The last message of the stream, before the consumer was made.
    pub(super) last: u64,
    /// The server's time, in milliseconds.
    pub(super) now: i64,
}

/// Why there is none.
pub(super) enum Failure {
    /// It is tried again.
    ForNow(Error),
    /// The topic is not there; perhaps not yet.
    Missing(Error),
    /// It ends the reading.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing(error),
            _ if is_final(&error) => Self::Final(error),
            _ => Self::ForNow(error),
        }
    }
}

pub(super) async fn open(
    hub: &Hub,
    session: &Session,
    operation: &'static str,
    wanted: Wanted,
    name: String,
) -> Result<Opened, Failure> {
    let topic = &wanted.partition.topic;
    let (facts, info) = hub.look(session, operation, topic).await?;
    let partition = &wanted.partition;
    let is_same = wanted.created.as_ref().is_none_or(|created| *created == info.created);
    if !is_same || partition.index >= facts.partitions {
        return Err(Failure::Final(error(
            ErrorKind::NotFound,
            operation,
            format!("topic `{topic}` was deleted, and another one made under its name"),
            "subscribe anew, and reset the groups that read the old one",
        )));
    }
    let (first, last) = (info.state.first_seq, info.state.last_seq);
    if let Cursor::After(after) = wanted.cursor {
        check_kept(operation, partition, after, first, last).map_err(Failure::Final)?;
    }
    let filter = facts.filter(partition.index).map(|subject| subject.as_str());
    let begin = match &wanted.cursor {
        Cursor::First => Begin::First,
        Cursor::After(after) => Begin::At(after + 1),
        Cursor::Time(time) => Begin::Time(time.clone()),
    };
    let made = make(session, operation, &facts.stream, &name, filter, &begin).await;
    let made = made.map_err(|failed| match failed {
        failed if failed.is(code::STREAM_NOT_FOUND) => {
            Failure::Missing(hub.missing_or(operation, topic, failed))
        }
        failed => failed.error(operation).into(),
    })?;
    Ok(Opened {
        name,
        pending: made.num_pending,
        last,
        now: server_time(&info.ts),
        facts,
    })
}

/// Makes a consumer.
pub(super) async fn make(
    session: &Session,
    operation: &'static str,
    stream: &str,
    name: &str,
    filter: Option<&str>,
    begin: &Begin,
) -> Result<ConsumerInfo, crate::api::Failed> {
    let mut what = format!("CONSUMER.CREATE.{stream}.{name}");
    if let Some(filter) = filter {
        what.push('.');
        what.push_str(filter);
    }
    session
        .ask(operation, &what, &consumer(stream, name, filter, begin))
        .await
}

/// A consumer that starts below what is kept silently starts at the first record, and one that
/// starts behind the end never gives what comes before: both are asked about here.
fn check_kept(
    operation: &'static str,
    partition: &Partition,
    after: u64,
    first: u64,
    last: u64,
) -> Result<()> {
    if after > last {
        return Err(position_lost(operation, partition, after, last));
    }
    if after + 1 < first {
        return Err(position_lost(operation, partition, after, first));
    }
    Ok(())
}

/// `from` is where the reading stands, `to` the nearest place that it could go on from.
pub(crate) fn position_lost(
    operation: &'static str,
    partition: &Partition,
    from: u64,
    to: u64,
) -> Error {
    let what = if from > to {
        format!("{partition} ends at {to}, before position {from}: its end was lost")
    } else {
        format!("{partition} begins at {to}, and events behind position {from} may be gone")
    };
    error(
        ErrorKind::PositionLost,
        operation,
        what,
        "reset the group to a place that is kept, or raise the retention",
    )
}

/// The server's time in milliseconds, or this machine's if it does not tell.
fn server_time(text: &str) -> i64 {
    let told = text.parse::<Timestamp>();
    told.unwrap_or_else(|_| Timestamp::now()).unix_millis()
}

/// The cursor behind a position.
pub(crate) fn from(after: Option<Position>) -> Cursor {
    match after {
        None => Cursor::First,
        // Positions of this transport have no high part: one that has is far behind the end.
        Some(Position(0, after)) => Cursor::After(after),
        Some(_) => Cursor::After(u64::MAX - 1),
    }
}
