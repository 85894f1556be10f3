//! Where a group begins in a topic.

use interline_core::{ErrorKind, Group, Result, Start, Topic};

use super::bucket::{self, write};
use super::keys::Keys;
use super::row::Beginning;
use crate::api::{Begin, StreamInfo};
use crate::error::{code, error};
use crate::hub::{Facts, Hub};
use crate::link::Session;
use crate::reading;

/// Makes a group known on a topic, unless it is. One key holds where it begins in all partitions,
/// so that of two that begin at a time one counts for all.
pub(super) async fn begin(
    hub: &Hub,
    keys: &Keys,
    group: &Group,
    topic: &Topic,
    start: &Start,
) -> Result<()> {
    let session = hub.leases().session("subscribe").await?;
    bucket::require(hub, &session, "subscribe").await?;
    let (facts, info) = hub.look(&session, "subscribe", topic).await?;
    if let Some((_, known)) = keys.beginning(&session, "subscribe").await? {
        return check_same(&known, &info, group, topic);
    }
    let after = positions(&session, "subscribe", &facts, &info, topic, start).await?;
    let beginning = Beginning::new(info.created, after);
    let subject = keys.start_subject();
    match write(&session, "subscribe", subject, beginning.text(), 0).await {
        Err(failed) if !failed.is(code::WRONG_LAST_SEQUENCE) => Err(failed.error("subscribe")),
        _ => Ok(()),
    }
}

/// A stream that was deleted and made anew counts from 1 again: what is stored about the old one
/// would skip events of the new one.
fn check_same(known: &Beginning, info: &StreamInfo, group: &Group, topic: &Topic) -> Result<()> {
    if known.stream == info.created {
        return Ok(());
    }
    Err(error(
        ErrorKind::PositionLost,
        "subscribe",
        format!("topic `{topic}` was deleted and made anew since group `{group}` read it"),
        "reset the group, or delete it",
    ))
}

/// The position before the first event of each partition.
pub(crate) async fn positions(
    session: &Session,
    operation: &'static str,
    facts: &Facts,
    info: &StreamInfo,
    topic: &Topic,
    start: &Start,
) -> Result<Vec<u64>> {
    let count = facts.partitions as usize;
    let (first, last) = (info.state.first_seq, info.state.last_seq);
    match start {
        // What is gone already is not missed later.
        Start::Earliest => Ok(vec![first.saturating_sub(1); count]),
        Start::Latest => Ok(vec![last; count]),
        Start::Time(time) => {
            let begin = Begin::Time(time.to_string());
            let after = reading::before(session, operation, facts, &begin).await?;
            Ok(vec![after; count])
        }
        Start::At(positions) => {
            let mut after = vec![first.saturating_sub(1); count];
            for (partition, position) in positions.iter().filter(|(p, _)| p.topic == *topic) {
                let Some(slot) = after.get_mut(partition.index as usize) else {
                    continue;
                };
                *slot = reading::sequence(Some(*position));
                reading::check_kept(operation, partition, *slot, *slot, &info.state)?;
            }
            Ok(after)
        }
    }
}
