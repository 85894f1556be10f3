//! How partitions stand: what is kept of them, and whether a place in them is still good.
//!
//! A read never says that something is missing: it jumps ahead over what was trimmed, and finds
//! nothing where the end was lost. The ids that interline gives count the events of a partition,
//! so that what is missing can be told, exactly.

use bytes::Bytes;
use fred::types::{Resp3Frame, Value};
use interline_core::{Error, ErrorKind, Partition, Position, Result, Start};

use crate::client::Link;
use crate::error::error;
use crate::reply::{self, bytes, list, number, odd, text};
use crate::scripts::STAND;
use crate::topics::Facts;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its id counts it.
    Dense,
    /// Another client gave it its id.
    Foreign,
    /// There is none.
    None,
}

/// How a partition stands against a place in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    first: Option<Position>,
    first_kind: Kind,
    /// The last id that was ever given.
    last: Position,
    /// The id of the last event that was counted.
    head: Position,
    /// What is at the place.
    at: Kind,
}

/// The second half of a place before every event of a time: no id ends so.
const BEFORE_ALL: u64 = u64::MAX;

/// The places of partitions, and the server's clock in milliseconds.
pub(crate) struct Stands {
    pub(crate) now: i64,
    pub(crate) stands: Vec<Stand>,
}

/// Asks how partitions stand against places in them.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) if the topic was deleted, and
/// [`PositionLost`](ErrorKind::PositionLost) if the server has lost all its data.
pub(crate) async fn ask(
    link: &Link,
    operation: &'static str,
    facts: &Facts,
    store: Bytes,
    places: &[(u32, Position)],
) -> Result<Stands> {
    let mut keys = vec![facts.key.clone(), store];
    let mut args = Vec::with_capacity(2 * places.len());
    for (index, place) in places {
        keys.push(
            facts
                .streams
                .get(*index as usize)
                .cloned()
                .unwrap_or_default(),
        );
        args.push(Value::Integer((*index).into()));
        args.push(reply::id(*place).into());
    }
    let answer = link.run(operation, &STAND, &keys, args).await?;
    let mut answer = list(answer).into_iter();
    let store = answer.next().and_then(text);
    let incarnation = answer.next().and_then(bytes);
    if incarnation.as_ref() != Some(&facts.incarnation) {
        return Err(gone(operation, facts, store.as_deref()));
    }
    let now = answer
        .next()
        .and_then(number)
        .ok_or_else(|| odd(operation))?;
    let stands: Option<Vec<Stand>> = answer.map(Stand::read).collect();
    match stands {
        Some(stands) if stands.len() == places.len() => Ok(Stands { now, stands }),
        _ => Err(odd(operation)),
    }
}

pub(crate) fn gone(operation: &'static str, facts: &Facts, store: Option<&str>) -> Error {
    let topic = &facts.topic;
    if store == Some(&facts.store) {
        return error(
            ErrorKind::NotFound,
            operation,
            format!("topic `{topic}` was deleted"),
            "create it again and subscribe anew",
        );
    }
    error(
        ErrorKind::PositionLost,
        operation,
        format!("the server has lost all its data, topic `{topic}` with it"),
        "find out why (FLUSHALL, another server, no AOF), then subscribe anew",
    )
}

impl Stand {
    fn read(frame: Resp3Frame) -> Option<Self> {
        let mut parts = list(frame).into_iter();
        let first = parts.next().and_then(bytes)?;
        let first_kind = kind(parts.next()?)?;
        let last = reply::position(&bytes(parts.next()?)?)?;
        let head = bytes(parts.next()?)?;
        Some(Self {
            first: reply::position(&first),
            first_kind,
            last,
            head: reply::position(&head).unwrap_or_default(),
            at: kind(parts.next()?)?,
        })
    }

    /// The place behind everything.
    pub(crate) fn end(&self) -> Position {
        self.last.max(self.head)
    }

