//! The control of a member.

use std::sync::Arc;

use interline_core::{Group, Result, SubscribeSpec, Topic};
use interline_transport::lease::{self, Leased, Timing};

use crate::SCHEME;
use crate::feed::Source;
use crate::link::Link;
use crate::store::Store;

/// What a member tells its group; see [`interline_core::Control`].
///
/// A checkpoint is stored under member and fence in one transaction, and is on disk when it is
/// applied.
pub type Control = lease::Control;

/// Where groups keep what is theirs, and how they read.
#[derive(Debug)]
pub(crate) struct Groups {
    link: Arc<Link>,
    group: Group,
    timing: Timing,
}

impl Groups {
    pub(crate) fn new(link: Arc<Link>, group: Group, timing: Timing) -> Self {
        Self {
            link,
            group,
            timing,
        }
    }
}

impl Leased for Groups {
    type Store = Store;
    type Source = Source;

    fn scheme(&self) -> &'static str {
        SCHEME
    }

    async fn topics(&self, spec: &SubscribeSpec) -> Result<Vec<Topic>> {
        let link = &self.link;
        let listing = link.ask("subscribe", async |client| {
            link.topics
                .refresh("subscribe", &link.resolved, client)
                .await
        });
        let listed = listing.await?;
        let covered = listed.keys().filter(|topic| spec.covers(topic));
        Ok(covered.cloned().collect())
    }

    fn store(&self, group: &Group, topic: &Topic) -> Store {
        Store::new(
            Arc::clone(&self.link),
            group.clone(),
            topic.clone(),
            self.timing,
        )
    }

    fn source(&self) -> Source {
        Source::new(Arc::clone(&self.link), &self.group)
    }
}
