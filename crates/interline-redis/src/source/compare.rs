//! Comparing positions with what the server keeps.

use std::sync::Arc;

use futures_util::future::try_join_all;
use interline_core::{ErrorKind, Fence, Group, Position, Result, Topic};

use super::part::{Begin, Part};
use crate::client::Link;
use crate::error::error;
use crate::leases::GroupStore;
use crate::server::Server;
use crate::stand::{self, Stand};
use crate::topics::Facts;

/// The parts of one topic that are compared.
pub(super) struct Asked {
    topic: Topic,
    facts: Option<Arc<Facts>>,
    parts: Vec<About>,
}

/// What is asked about a part.
struct About {
    id: u64,
    index: u32,
    fence: Fence,
    place: Position,
    begin: Begin,
}

/// What was found in one topic.
pub(super) struct Compared {
    pub(super) facts: Arc<Facts>,
    pub(super) stands: Vec<(u64, Stand)>,
    /// Parts whose end the server has lost, given up so that they are read again from their
    /// checkpoints.
    pub(super) given_up: Vec<u64>,
}

/// What to ask about `parts`.
pub(super) fn about(parts: &[Part]) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    for part in parts {
        let topic = &part.partition.topic;
        let at = all.iter().position(|asked| asked.topic == *topic);
        let at = at.unwrap_or_else(|| {
            all.push(Asked {
                topic: topic.clone(),
                facts: None,
                parts: Vec::new(),
            });
            all.len() - 1
        });
        let asked = &mut all[at];
        // What a part was opened with counts: the topic may have been made anew since.
        asked.facts = asked.facts.take().or_else(|| part.facts.clone());
        asked.parts.push(About {
            id: part.id,
            index: part.partition.index,
            fence: part.fence,
            place: match part.begin {
                Begin::Lost => part.last,
                _ => part.position,
            },
            begin: part.begin,
        });
    }
    all
}

/// Asks the server. For a group it gives up the partitions whose end was lost.
///
/// # Errors
/// As for [`stand::ask`].
pub(super) async fn ask(
    server: &Arc<Server>,
    link: &Link,
    group: Option<&Group>,
    all: Vec<Asked>,
) -> Result<Vec<Compared>> {
    let each = |asked| ask_topic(server, link, group, asked);
    try_join_all(all.into_iter().map(each)).await
}

async fn ask_topic(
    server: &Arc<Server>,
    link: &Link,
    group: Option<&Group>,
    asked: Asked,
) -> Result<Compared> {
    let facts = match asked.facts {
        Some(facts) => facts,
        None => facts(server, &asked.topic).await?,
    };
    let store = server.resolved.keys.store();
    let places: Vec<_> = asked.parts.iter().map(|p| (p.index, p.place)).collect();
    let found = stand::ask(link, "read", &facts, store, &places).await?;
    let lost = asked.parts.iter().zip(&found.stands);
    let lost = lost.filter(|(part, stand)| match part.begin {
        Begin::Lost => true,
        Begin::Done => stand.lost_end(&facts, part.place),
        // The checkpoint itself is lost, and nothing is gained by reading from there.
        Begin::First | Begin::After => false,
    });
    let lost: Vec<&About> = lost.map(|(part, _)| part).collect();
    let given_up = match group {
        Some(group) if !lost.is_empty() => {
            let store = GroupStore::new(Arc::clone(server), group, &asked.topic);
            let places = lost.iter().map(|p| (p.index, p.fence, p.place)).collect();
            let freed = store.free(places).await?;
            let freed = lost.iter().zip(freed).filter(|(_, freed)| *freed);
            freed.map(|(part, _)| part.id).collect()
        }
        _ => Vec::new(),
    };
    let ids = asked.parts.iter().map(|part| part.id);
    Ok(Compared {
        stands: ids.zip(found.stands).collect(),
        given_up,
        facts,
    })
}

async fn facts(server: &Server, topic: &Topic) -> Result<Arc<Facts>> {
    server.ask("read", topic).await?.ok_or_else(|| {
        error(
            ErrorKind::NotFound,
            "read",
            format!("topic `{topic}` does not exist"),
            "create it and subscribe anew",
        )
    })
}