    /// The place before everything that is kept.
    pub(crate) fn beginning(&self) -> Position {
        match self.first {
            Some(first) => before(first, self.first_kind),
            None => self.end(),
        }
    }

    /// The count of the event at `place`, if its id counts it.
    pub(crate) fn count_at(&self, place: Position) -> Option<u64> {
        match self.at {
            Kind::Foreign => None,
            Kind::Dense => Some(place.1),
            Kind::None => (place.1 != BEFORE_ALL).then_some(place.1),
        }
    }

    /// Whether there is nothing at `place`, though something could be.
    fn is_absent(&self, place: Position) -> bool {
        place.1 != BEFORE_ALL && self.at == Kind::None
    }

    /// Whether the end was lost with the event at `place`, and nothing came after it yet.
    pub(crate) fn lost_end(&self, facts: &Facts, place: Position) -> bool {
        let is_ahead = place > self.end() || (facts.is_dense && self.head.1 < place.1);
        self.is_absent(place) && is_ahead
    }

    /// Whether the event at `place` is lost though older ones are there.
    pub(crate) fn lost(&self, facts: &Facts, place: Position) -> bool {
        let is_kept = self.first.is_some_and(|first| first < place);
        let is_gap = facts.is_dense && is_kept && self.is_absent(place);
        is_gap || self.lost_end(facts, place)
    }

    /// Whether a reading can go on strictly after `place`.
    ///
    /// # Errors
    /// [`PositionLost`](ErrorKind::PositionLost) with the number of events that are missing.
    pub(crate) fn check(&self, facts: &Facts, index: u32, place: Position) -> Result<()> {
        let partition = facts.partition(index);
        if !self.is_absent(place) {
            return Ok(());
        }
        if self.lost_end(facts, place) {
            let end = if facts.is_dense {
                self.head
            } else {
                self.end()
            };
            return Err(ahead(&partition, place, end));
        }
        let first = self.first.filter(|first| *first > place);
        if !facts.is_dense {
            return match first {
                Some(first) if place != Position::default() => {
                    Err(perhaps_lost(&partition, place, first))
                }
                _ => Ok(()),
            };
        }
        // What is kept and not read yet begins with `first`, or there is nothing of the kind.
        let next = match (first, self.first_kind) {
            (Some(first), Kind::Dense) => first.1,
            (None, _) if self.first.is_none() => self.head.1 + 1,
            _ => return Ok(()),
        };
        match next - place.1 {
            0 | 1 => Ok(()),
            more => Err(missing(&partition, place, more - 1)),
        }
    }
}

fn kind(frame: Resp3Frame) -> Option<Kind> {
    match number::<i64>(frame)? {
        1 => Some(Kind::Dense),
        0 => Some(Kind::Foreign),
        _ => Some(Kind::None),
    }
}

/// The place right before an entry.
fn before(entry: Position, kind: Kind) -> Position {
    match (kind, entry.1.checked_sub(1)) {
        (Kind::Dense, Some(count)) => Position(entry.0, count),
        _ => before_time(entry.0),
    }
}

/// The place before everything of a millisecond or later.
fn before_time(millis: u64) -> Position {
    match millis.checked_sub(1) {
        Some(millis) => Position(millis, BEFORE_ALL),
        None => Position::default(),
    }
}

