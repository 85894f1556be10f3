//! Making the consumer of a partition.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use interline_core::{Error, ErrorKind, Partition, Position, Result, Timestamp, planted};
use serde_json::json;
use tokio::task::unconstrained;

use super::is_final;
use super::part::Cursor;
use crate::api::{Begin, ConsumerInfo, StoredMessage, StreamState, consumer};
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
    /// The connection broke again and again at this place: the next message may be one that the
    /// client cannot read.
    pub(super) is_careful: bool,
}

/// What came of an opening.
pub(super) enum Opening {
    /// A consumer.
    Consumer(Opened),
    /// The next message as it is stored, or nothing if there is none. There is no consumer yet.
    Message(Option<Raw>),
}

/// A message as it is stored.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) sequence: u64,
    pub(super) stored_at: i64,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Bytes,
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
    /// How long the stream keeps a record; zero is for ever.
    pub(super) max_age: Duration,
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
) -> Result<Opening, Failure> {
    let topic = &wanted.partition.topic;
    let (facts, info) = hub.look(session, operation, topic).await?;
    let partition = &wanted.partition;
    let is_same = wanted
        .created
        .as_ref()
        .is_none_or(|created| *created == info.created);
    if !is_same || partition.index >= facts.partitions {
        return Err(Failure::Final(error(
            ErrorKind::NotFound,
            operation,
            format!("topic `{topic}` was deleted, and another one made under its name"),
            "subscribe anew, and reset the groups that read the old one",
        )));
    }
    if let Cursor::After { after, seen } = wanted.cursor {
        check_kept(operation, partition, after, seen, &info.state).map_err(Failure::Final)?;
    }
    let filter = facts
        .filter(partition.index)
        .map(|subject| subject.as_str());
    if wanted.is_careful {
        let next = wanted.cursor.after() + 1;
        let raw = raw(session, operation, &facts.stream, filter, next).await?;
        return Ok(Opening::Message(raw));
    }
    let begin = match &wanted.cursor {
        Cursor::First => Begin::First,
        Cursor::After { after, .. } if *after > 0 && planted::is("cursor-one-too-far") => {
            Begin::At(after + 2)
        }
        Cursor::After { after, .. } => Begin::At(after + 1),
        Cursor::Time(time) => Begin::Time(time.clone()),
    };
    let made = make(session, operation, &facts.stream, &name, filter, &begin).await;
    let made = made.map_err(|failed| match failed {
        failed if failed.is(code::STREAM_NOT_FOUND) => {
            Failure::Missing(hub.missing_or(operation, topic, failed))
        }
        failed => failed.error(operation).into(),
    })?;
    Ok(Opening::Consumer(Opened {
        name,
        pending: made.num_pending,
        last: info.state.last_seq,
        max_age: Duration::from_nanos(info.config.max_age),
        now: server_time(&info.ts),
        facts,
    }))
}

/// The first message at or behind a sequence, which comes as text and so can be read whatever it
/// holds.
async fn raw(
    session: &Session,
    operation: &'static str,
    stream: &str,
    filter: Option<&str>,
    sequence: u64,
) -> Result<Option<Raw>> {
    let body = json!({ "seq": sequence, "next_by_subj": filter.unwrap_or(">") });
    let what = format!("STREAM.MSG.GET.{stream}");
    let message = match session.ask::<StoredMessage>(operation, &what, &body).await {
        Ok(StoredMessage { message }) => message,
        Err(failed) if failed.is(code::NO_MESSAGE) => return Ok(None),
        Err(failed) => return Err(failed.error(operation)),
    };
    Ok(Some(Raw {
        sequence: message.seq,
        stored_at: server_time(&message.time),
        headers: message.headers(),
        payload: message.payload().into(),
    }))
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
pub(crate) fn check_kept(
    operation: &'static str,
    partition: &Partition,
    after: u64,
    seen: u64,
    state: &StreamState,
) -> Result<()> {
    let (first, last) = (state.first_seq, state.last_seq);
    if after > last {
        return Err(position_lost(operation, partition, after, last));
    }
    if after.max(seen) + 1 < first {
        return Err(position_lost(operation, partition, after, first));
    }
    Ok(())
}

/// `from` is where the reading stands, `to` the nearest place that it could go on from.
fn position_lost(operation: &'static str, partition: &Partition, from: u64, to: u64) -> Error {
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

/// The sequence of a position, 0 of none.
pub(crate) fn sequence(position: Option<Position>) -> u64 {
    match position {
        None => 0,
        Some(Position(0, sequence)) => sequence,
        // Positions of this transport have no high part: one that has is far behind the end.
        Some(_) => u64::MAX - 1,
    }
}

/// The last sequence before what `begin` names, 0 if there is none: a consumer that begins there
/// is asked where it stands.
pub(crate) async fn before(
    session: &Session,
    operation: &'static str,
    facts: &Facts,
    begin: &Begin,
) -> Result<u64> {
    let made = ask_consumer(session, operation, facts, None, begin).await?;
    Ok(made.delivered.stream_seq)
}

/// Tells the server that a consumer is not needed any more. Best effort: it notices by itself.
pub(super) fn drop_consumer(session: &Session, stream: &str, name: &str) {
    let subject = format!("$JS.API.CONSUMER.DELETE.{stream}.{name}");
    // There is always room in the client.
    let _ = unconstrained(session.client.publish(subject, Bytes::new())).now_or_never();
}

/// How many records of a partition there are from `begin` on, and the last sequence before it.
pub(crate) async fn pending(
    session: &Session,
    operation: &'static str,
    facts: &Facts,
    partition: u32,
    begin: Begin,
) -> Result<(u64, u64)> {
    let filter = facts.filter(partition).map(|subject| subject.as_str());
    let made = ask_consumer(session, operation, facts, filter, &begin).await?;
    Ok((made.num_pending, made.delivered.stream_seq))
}

/// Makes a consumer for what its making tells.
async fn ask_consumer(
    session: &Session,
    operation: &'static str,
    facts: &Facts,
    filter: Option<&str>,
    begin: &Begin,
) -> Result<ConsumerInfo> {
    let random = std::iter::repeat_with(fastrand::alphanumeric).take(16);
    let name = format!("interline-{}", random.collect::<String>());
    let made = make(session, operation, &facts.stream, &name, filter, begin).await;
    let made = made.map_err(|failed| failed.error(operation))?;
    drop_consumer(session, &facts.stream, &name);
    Ok(made)
}
