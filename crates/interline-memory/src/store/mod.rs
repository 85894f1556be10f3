//! What is kept: topics, groups and who owns what.
//!
//! Locks are taken in one order: the lists of the store, then a group, then a topic. None is held
//! across an await.

mod bell;
mod clock;
mod dedupe;
mod group;
mod log;
mod member;
mod ownership;
mod signal;
mod state;
mod topic;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

use interline_core::{Fence, Group, Topic};
use tokio::time::Instant;

pub(crate) use self::bell::Bell;
pub(crate) use self::clock::Clock;
pub(crate) use self::dedupe::GENERATION;
pub(crate) use self::group::{GroupStore, Step};
pub(crate) use self::topic::{Limits, Raw, TopicLog};

/// The memory that handles of one name share.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) clock: Clock,
    topics: RwLock<BTreeMap<Topic, Arc<TopicLog>>>,
    groups: Mutex<BTreeMap<Group, Arc<GroupStore>>>,
    /// Grows with every assignment of the whole store, so that no fence ever comes twice, not
    /// even when a topic is deleted and made again.
    fences: AtomicU64,
}

static NAMED: LazyLock<Mutex<HashMap<String, Arc<Store>>>> = LazyLock::new(Mutex::default);

impl Store {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::new(),
            topics: RwLock::default(),
            groups: Mutex::default(),
            fences: AtomicU64::new(0),
        })
    }

    /// The store of this name. It stays for the life of the process, so that an application can
    /// close and connect again; [`forget`](Self::forget) ends it.
    pub(crate) fn named(name: String) -> Arc<Self> {
        let mut named = lock(&NAMED);
        Arc::clone(named.entry(name).or_insert_with(Self::new))
    }

    pub(crate) fn forget(name: &str) {
        lock(&NAMED).remove(name);
    }

    pub(crate) fn next_fence(&self) -> Fence {
        self.fences.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn topic(&self, topic: &Topic) -> Option<Arc<TopicLog>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(topic).cloned()
    }

    pub(crate) fn topics(&self) -> Vec<Arc<TopicLog>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().cloned().collect()
    }

    /// The topic, made with `limits` if it is missing, and whether it was.
    pub(crate) fn create(
        self: &Arc<Self>,
        topic: &Topic,
        limits: impl FnOnce() -> Limits,
    ) -> (Arc<TopicLog>, bool) {
        if let Some(known) = self.topic(topic) {
            return (known, false);
        }
        let (log, made) = {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            let mut made = false;
            let log = topics.entry(topic.clone()).or_insert_with(|| {
                made = true;
                Arc::new(TopicLog::new(topic.clone(), limits()))
            });
            (Arc::clone(log), made)
        };
        if made {
            for group in self.groups() {
                group.topic_appeared(&log, Instant::now());
            }
        }
        (log, made)
    }

    pub(crate) fn delete(&self, topic: &Topic) {
        let gone = {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            topics.remove(topic)
        };
        if let Some(log) = gone {
            for group in self.groups() {
                group.topic_deleted(topic, Instant::now());
            }
            log.delete();
        }
    }

    pub(crate) fn group(&self, group: &Group) -> Option<Arc<GroupStore>> {
        lock(&self.groups).get(group).cloned()
    }

    pub(crate) fn groups(&self) -> Vec<Arc<GroupStore>> {
        lock(&self.groups).values().cloned().collect()
    }

    pub(crate) fn group_or_new(self: &Arc<Self>, group: &Group) -> Arc<GroupStore> {
        let mut groups = lock(&self.groups);
        let made = || Arc::new(GroupStore::new(self, group.clone()));
        Arc::clone(groups.entry(group.clone()).or_insert_with(made))
    }

    pub(crate) fn remove_group(&self, group: &Group) {
        lock(&self.groups).remove(group);
    }

    /// Frees the room that groups hold which had no member for as long as events are kept.
    pub(crate) fn expire_groups(&self, now: Instant) {
        for group in self.groups() {
            group.expire(now);
        }
    }
}

/// A panic of another thread cannot have left the data half changed in a way that matters more
/// than going on does: every change is completed before anything that could panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
