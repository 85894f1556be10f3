//! What the handles of one connection share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use interline_core::{Pattern, Result, Topic, TopicSpec};
use tokio::time::Instant;

use crate::config::Config;
use crate::error;
use crate::store::{Bell, GroupStore, Limits, Store, TopicLog, lock};

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) store: Arc<Store>,
    pub(crate) config: Config,
    production: bool,
    closed: AtomicBool,
    memberships: Mutex<Vec<Weak<Membership>>>,
    bells: Mutex<Vec<Weak<Bell>>>,
}

impl Link {
    pub(crate) fn new(store: Arc<Store>, config: Config, production: bool) -> Arc<Self> {
        Arc::new(Self {
            store,
            config,
            production,
            closed: AtomicBool::new(false),
            memberships: Mutex::default(),
            bells: Mutex::default(),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed() {
            return Err(error::closed(operation));
        }
        Ok(())
    }

    /// Ends every handle of this connection and wakes whoever waits in one.
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        for membership in std::mem::take(&mut *lock(&self.memberships)) {
            if let Some(membership) = membership.upgrade() {
                membership.close();
            }
        }
        for bell in std::mem::take(&mut *lock(&self.bells)) {
            if let Some(bell) = bell.upgrade() {
                bell.ring();
            }
        }
        for log in self.store.topics() {
            log.room().notify_waiters();
        }
    }

    /// A bell that closing rings too.
    pub(crate) fn bell(&self) -> Arc<Bell> {
        let bell = Arc::new(Bell::default());
        let mut bells = lock(&self.bells);
        bells.retain(|known| known.strong_count() > 0);
        bells.push(Arc::downgrade(&bell));
        bell
    }

    pub(crate) fn membership(&self, group: Arc<GroupStore>, id: u64) -> Arc<Membership> {
        let membership = Arc::new(Membership { group, id });
        let mut memberships = lock(&self.memberships);
        memberships.retain(|known| known.strong_count() > 0);
        memberships.push(Arc::downgrade(&membership));
        membership
    }

    /// The topic; in development it is made if it is missing.
    pub(crate) fn topic(&self, operation: &'static str, topic: &Topic) -> Result<Arc<TopicLog>> {
        match self.store.topic(topic) {
            Some(log) => Ok(log),
            None if self.production => Err(error::missing_topic(operation, topic.as_str())),
            None => {
                let spec = TopicSpec::new(topic.clone());
                Ok(self.store.create(topic, || self.limits(&spec)).0)
            }
        }
    }

    /// The topics that `patterns` name outright, made if they are missing and may be.
    pub(crate) fn named(&self, operation: &'static str, patterns: &[Pattern]) -> Result<()> {
        for name in patterns.iter().filter_map(Pattern::as_exact) {
            self.topic(operation, &Topic::system(name)?)?;
        }
        Ok(())
    }

    pub(crate) fn limits(&self, spec: &TopicSpec) -> Limits {
        let config = &self.config;
        Limits {
            partitions: spec.partitions.unwrap_or(config.partitions),
            capacity: config.capacity,
            capacity_bytes: config.capacity_bytes,
            history: config.history,
            history_bytes: config.history_bytes,
            retention: spec.retention.unwrap_or(config.retention),
        }
    }
}

/// A member's place, shared by its feed and its control. When both are gone without a close, the
/// member has died and its lease runs out.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) group: Arc<GroupStore>,
    pub(crate) id: u64,
}

impl Membership {
    pub(crate) fn close(&self) {
        self.group.close(self.id, Instant::now());
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.group.dropped(self.id);
    }
}
