//! Comparing positions with what the server keeps.

use std::sync::Arc;

use futures_util::future::try_join_all;
use interline_core::{ErrorKind, Position, Result, Topic};

use super::part::Part;
use crate::client::Link;
use crate::error::error;
use crate::server::Server;
use crate::stand::{self, Stand};
use crate::topics::Facts;

/// The parts of one topic that are compared.
pub(super) struct Asked {
    topic: Topic,
    facts: Option<Arc<Facts>>,
    ids: Vec<u64>,
    places: Vec<(u32, Position)>,
}

/// What was found in one topic.
pub(super) struct Compared {
    pub(super) facts: Arc<Facts>,
    pub(super) stands: Vec<(u64, Stand)>,
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
                ids: Vec::new(),
                places: Vec::new(),
            });
            all.len() - 1
        });
        let asked = &mut all[at];
        // What a part was opened with counts: the topic may have been made anew since.
        asked.facts = asked.facts.take().or_else(|| part.facts.clone());
        asked.ids.push(part.id);
        asked.places.push((part.partition.index, part.position));
    }
    all
}

/// Asks the server.
///
/// # Errors
/// As for [`stand::ask`].
pub(super) async fn ask(server: &Server, link: &Link, all: Vec<Asked>) -> Result<Vec<Compared>> {
    try_join_all(all.into_iter().map(|asked| ask_topic(server, link, asked))).await
}

async fn ask_topic(server: &Server, link: &Link, asked: Asked) -> Result<Compared> {
    let facts = match asked.facts {
        Some(facts) => facts,
        None => facts(server, &asked.topic).await?,
    };
    let store = server.resolved.keys.store();
    let found = stand::ask(link, "read", &facts, store, &asked.places).await?;
    Ok(Compared {
        stands: asked.ids.into_iter().zip(found.stands).collect(),
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