/// The places at which a reading of all partitions of a topic starts.
///
/// # Errors
/// As for [`ask`], and [`PositionLost`](ErrorKind::PositionLost) for a place that is not kept.
pub(crate) async fn start(
    link: &Link,
    operation: &'static str,
    facts: &Facts,
    store: Bytes,
    start: &Start,
) -> Result<Vec<Position>> {
    let named = |index: u32| match start {
        Start::At(places) => places
            .iter()
            .find(|(partition, _)| *partition == facts.partition(index))
            .map(|(_, place)| *place),
        _ => None,
    };
    let places: Vec<_> = (0..facts.partitions())
        .map(|index| (index, named(index).unwrap_or_default()))
        .collect();
    let Stands { now, stands } = ask(link, operation, facts, store, &places).await?;
    let mut starts = Vec::with_capacity(stands.len());
    for (index, stand) in (0..).zip(&stands) {
        starts.push(match (start, named(index)) {
            (Start::Latest, _) => stand.end(),
            (Start::Time(time), _) => {
                let millis = u64::try_from(time.unix_millis()).unwrap_or(0);
                let stream = &facts.streams[index as usize];
                match first_since(link, operation, stream, millis).await? {
                    Some((first, kind)) if facts.is_dense => before(first, kind),
                    Some(_) => before_time(millis),
                    None if time.unix_millis() > now => before_time(millis),
                    None => stand.end(),
                }
            }
            (_, Some(place)) => {
                stand.check(facts, index, place)?;
                place
            }
            _ => stand.beginning(),
        });
    }
    Ok(starts)
}

/// The first entry of a time or later.
async fn first_since(
    link: &Link,
    operation: &'static str,
    stream: &Bytes,
    millis: u64,
) -> Result<Option<(Position, Kind)>> {
    let args = vec![
        Value::Bytes(stream.clone()),
        format!("{millis}-0").into(),
        "+".into(),
        "COUNT".into(),
        Value::Integer(1),
    ];
    let found = list(link.call(operation, "XRANGE", args).await?);
    let Some(entry) = found.into_iter().next() else {
        return Ok(None);
    };
    let mut halves = list(entry).into_iter();
    let id = halves.next().and_then(bytes).unwrap_or_default();
    let position = reply::position(&id).ok_or_else(|| odd(operation))?;
    let field = halves
        .next()
        .and_then(|fields| list(fields).into_iter().next());
    let is_own = field.and_then(bytes).is_some_and(|name| &*name == b"ce");
    let kind = match is_own && position.1 > 0 {
        true => Kind::Dense,
        false => Kind::Foreign,
    };
    Ok(Some((position, kind)))
}

/// The last entry of a partition, or the last before a time.
pub(crate) async fn newest(
    link: &Link,
    operation: &'static str,
    stream: &Bytes,
    before_millis: Option<i64>,
) -> Result<Option<Position>> {
    let end = match before_millis {
        None => "+".to_owned(),
        Some(millis) => format!("({}-0", millis.max(0)),
    };
    let args = vec![
        Value::Bytes(stream.clone()),
        end.into(),
        "-".into(),
        "COUNT".into(),
        Value::Integer(1),
    ];
    let found = list(link.call(operation, "XREVRANGE", args).await?);
    let entry = found.into_iter().next().map(list);
    let id = entry
        .and_then(|entry| entry.into_iter().next())
        .and_then(bytes);
    Ok(id.and_then(|id| reply::position(&id)))
}

fn ahead(partition: &Partition, place: Position, end: Position) -> Error {
    lost(format!(
        "position {place} of {partition} is past its end {end}: {}",
        match place.1.checked_sub(end.1) {
            Some(count) if count > 0 && place.1 != BEFORE_ALL && end.0 > 0 =>
                format!("its last {count} events are lost"),
            _ => "no such event is there".to_owned(),
        }
    ))
}

/// An event was expected and a later one came.
pub(crate) fn missing(partition: &Partition, place: Position, count: u64) -> Error {
    lost(format!(
        "{count} events of {partition} after position {place} are not kept"
    ))
}

/// An event came whose count was given before.
pub(crate) fn went_back(partition: &Partition, place: Position, found: Position) -> Error {
    lost(format!(
        "{partition} went back from position {place} to {found}: its end was lost"
    ))
}

fn perhaps_lost(partition: &Partition, place: Position, first: Position) -> Error {
    lost(format!(
        "position {place} of {partition} is not kept, the first one is {first}; whether events \
         between them are lost cannot be told in a foreign stream"
    ))
}

fn lost(message: String) -> Error {
    error(
        ErrorKind::PositionLost,
        "read",
        message,
        "find out who trimmed it or what the server lost, then reset the group",
    )
}
